"""The directory of an embedded service."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from faaskeeper.core.errors import Denied

if TYPE_CHECKING:
    from faaskeeper.config import Config


def directory_of(config: Config) -> str:
    """The directory of a configuration: as set, or by name in the user's data directory (XDG).

    The path is absolute, with one separator between two names.
    """
    if config.directory:
        return _absolute(config.directory)
    from urllib.parse import quote

    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return _absolute(f"{data}/faaskeeper/{quote(config.deployment_name, safe=' ')}")


def _absolute(path: str) -> str:
    """A path as :meth:`pathlib.Path.absolute` has it, whose import takes longer than a read."""
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        raise Denied(f"cannot resolve {path}: whose home it is, is not known; give a directory without ~")
    whole = os.path.join(os.getcwd(), expanded)
    return "/" + "/".join(name for name in whole.split("/") if name not in ("", "."))
