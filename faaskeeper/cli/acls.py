"""ACLs in text form: comma-separated ``scheme:id:permissions``, as in zkCli."""

from __future__ import annotations

import click

from faaskeeper.core.acl import ADMIN, CREATE, DELETE, READ, WRITE
from faaskeeper.core.znode import Acl

_LETTERS = {"c": CREATE, "d": DELETE, "r": READ, "w": WRITE, "a": ADMIN}


def parse(text: str) -> list[Acl]:
    """Parse a text such as ``world:anyone:r,digest:user:hash:cdrwa``."""
    entries: list[Acl] = []
    for entry in text.split(","):
        scheme, _, rest = entry.partition(":")
        id, _, letters = rest.rpartition(":")
        if not scheme or not letters or not set(letters) <= set(_LETTERS):
            raise click.UsageError(
                f"{entry!r} is not an ACL entry: write SCHEME:ID:PERMISSIONS, with letters of cdrwa"
            )
        entries.append((sum(_LETTERS[letter] for letter in set(letters)), scheme, id))
    return entries


def show(entry: Acl) -> str:
    """Format an entry such that :func:`parse` can read it."""
    permissions, scheme, id = entry
    letters = "".join(letter for letter, permission in _LETTERS.items() if permissions & permission)
    return f"{scheme}:{id}:{letters}"
