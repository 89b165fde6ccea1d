"""Records in a server's memory, bounded in bytes: what was read longest ago goes first.

Which records may be here, and until when, is :mod:`faaskeeper.gateway.following`'s to say.
"""

from __future__ import annotations

from collections import OrderedDict

from faaskeeper.core.changes import acl_memory
from faaskeeper.core.records import Record
from faaskeeper.core.tuples import NamedTuple

MEMORY_BYTES = 32 * 1024 * 1024
"""About how much memory the records take, unless the server's operator says otherwise."""
_PLACE_BYTES = 150
"""Of a path that has no record, beside its text."""
_RECORD_BYTES = 750
"""Of a record beside that, without data, children, its ACL and its epoch's paths."""
_NAME_BYTES = 70


class MemoryLevels(NamedTuple):
    """Of a server that reads from memory.

    ``behind``: s since the beginning of the last look at the log's end; None: there was none yet.
    ``used``: bytes. ``memory``, ``storage``: how many records were read from there. ``late``: how
    often memory was not used, since that look was too long ago.
    """

    behind: float | None
    used: int
    memory: int
    storage: int
    late: int


class Memory:
    """Records by path; None: the path has none. ``most``: bytes, except for a single record."""

    def __init__(self, most: int = MEMORY_BYTES) -> None:
        self._most = most
        self._records: OrderedDict[str, Record | None] = OrderedDict()
        """The one that was read longest ago first."""
        self._sizes: dict[str, int] = {}
        self.used = 0
        """About how many bytes the records take."""

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, path: str) -> bool:
        return path in self._records

    def __getitem__(self, path: str) -> Record | None:
        """The record of a path that is here."""
        self._records.move_to_end(path)
        return self._records[path]

    def put(self, path: str, record: Record | None) -> None:
        """Keep a record, in place of the path's one before; others go where there is no room."""
        size = _PLACE_BYTES + len(path)
        if record is not None:
            size += _RECORD_BYTES + len(record.data) + len(record.recent)
            size += _NAME_BYTES * len(record.children)
            size += acl_memory(record.meta)
        self.used += size - self._sizes.get(path, 0)
        self._sizes[path] = size
        self._records[path] = record
        self._records.move_to_end(path)
        while self.used > self._most and len(self._records) > 1:
            oldest, _ = self._records.popitem(last=False)
            self.used -= self._sizes.pop(oldest)

    def drop(self, path: str) -> None:
        """Drop a path's record, if it is here."""
        size = self._sizes.pop(path, None)
        if size is not None:
            self.used -= size
            del self._records[path]

    def clear(self) -> None:
        """Drop all."""
        self._records.clear()
        self._sizes.clear()
        self.used = 0
