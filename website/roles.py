"""Shows the roles of docstrings (``:class:`X```) as code: for mkdocstrings, whose reader is Griffe."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:class|func|meth|mod|data|attr|exc):`~?!?([^`]+)`")


def plain(text: str) -> str:
    """A docstring with each role as a span of code."""
    return _ROLE.sub(lambda found: f"`{found[1].removeprefix('faaskeeper.')}`", text)


class Roles(griffe.Extension):
    """Changes each docstring as it is read."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change an object's docstring."""
        if obj.docstring is not None:
            obj.docstring.value = plain(obj.docstring.value)
