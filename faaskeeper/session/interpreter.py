"""The one interpreter of commands: performs them on the stores, in the caller's thread."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any

from faaskeeper.core.blobs import read_blob
from faaskeeper.core.children import writes_of
from faaskeeper.core.errors import DriverError, Unavailable
from faaskeeper.core.log import Entry, Log, Trimmed, decode, mentions, size, span
from faaskeeper.core.watches import Row
from faaskeeper.exceptions import FaaSKeeperException, ProviderException, WatchSetFailureException
from faaskeeper.session import commands
from faaskeeper.session.incarnation import Over, renew
from faaskeeper.session.registrations import MOST, Registrations

if TYPE_CHECKING:
    from faaskeeper.core.connection import Connection

_FIRST = 16
"""Entries that a read of the past begins with, to see how large they are."""
_COUNTS_ONCE = 16 * 1024
"""Bytes of an entry that count as one."""


class Interpreter:
    """Performs the commands of one session, which watches are registered under.

    ``lock`` makes the locks that are held during calls that put or remove watches. ``most``: the
    number of registrations above which idle ones are removed.
    """

    def __init__(
        self, connection: Connection, lock: Callable[[], AbstractContextManager[Any]], most: int = MOST
    ) -> None:
        self._connection = connection
        self.registrations = Registrations(connection.watches, lock, most)
        self.session = 0
        """The session's id, once it is open."""
        self.address = ""
        """The address that the service sends notifications to."""

    def perform(self, command: commands.Command) -> Any:
        """Perform a command, except :class:`~faaskeeper.session.commands.Await`, which is the
        shell's.

        Returns its answer. May block. Raises DriverError.
        """
        return self._PERFORM[type(command)](self, command)

    def _read_record(self, command: commands.ReadRecord) -> Any:
        return self._connection.records.get(command.path)

    def _read_records(self, command: commands.ReadRecords) -> Any:
        return self._connection.records.get_many(command.paths)

    def _read_log(self, command: commands.ReadLog) -> Any:
        found = read_writes(self._connection.log, command.after, command.upto, command.rested)
        return None if found is None or found[1] < command.upto else found[0]

    def _read_log_end(self, command: commands.ReadLogEnd) -> Any:
        return read_writes(self._connection.log, command.after, None, command.rested)

    def _read_mark(self, _: commands.ReadMark) -> Any:
        return self._connection.applied()

    def _put_watch(self, command: commands.PutWatch) -> None:
        self.registrations.put(self._row(command))

    def _remove_watch(self, command: commands.RemoveWatch) -> None:
        self.registrations.remove(self._row(command))

    def _row(self, command: commands.PutWatch | commands.RemoveWatch) -> Row:
        return Row(command.path, command.kind, self.session, command.stamp, self.address)

    def _forget(self, command: commands.Forget) -> None:
        self.registrations.forget(self.session, command.idle)

    def _read_blob(self, command: commands.ReadBlob) -> Any:
        return read_blob(self._connection.blobs, command.name, command.length)

    def _put_blob(self, command: commands.PutBlob) -> None:
        if self._connection.blobs is None:
            raise Unavailable("this deployment has no store for large data")
        self._connection.blobs.put(command.name, command.data, absent=True)

    def _read_lease(self, command: commands.ReadLease) -> Any:
        return self._connection.leases.get(command.session)

    def _renew_lease(self, command: commands.RenewLease) -> Any:
        try:
            return renew(self._connection.leases, command.lease)
        except Over as over:
            return over.code

    def _read_entries(self, command: commands.ReadEntries) -> Any:
        after, upto, words, limit = command
        begin = last = after
        entries: list[Entry] = []
        weight, wanted, more = 0, _FIRST, True
        while more and weight < limit:
            items, more = self._connection.log.between(last, upto, wanted)
            for item in items:
                first, end = span(item)
                if first != last + 1:
                    begin = first - 1
                last = end
                weight += 1 + size(item) // _COUNTS_ONCE
                if mentions(item, words):
                    entries.append(decode(item))
            more = more and bool(items)
            wanted = max((limit - weight) * len(items) // max(weight, 1), 1)
        return entries, last if more else upto, weight, begin

    def _find_entry(self, command: commands.FindEntry) -> Any:
        return self._connection.log.holding(command.txid)

    def _find_moment(self, command: commands.FindMoment) -> Any:
        return self._connection.log.as_of(command.time, command.upto)

    def _read_kept(self, command: commands.ReadKept) -> Any:
        kept = self._connection.kept
        return None if kept is None else kept(command.path)

    _PERFORM: dict[type, Callable[[Any, Any], Any]] = {  # noqa: RUF012
        commands.ReadRecord: _read_record,
        commands.ReadRecords: _read_records,
        commands.ReadLog: _read_log,
        commands.ReadLogEnd: _read_log_end,
        commands.ReadMark: _read_mark,
        commands.PutWatch: _put_watch,
        commands.RemoveWatch: _remove_watch,
        commands.Forget: _forget,
        commands.ReadBlob: _read_blob,
        commands.PutBlob: _put_blob,
        commands.ReadLease: _read_lease,
        commands.RenewLease: _renew_lease,
        commands.ReadEntries: _read_entries,
        commands.FindEntry: _find_entry,
        commands.FindMoment: _find_moment,
        commands.ReadKept: _read_kept,
    }


def failure(command: commands.Command, error: DriverError) -> FaaSKeeperException:
    """The user's exception for a command that failed."""
    if isinstance(command, commands.PutWatch):
        return WatchSetFailureException(f"the watch of {command.path} could not be set: {error}")
    return ProviderException(str(error))


def read_writes(
    log: Log, after: int, upto: int | None, rested: bool = True
) -> tuple[list[commands.Writes], int] | None:
    """The writes of transactions in (after, upto] (None: to the log's end), and the last txid read.

    ``after`` is the last txid of some entry. Returns None if the log was trimmed; to the log's end
    that may look as if nothing were there (:meth:`~faaskeeper.core.log.Log.look`). Unless the
    reader has ``rested``, nothing after ``after`` can have been trimmed.
    """
    writes: list[commands.Writes] = []
    more = True
    read = partial(log.tail, upto=upto) if not rested else log.look if upto is None else log.after
    while more and (upto is None or after < upto):
        try:
            entries, more = read(after)
        except Trimmed:
            return None
        for entry in entries:
            for transaction in entry.transactions:
                if upto is None or transaction.txid <= upto:
                    writes.append((transaction.txid, writes_of(transaction)))
            after = entry.last
        read = log.after
    return writes, after
