"""Reads of znodes, subject to their ACLs: steps with typed results, for every kind of client.

Paths are valid paths in the whole tree. ``who``: the identities that a client has proven.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Union

from faaskeeper.core import acl as acls
from faaskeeper.core.acl import Identity
from faaskeeper.core.blobs import TRIES, lost
from faaskeeper.core.children import Span, page_path
from faaskeeper.core.errors import Code, Portable
from faaskeeper.core.records import Record
from faaskeeper.core.tuples import NamedTuple
from faaskeeper.core.znode import OPEN_ACL, Acl, Meta
from faaskeeper.session import usage
from faaskeeper.session.commands import ReadBlob, Steps
from faaskeeper.session.rules import Rules, names_of
from faaskeeper.watch import WatchCallbackType

TOGETHER = 100
"""The number of znodes read in one call."""
_CURRENT = 20
"""How often a read begins again because its path was written while its blob was read. After that
it may return the data from before."""


class Refused(Portable):
    """A read is refused: NO_NODE, or NO_AUTH."""

    def __init__(self, code: Code, path: str) -> None:
        super().__init__(f"{path}: {code.value}")
        self.code = code
        self.path = path


class Lost(Portable):
    """The blob with a znode's data is missing."""

    def __init__(self, path: str, blob: str) -> None:
        super().__init__(lost(path, blob))


class Found(NamedTuple):
    """A znode that was read: its metadata, its data and the names of its children.

    The data is empty if the read did not ask for it. The names are complete if the read asked for
    them, or if ``meta.pages`` is 0.
    """

    meta: Meta
    data: bytes
    children: Sequence[str]


Answer = Union[Found, Refused, Lost, None]
"""The answer of one read among several; None: ``exists`` of a znode that does not exist."""


def readable(path: str, record: Record | None, who: tuple[Identity, ...]) -> Found:
    """The znode of a record, if it exists and may be read; otherwise raises Refused."""
    meta = None if record is None else record.meta
    if record is None or meta is None:
        raise Refused(Code.NO_NODE, path)
    if meta.acl is not OPEN_ACL and not acls.permits(meta.acl, acls.READ, who):
        raise Refused(Code.NO_AUTH, path)
    return Found(meta, record.data, record.children)


class Reads:
    """The reads of one client. The caller runs the steps in the session's order."""

    def __init__(self, rules: Rules, who: tuple[Identity, ...]) -> None:
        self._rules = rules
        self.who = who

    # ---- one znode -----------------------------------------------------------------------

    def read(
        self,
        path: str,
        kind: str,
        watch: WatchCallbackType | None,
        fetch: Callable[[Record], Steps] | None = None,
    ) -> Steps:
        """Read a path; returns its record, which may be a tombstone or None.

        ``kind`` of the watch: data, exists, children. Raises Refused if there is a watch to set and
        the znode may not be read. ``fetch``: see :meth:`Rules.watch`; without a watch it is not
        called.
        """
        if watch is None:
            return (yield from self._rules.read(path))
        allowed = None if kind == "exists" else self._allowed(path, acls.READ)
        return (yield from self._rules.watch(path, kind, watch, allowed, fetch))

    def _allowed(self, path: str, permission: int) -> Callable[[Meta], None]:
        def allowed(meta: Meta) -> None:
            if not acls.permits(meta.acl, permission, self.who):
                raise Refused(Code.NO_AUTH, path)

        return allowed

    def exists(self, path: str, watch: WatchCallbackType | None = None) -> Steps:
        """The znode's metadata, or None."""
        record: Record | None = yield from self.read(path, "exists", watch)
        return None if record is None else record.meta

    def data(self, path: str, watch: WatchCallbackType | None = None) -> Steps:
        """The znode with its data, as Found. Raises Refused, or Lost."""
        fetched: dict[str, bytes | None] = {}
        missing: Counter[str] = Counter()

        def fetch(record: Record) -> Steps:
            if record.meta is None or not (blob := record.meta.blob):
                return True
            fetched[blob] = yield ReadBlob(blob, record.meta.length)
            if fetched[blob] is None:
                missing[blob] += 1
                if missing[blob] == TRIES:
                    raise Lost(path, blob)
            return fetched[blob] is not None

        if usage.counted_by(path):  # the data is counted, not fetched
            reading = usage.read(self._rules, path, self.who, self.read(path, "data", watch))
        else:
            reading = self.read(path, "data", watch, fetch)
        record: Record | None = yield from reading
        blob = "" if record is None or record.meta is None else record.meta.blob
        data = fetched.get(blob)
        if data is not None:
            return readable(path, record, self.who)._replace(data=data)
        return (yield from self.data_of(path, record))

    def data_of(self, path: str, record: Record | None) -> Steps:
        """Like :meth:`data`, from a record read before; from a newer one if its blob is gone.

        Or if the path was written meanwhile: a client that learns of that write first must not get
        data from before it.
        """
        lost = 0
        for _ in range(_CURRENT):
            found = readable(path, record, self.who)
            if not found.meta.blob:
                return found
            with self._rules.tracked((path,)) as track:
                data: bytes | None = yield ReadBlob(found.meta.blob, found.meta.length)
            if data is not None and track.clean:
                return found._replace(data=data)
            if data is None and track.clean:
                lost += 1
                if lost == TRIES:
                    raise Lost(path, found.meta.blob)
            # A sweep removes blobs of znodes that changed long enough ago: the znode has other data
            # now.
            record = yield from self._rules.read(path)
        found = readable(path, record, self.who)
        data = (yield ReadBlob(found.meta.blob, found.meta.length)) if found.meta.blob else found.data
        if data is None:
            raise Lost(path, found.meta.blob)
        return found._replace(data=data)

    def children(self, path: str, watch: WatchCallbackType | None = None) -> Steps:
        """The znode with the names of all its children, as Found. Raises Refused."""
        fetched: list[Record | None] = []

        def fetch(record: Record) -> Steps:
            fetched[:] = [(yield from self.whole(path, record))]
            return True

        record: Record | None = yield from self.read(path, "children", watch, fetch)
        if fetched and fetched[0] is not None and _same_list(fetched[0], record):
            # The record is the later of the two: its data may have changed.
            return readable(path, record, self.who)._replace(children=fetched[0].children)
        return (yield from self.children_of(path, record))

    def children_of(self, path: str, record: Record | None) -> Steps:
        """Like :meth:`children`, from a record that was read before.

        If the names are in pages, the result may be newer than the record; a watch that was set
        with the record has fired by then.
        """
        whole: Record | None = yield from self.whole(path, record)
        return readable(path, whole, self.who)

    def whole(self, path: str, record: Record | None) -> Steps:
        """The record with the names of all children. Raises Refused."""
        if not readable(path, record, self.who).meta.pages:
            return record
        records = yield from self._rules.snapshot([path], [path])
        record = records[path]
        return None if record is None else record._replace(children=names_of(path, records))

    def children_part(self, path: str, part: Span) -> Steps:
        """The znode with the names of a part of its children, and the part after it or None.

        Reads the pages of that part only, as of one transaction. Raises Refused.
        """
        records = yield from self._rules.snapshot([path], [path], part.pages)
        found = readable(path, records[path], self.who)
        count = found.meta.pages
        pages = (
            [records[page_path(path, number)] for number in part.pages(count)] if count else [records[path]]
        )
        names, after = part.take((name for page in pages if page for name in page.children), count)
        return found._replace(children=names), after

    def acl(self, path: str) -> Steps:
        """The ACL and the metadata; password hashes only if the client may administer the znode.

        Raises Refused.
        """
        record: Record | None = yield from self._rules.read(path)
        meta = None if record is None else record.meta
        if meta is None:
            raise Refused(Code.NO_NODE, path)
        self._allowed(path, acls.READ | acls.ADMIN)(meta)
        shown: tuple[Acl, ...] = acls.masked(acls.effective(path, meta.acl), self.who)
        return shown, meta

    # ---- several -------------------------------------------------------------------------

    def together(self, reads: Sequence[tuple[str, str]]) -> Steps:
        """Perform reads of (kind, path) as of one transaction; returns an Answer for each.

        ``kind``: data, exists, children.
        """
        listed = [path for kind, path in reads if kind == "children"]
        wanted = list(dict.fromkeys(path for _, path in reads))
        answers: list[Answer] = []
        data_of = [path for kind, path in reads if kind == "data"]
        lost = 0
        for _ in range(_CURRENT):
            records = yield from usage.snapshot(self._rules, wanted, listed, data_of, self.who)
            answers = []
            with self._rules.tracked(wanted) as track:
                for kind, path in reads:
                    answers.append((yield from self._one_of(kind, path, records)))
            if any(isinstance(each, Lost) for each in answers):
                # The blob was swept if the record is long outdated: the next read returns another
                # record.
                lost += 1
                if lost == TRIES:
                    break
            elif track.clean:
                break
        return answers

    def _one_of(self, kind: str, path: str, records: dict[str, Record | None]) -> Steps:
        record = records[path]
        if kind == "exists":
            return None if record is None or record.meta is None else Found(record.meta, b"", ())
        try:
            found = readable(path, record, self.who)
        except Refused as refused:
            return refused
        if kind == "children":
            return _listed(found, path, records)
        if not found.meta.blob:
            return found
        data: bytes | None = yield ReadBlob(found.meta.blob, found.meta.length)
        if data is None:
            return Lost(path, found.meta.blob)
        return found._replace(data=data)

    def owned_by(self, session: int, candidates: Iterable[str]) -> Steps:
        """Those of the candidates that are ephemerals of a session, sorted."""
        wanted = sorted(candidates)
        alive: list[str] = []
        for some in _batches(wanted):
            records: dict[str, Record | None] = yield from self._rules.snapshot(some)
            for path in some:
                record = records[path]
                if record is not None and record.meta is not None and record.meta.owner == session:
                    alive.append(path)
        return alive

    def number_below(self, path: str) -> Steps:
        """The number of znodes below one, at any depth; reads each of them. Raises Refused."""
        readable(path, (yield from self._rules.read(path)), self.who)
        counted: usage.Usage = yield from usage.measure(self._rules, path)
        return max(counted.znodes - 1, 0)


def _same_list(whole: Record | None, record: Record | None) -> bool:
    """Whether a record with all names of children is as of the same list as another."""
    if whole is None or record is None or whole.meta is None or record.meta is None:
        return False
    return whole.meta.pzxid == record.meta.pzxid


def _listed(found: Found, path: str, records: dict[str, Record | None]) -> Found:
    return found._replace(children=names_of(path, records)) if found.meta.pages else found


def _batches(wanted: list[str]) -> Iterable[list[str]]:
    return (wanted[at : at + TOGETHER] for at in range(0, len(wanted), TOGETHER))
