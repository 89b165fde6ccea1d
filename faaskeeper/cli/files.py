"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def whole(path: Path) -> Iterator[IO[str]]:
    """A text file that takes the other's place when it is whole; after an exception the other stays.

    A link stays one, and a device or a pipe is written to as it is. Raises OSError.
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
