"""``getAcl``, ``setAcl``."""

from __future__ import annotations

import click

from faaskeeper.cli import acls
from faaskeeper.cli.arguments import text_of
from faaskeeper.cli.context import Context
from faaskeeper.cli.options import VERSION, as_json, command, path


@command("getAcl")
@path
@as_json
def get_acl(context: Context, path: str, as_json: bool) -> None:
    """Print a node's ACL, one entry per line."""
    entries, _ = context.call(context.reads().get_acls, path)
    if as_json:
        context.print_json([list(entry) for entry in entries])
        return
    for entry in entries:
        context.print_line(acls.show(entry))


@command("setAcl")
@path
@click.argument("acl")
@click.option(
    "-v", "--version", "version", type=VERSION, default=-1, help="Require this ACL version (aversion)."
)
@as_json
def set_acl(context: Context, path: str, acl: str, version: int, as_json: bool) -> None:
    """Replace a node's ACL.

    ACL is SCHEME:ID:PERMISSIONS[,...]; permissions are letters of cdrwa: create, delete, read,
    write, admin.

    \b
    Examples:
      setAcl /app world:anyone:r
      setAcl /app auth::cdrwa
    """
    entries = acls.parse(text_of(acl))
    node = context.call(context.client.set_acls, path, entries, version)
    context.say(as_json, node.serialize(), f"Set the ACL of {path}, version {node.stat.aversion}")
