"""Atomic replacement of files."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


def check_writable(path: Path) -> None:
    """Raise OSError unless a file can be put in place of ``path``; leaves what is there."""
    try:
        with tempfile.NamedTemporaryFile(dir=path.resolve().parent, prefix=".fk-"):
            pass
    except OSError as error:
        error.filename = str(path)
        raise


@contextmanager
def replacing(path: Path) -> Iterator[IO[str]]:
    """Open a text file that replaces ``path`` when the block ends; an exception keeps the old file.

    A symbolic link stays a link. Devices and pipes are written directly. Raises OSError.
    """
    path = path.resolve()
    before = path.stat() if path.exists() else None
    special = before is not None and not stat.S_ISREG(before.st_mode)
    new = path if special else path.with_name(f".fk-{os.getpid()}.new")
    try:
        with open(new, "w", encoding="utf-8") as file:
            if before is not None and not special:
                os.fchmod(file.fileno(), stat.S_IMODE(before.st_mode))
            yield file
            file.flush()
            if not special:
                os.fsync(file.fileno())
        if not special:
            new.replace(path)
    except OSError as error:
        if error.filename in (str(new), None):
            error.filename = str(path)
        raise
    finally:
        if not special:
            new.unlink(missing_ok=True)
