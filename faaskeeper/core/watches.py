"""Watches in the service: rows that clients put, and the function that notifies the clients.

A row is stored under the watched path. Its ``stamp`` is the txid up to which its client has seen
the znode. A transaction fires the rows below it; the client of a row at or above it has seen it
already. The notification carries not the event but the *epoch*: when the client meets it, it finds
its own watches that fire. So a notification may be lost, late or repeated; only promptness depends
on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from faaskeeper.core import codec, paths, trust
from faaskeeper.core.drivers.channel import Channel, deliver
from faaskeeper.core.drivers.queue import Queue
from faaskeeper.core.drivers.storage import Gather, IfOlder, IfStamp, Item, Table, delete_all, every, in_turn
from faaskeeper.core.errors import Conflict
from faaskeeper.core.firing import FIRED_BY, STAYING
from faaskeeper.core.log import Entry
from faaskeeper.core.requests import Epoch, Notification
from faaskeeper.core.tuples import NamedTuple


class Row(NamedTuple):
    """A registered watch.

    ``stamp``: its client has seen the znode as of this txid (for a watch that stays: everything up
    to it).
    """

    path: str
    kind: str
    session: int
    stamp: int
    address: str


def _rows(path: str, items: Iterable[tuple[str, Item]]) -> list[Row]:
    """Decode the rows of a path. Clients write them: invalid ones are skipped and block nothing."""
    found: list[Row] = []
    for _, item in items:
        kind, session, stamp, address = map(item.get, ("kind", "session", "stamp", "address"))
        if not isinstance(kind, str) or kind not in FIRED_BY or not isinstance(session, int):
            continue
        if isinstance(stamp, int) and isinstance(address, str):
            found.append(Row(path, kind, session, stamp, address))
    return found


_RECURSIVE = "recursive"


def _index(session: int) -> str:
    return f"session {session}"


class WatchTable:
    """Watch rows in a table, with an index for each session by which its rows are removed."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def put(self, row: Row) -> None:
        """Register a watch, over an older registration only: a late repetition has no effect."""
        try:
            self._table.put(
                row.path,
                f"{row.kind} {row.session}",
                {
                    "stamp": row.stamp,
                    "kind": row.kind,
                    "session": row.session,
                    "address": row.address,
                },
                IfOlder(row.stamp),
            )
        except Conflict:
            pass  # a registration with this stamp or a later one exists

    def index(self, session: int, path: str, kind: str, number: int = 0) -> None:
        """Add such a row to the session's index, under a number; before the row is first put."""
        self._table.put(_index(session), f"{kind} {path}", {"stamp": number})
        if kind == "recursive":
            self._table.put(_RECURSIVE, str(session), {"stamp": number})

    def rows(self, path: str) -> list[Row]:
        """All rows of a path."""
        return _rows(path, every(self._table, path))

    def recursive(self, ended: Callable[[int], bool]) -> bool:
        """Whether any session has, or had, a recursive watch, so that rows above a change matter.

        ``ended``: whether a session is over. Removes the rows of sessions that are.
        """
        while marks := self._table.query(_RECURSIVE, "", 1).items:
            session = int(marks[0][0])
            if not ended(session):
                return True
            self.clear(session)
            self._table.delete(_RECURSIVE, str(session))
        return False

    def unmark(self, session: int, number: int) -> None:
        """Note that a session has no recursive watch any more, unless it was noted anew."""
        self._drop(_RECURSIVE, str(session), number)

    def _drop(self, partition: str, key: str, stamp: int) -> None:
        try:
            self._table.delete(partition, key, IfStamp(stamp))
        except Conflict:
            pass  # put again, or removed already

    def recursive_rows(self, path: str) -> list[Row]:
        """The rows of a path's recursive watches: their keys sort last."""
        return _rows(path, every(self._table, path, "recursive"))

    def remove(self, row: Row) -> None:
        """Delete a row that fired or is no longer wanted, unless it was registered anew."""
        self._drop(row.path, f"{row.kind} {row.session}", row.stamp)

    def forget(self, session: int, path: str, kind: str, number: int) -> None:
        """Delete a session's row, whether it fired or not, then its index row of this number."""
        self._table.delete(path, f"{kind} {session}")
        self._drop(_index(session), f"{kind} {path}", number)

    def clear(self, session: int, *, last: bool = False) -> None:
        """Delete all rows of a closed session.

        Its index stays, since a row may still arrive: from a process that does not know yet, or by
        a call under way. ``last``: no row can arrive any more, so delete the index too.
        """
        keys = [key for key, _ in every(self._table, _index(session))]
        if any(key.startswith("recursive ") for key in keys):
            self._table.delete(_RECURSIVE, str(session))
        rows = [(path, f"{kind} {session}") for kind, path in (key.split(" ", 1) for key in keys)]
        if last:
            delete_all(self._table, rows, in_turn)
            # after the rows: by the index the next sweep finds rows that remain
            delete_all(self._table, [(_index(session), key) for key in keys], in_turn)
            return
        for row in rows:  # one by one: only who sweeps has the right to delete many
            self._table.delete(*row)


class Secrets:
    """Unsealed secrets of sessions, cached across calls."""

    _MAX = 20_000

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._open: dict[bytes, bytes] = {}

    def unseal(self, sealed: bytes) -> bytes:
        """The secret. Raises :class:`~faaskeeper.core.trust.Forged` if the key is another one."""
        secret = self._open.get(sealed)
        if secret is None:
            if len(self._open) >= self._MAX:
                self._open.clear()
            secret = self._open[sealed] = trust.unseal(self._key, sealed)
        return secret


class Recipient(NamedTuple):
    """Where a session's notifications go, and its sealed secret, which signs them."""

    address: str
    sealed: bytes


class Due(NamedTuple):
    """A row that fired, and its recipient; None if its session is over."""

    row: Row
    recipient: Recipient | None


class WatchFunction:
    """Notifies watchers of what a group of entries changed, inline or from a separate function.

    Call :meth:`notify` after *all* records of the group are in user storage. Watchers are notified
    before their rows are deleted, so a crash in between repeats the notification and never loses
    it. With a queue, a separate function notifies them, and passes its messages to :meth:`handle`:
    then clients that are slow to reach delay no writes.
    """

    def __init__(
        self, table: WatchTable, channel: Channel, secrets: Secrets, gather: Gather[Any], key: bytes
    ) -> None:
        self._table = table
        self._channel = channel
        self._secrets = secrets
        self._gather = gather
        self._key = key

    def notify(
        self,
        entries: Sequence[Entry],
        epoch: Epoch,
        recipient_of: Callable[[int], Recipient | None],
        queue: Queue | None = None,
    ) -> None:
        """Notify the sessions whose watches the entries fire.

        ``recipient_of``: the recipient of a session, None if it is over, or younger than the epoch.
        ``queue``: triggers the separate function; None: notify them in this call.
        """

        def ended(session: int) -> bool:
            return session <= epoch.upto and recipient_of(session) is None

        due = [Due(row, recipient_of(row.session)) for row in self._fired(entries, ended)]
        if not due:
            return
        if queue is None:
            self._tell(due, epoch)
            return
        for body in self._messages(due, epoch, queue.max_message_bytes):
            queue.send("watch", f"{epoch.upto}", body)

    def handle(self, bodies: Sequence[bytes]) -> None:
        """Notify the recipients of the messages.

        Raises :class:`~faaskeeper.core.trust.Forged`, and what the stores raise.
        """
        for signed in bodies:
            trust.verify(self._key, signed)
            self._tell(*_to_due(trust.body(signed)))

    def _messages(self, due: Sequence[Due], epoch: Epoch, most: int) -> Iterator[bytes]:
        """Messages to the function; one that would be too large is split in halves."""
        rows = [[*row, None if to is None else [to.address, to.sealed.hex()]] for row, to in due]
        signed = trust.sign(self._key, codec.frame([rows, epoch]))
        if len(signed) <= most or len(due) == 1:
            yield signed
            return
        half = len(due) // 2
        yield from self._messages(due[:half], epoch, most)
        yield from self._messages(due[half:], epoch, most)

    def _tell(self, due: Sequence[Due], epoch: Epoch) -> None:
        notified: set[int] = set()
        for row, recipient in due:
            if recipient is not None and row.session not in notified:
                notified.add(row.session)
                body = codec.notification(Notification(row.session, epoch))
                signed = trust.sign(self._secrets.unseal(recipient.sealed), body)
                deliver(self._channel, recipient.address or row.address, signed)
        over = {row.session for row, recipient in due if recipient is None and row.session <= epoch.upto}
        gone = [row for row, _ in due if row.kind not in STAYING or row.session in over]
        self._gather([partial(self._table.remove, row) for row in gone])

    def _fired(self, entries: Iterable[Entry], ended: Callable[[int], bool]) -> list[Row]:
        events: dict[str, list[tuple[int, str]]] = {}
        for entry in entries:
            for transaction in entry.transactions:
                for path, letters, _, _ in transaction.changes:
                    if letters:
                        events.setdefault(path, []).append((transaction.txid, letters))
        if not events:
            return []
        calls = [partial(self._table.rows, path) for path in events]
        below = _latest_below(events) if self._table.recursive(ended) else {}
        calls.extend(partial(self._table.recursive_rows, path) for path in below if path not in events)
        fired: list[Row] = []
        for rows in self._gather(calls) if len(calls) > 1 else (calls[0](),):
            for row in rows:
                if row.kind == "recursive":
                    fires = below.get(row.path, 0) > row.stamp
                else:
                    fires = any(
                        txid > row.stamp and not set(letters).isdisjoint(FIRED_BY[row.kind])
                        for txid, letters in events[row.path]
                    )
                if fires:
                    fired.append(row)
        return fired


def _to_due(body: bytes) -> tuple[list[Due], Epoch]:
    (rows, epoch), _ = codec.unframe(body)
    due = [
        Due(Row(*row), None if to is None else Recipient(to[0], bytes.fromhex(to[1]))) for *row, to in rows
    ]
    return due, codec.to_epoch(epoch)


def _latest_below(events: Mapping[str, Sequence[tuple[int, str]]]) -> dict[str, int]:
    """For changed paths and all above them, the last txid that fires a recursive watch there."""
    latest: dict[str, int] = {}
    for path, happened in events.items():
        txids = [txid for txid, letters in happened if not set(letters).isdisjoint(FIRED_BY["recursive"])]
        if txids:
            for above in paths.upwards(path):
                latest[above] = max(latest.get(above, 0), txids[-1])
    return latest
