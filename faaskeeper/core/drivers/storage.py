"""The protocols through which a provider stores things: :class:`Table` and :class:`ObjectStore`.

Both are strongly consistent: a read that begins after a write ended sees it. Every method may be
called from several threads at once. A driver retries what is safe to retry, with capped and
jittered back-off, maps its cloud's errors to the kinds of :mod:`faaskeeper.core.errors`, and raises
nothing else. After :class:`~faaskeeper.core.errors.Unavailable` a write may or may not have taken
effect, or take effect later; core handles all three. But it must not take effect after
:data:`LATE_MS`: a call delayed for longer must be refused (signatures of cloud requests expire,
deadlines pass), because core's argument that an append to a trimmed log is safe depends on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar, Union, runtime_checkable

from faaskeeper.core.tuples import NamedTuple

LATE_MS = 15 * 60 * 1000
"""How long after the call began, at most, a write may take effect."""

_PAGE = 500

Check = Callable[[], None]
"""Raises if a write would come too late. A put of several calls calls it before the one that
decides: a process may be suspended for days between two calls, and its caller checked only before
the first."""


def in_any_case() -> None:
    """A check that lets every write pass."""


Value = Union[str, int, bytes, list[str]]
Item = dict[str, Value]
"""A flat map that a cloud's console can show. ``stamp`` (an int) is the number that conditions
compare: the txid that wrote a record, the stamp of a watch, the version of a lease."""


class IfAbsent:
    """Write only if nothing is stored under the key."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "IfAbsent()"


class _Stamped:
    __slots__ = ("stamp",)

    def __init__(self, stamp: int) -> None:
        self.stamp = stamp

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.stamp})"


class IfOlder(_Stamped):
    """Write only if nothing is stored, or an item whose ``stamp`` is below this one."""

    __slots__ = ()


class IfStamp(_Stamped):
    """Write or delete only if an item with exactly this ``stamp`` is stored."""

    __slots__ = ()


Condition = Union[IfAbsent, IfOlder, IfStamp, None]


class Page(NamedTuple):
    """Part of a query's result. ``more``: there may be items after the last one."""

    items: list[tuple[str, Item]]
    more: bool


class Table(Protocol):
    """Items under (partition, key), both non-empty strings; keys of a partition are ordered."""

    max_item_bytes: int
    """Most bytes of one item, keys and names included."""

    def get(self, partition: str, key: str) -> Item | None:
        """The item, or None."""

    def get_many(self, keys: Sequence[tuple[str, str]]) -> list[Item | None]:
        """Many ``get``, in the order of the keys; not as of one moment."""

    def put(self, partition: str, key: str, item: Item, condition: Condition = None) -> None:
        """Replace the whole item. Raises Conflict if the condition does not hold."""

    def delete(self, partition: str, key: str, condition: Condition = None) -> None:
        """Delete the item. An absent one is no error, but a Conflict under IfStamp."""

    def query(self, partition: str, after: str, limit: int) -> Page:
        """Items of a partition with keys above ``after`` ("" for all), in key order."""


@runtime_checkable
class DeletesMany(Protocol):
    """What a driver of a table may offer beside :class:`Table`; see :func:`delete_all`."""

    def delete_many(self, keys: Sequence[tuple[str, str]]) -> None:
        """Many ``delete``, without conditions; after an error, any of them may have happened."""


def every(table: Table, partition: str, after: str = "") -> Iterator[tuple[str, Item]]:
    """Every item of a partition above a key, with its key, page by page; not as of one moment."""
    more = True
    while more:
        items, more = table.query(partition, after, _PAGE)
        if not items:
            return
        yield from items
        after = items[-1][0]


def delete_all(table: Table, keys: Sequence[tuple[str, str]], gather: Gather[Any]) -> None:
    """Delete items without conditions: in one call if the table can do that, else in parallel."""
    if isinstance(table, DeletesMany):
        table.delete_many(keys)
    else:
        gather([partial(table.delete, *key) for key in keys])


class Object(NamedTuple):
    """A stored object and the tag that changes with its contents."""

    body: bytes
    tag: str


class ObjectStore(Protocol):
    """Byte strings, replaced as a whole, under string keys of at most 1,024 bytes of UTF-8."""

    def get(self, key: str) -> Object | None:
        """The object, or None."""

    def put(self, key: str, body: bytes, *, absent: bool = False, match: str | None = None) -> str:
        """Store an object and return its tag; durable when this returns.

        ``absent``: only if there is none; ``match``: only over the object with this tag. Raises
        Conflict otherwise.
        """

    def delete(self, key: str, *, match: str | None = None) -> None:
        """Delete the object. An absent one is no error.

        ``match``: only the object with this tag; raises Conflict if there is another, or none.
        """

    def list(self, prefix: str, after: str, limit: int) -> list[str]:
        """At most ``limit`` keys with the prefix, above ``after``, in order."""


@runtime_checkable
class DeletesKeys(Protocol):
    """What an object store may offer beside :class:`ObjectStore`; see :func:`delete_objects`."""

    def delete_keys(self, keys: Sequence[str]) -> None:
        """Many ``delete``, without conditions; after an error, any of them may have happened."""


def delete_objects(store: ObjectStore, keys: Sequence[str], gather: Gather[Any]) -> None:
    """Delete objects without conditions: in few calls if the store can do that, else in parallel."""
    if isinstance(store, DeletesKeys):
        store.delete_keys(keys)
    else:
        gather([partial(store.delete, key) for key in keys])


class Write(NamedTuple):
    """A put that is one of several joint puts. ``table``: core's name for it."""

    table: str
    partition: str
    key: str
    item: Item
    condition: Condition


Joint = Callable[[Sequence[Write]], None]
"""Makes some puts as one, all or none, if a store can do that in one call. Raises what a put
raises: Conflict if one of the conditions does not hold, and then none was made; after Unavailable
all or none were; TooLarge if that is more than the store takes at once, and then none was made.
A driver that goes by what it saw last may raise Conflict although the conditions hold; then it has
looked, and the next attempt goes by that. Conditions are :class:`IfAbsent` and :class:`IfOlder`. One
call has at most :data:`JOINT_WRITES` puts, and :data:`JOINT_BYTES` beside the entry."""
JOINT_WRITES = 500
JOINT_BYTES = 3 * 1024 * 1024

_T = TypeVar("_T")
Gather = Callable[[Sequence[Callable[[], _T]]], list[_T]]
"""Runs independent driver calls in parallel and returns their results in order. If some fail, it
waits for all and raises the first error. The provider chooses how: threads, or one local
transaction."""


def in_turn(calls: Iterable[Callable[[], _T]]) -> list[_T]:
    """A Gather that runs the calls one after the other."""
    return [call() for call in calls]
