"""What one connection has been shown, frame by frame, compared with the model of the log.

A reply to a read carries the zxid ``z`` as of which it holds: what it shows is the model's tree at
``z``, and ``z`` is not below anything that the session was shown or told before, on any connection.
Of everything up to ``z`` the connection's watches have fired, in the log's order, before the reply.
A write's reply is the outcome that the log has of this very request, in the session's order.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any

from faaskeeper.core.requests import Create, Data, Multi, Outcome, SetData
from faaskeeper.gateway.following import LATE_S
from faaskeeper.testing.simulator.ledger import Ledger
from faaskeeper.testing.simulator.model import Image
from faaskeeper.testing.simulator.scheduler import Violation
from faaskeeper.testing.simulator.served import wire
from faaskeeper.testing.simulator.served.wire import Asked, Body

FIRES = {"data": "SD", "exists": "CSD", "children": "KD", "persistent": "CSDK", "recursive": "CSD"}
"""Which changes fire which kind of watch: C created, D deleted, S data set, K children."""
ONCE = ("data", "exists", "children")
_LETTERS = {1: "C", 2: "D", 3: "S", 4: "K"}
"""Changes by the numbers of ``Watcher.Event.EventType``."""
_MISSED = {
    "data": (2, 3),
    "exists": (1,),
    "children": (2, 4),
    "persistent": (1, 2, 3, 4),
    "recursive": (1, 2, 3),
}
"""Types of the events that a watch may get while it is set again."""
_CAUSES = {1: "C", 2: "D", 3: "SC", 4: "KC"}
"""Changes that such an event may come from: the znode may have been created anew."""
_MATCHING = {1: ("children",), 2: ("data", "exists"), 3: tuple(FIRES), 4: ("persistent",), 5: ("recursive",)}
"""Kinds by the numbers of ``Watcher.WatcherType``."""

_CREATES = (wire.CREATE2, wire.CONTAINER, wire.TTL)

Key = tuple[str, str]
"""Path and kind of a watch."""


class Watch:
    """A watch. ``since``: it fires for later transactions.

    ``sure``: it certainly is set. ``present``: the znode existed when it was set.
    """

    def __init__(self, since: int, sure: bool, present: bool) -> None:
        self.since = since
        self.sure = sure
        self.present = present


class Shared:
    """What all clients know together. ``acked``: the newest transaction that one has an answer of."""

    def __init__(self) -> None:
        self.acked = 0
        self._since: list[tuple[int, int]] = []
        """Transactions that were the newest answered one, each with the time since when."""

    def answered(self, txid: int, now: int) -> None:
        """A client has the answer of a write."""
        if txid > self.acked:
            self.acked = txid
            self._since.append((now, txid))

    def at(self, time: int) -> int:
        """The newest transaction of which a client had an answer at a time (ms)."""
        at = bisect_right(self._since, time, key=itemgetter(0))
        return self._since[at - 1][1] if at else 0


def within_ms(plan: Any) -> int:
    """How far behind answers may be by a plan: servers that read from memory say so."""
    return plan.follow + int(LATE_S * 1000) if plan.follow else 0


class Seen:
    """The checks of one connection; see the module. ``name``: the client's."""

    def __init__(self, ledger: Ledger, shared: Shared, name: str) -> None:
        self._ledger = ledger
        self._model = ledger.model
        self._shared = shared
        self.name = name
        self.session = 0
        self.floor = 0
        """Nothing older may be shown."""
        self.last = 0
        """The zxid of the last reply, which the client sends when it comes back."""
        self._decided = 0
        """How many of the session's decided requests are at or before its last answer."""
        self._at = 0
        """How many changes of the log were looked at for events."""
        self.watches: dict[Key, Watch] = {}
        self.lost: dict[Key, Watch] = {}
        """Watches of earlier connections, to be set again."""
        self._heard: set[Key] | None = None
        """While they are set again: those that got an event."""
        self._since = 0
        """The zxid with which they are set again."""
        self._removing: list[Key] = []
        self._behind = within_ms(ledger.plan)
        self._left = False
        """The session goes on by another connection, perhaps at another server."""

    def next(self) -> Seen:
        """The checks of the session's next connection."""
        self._left = True
        after = Seen(self._ledger, self._shared, self.name)
        after.session, after.floor, after.last = self.session, self.floor, self.last
        after._decided, after._at = self._decided, self._at
        after.lost = dict(self.lost)
        heard = self._heard or set()
        for key in heard:
            if key[1] in ONCE:
                after.lost.pop(key, None)
        after.lost.update({key: watch for key, watch in self.watches.items() if watch.sure})
        return after

    # ---- frames --------------------------------------------------------------------------

    def ping(self, zxid: int) -> None:
        """The answer to a ping. Clients take nothing from it but that the server lives."""
        if zxid < self.floor or zxid > self._model.head:
            raise Violation(f"Z3: {self.name} was shown {self.floor}, a ping is answered as of {zxid}")

    def begins(self, asked: Asked) -> None:
        """All requests before this one are answered: it may be under way."""
        if asked.kind == wire.ADD_WATCH:
            self.watches.setdefault((asked.path, asked.watch), Watch(self.floor, False, False))
        elif asked.kind == wire.REMOVE_WATCHES:
            self._removing = self._matching(asked)
            for key in self._removing:
                self.watches[key].sure = False
        elif asked.kind == wire.SET_WATCHES2:
            self._heard, self._since = set(), self.last

    def reply(self, asked: Asked, later: Iterable[Asked], zxid: int, error: int, body: Body) -> None:
        """A reply. ``later``: the connection's requests that are not answered."""
        if zxid > self._model.head:
            raise Violation(f"{self.name} was answered {asked} as of {zxid}, which is not in the log")
        if zxid < self.last:
            raise Violation(f"Z3: {self.name} was answered {asked} as of {zxid}, it had seen {self.last}")
        if asked.operation is not None:
            self._written(asked, zxid, error, body)
            self._passes(zxid, asked)
        else:
            if zxid < self.floor:
                raise Violation(f"Z3: {self.name} was shown {asked} as of {zxid}, after {self.floor}")
            self._passes(zxid, asked)
            self._no_later(asked, later, zxid)
            self._read(asked, zxid, error, body)
        self.last = zxid
        self.floor = max(self.floor, zxid)
        if not body.end() and not (error and asked.kind == wire.MULTI):
            raise Violation(f"{self.name}: bytes follow the reply to {asked}")

    # ---- writes --------------------------------------------------------------------------

    def _written(self, asked: Asked, zxid: int, error: int, body: Body) -> None:
        model = self._model
        keys = model.decided.get(self.session, [])
        same = [
            at
            for at in range(self._decided, len(keys))
            if model.outcomes[keys[at]].txid == zxid
            and self._same(model.requests[keys[at]].operation, asked.operation)
        ]
        if not same:
            raise Violation(
                f"Z2: {self.name} was answered {asked} {asked.operation} as of {zxid}, error {error}; then "
                f"the log has {[(model.requests[key], model.outcomes[key]) for key in keys[self._decided :]]}"
            )
        # the first may have been asked for on an earlier connection, which lost the answer
        at = next((at for at in same if self._told(error, model.outcomes[keys[at]])), same[0])
        outcome = model.outcomes[keys[at]]
        self._decided = at + 1
        if zxid < asked.acked or (not error and outcome.code.name == "OK" and zxid == asked.acked):
            raise Violation(f"Z2: {asked} of {self.name} happened at {zxid}, {asked.acked} was over before")
        if asked.kind == wire.MULTI and outcome.results:
            codes = [each.code.name for each in outcome.results]
            told = [wire.CODES[each] for each in _results(body)]
            if codes != told:
                raise Violation(f"Z1: {self.name} was answered {told} to {asked}, the log says {codes}")
        elif not self._told(error, outcome):
            raise Violation(f"Z1: {self.name} was answered error {error} to {asked}, the log says {outcome}")
        elif not error:
            if asked.kind in _CREATES and body.string() != outcome.path:
                raise Violation(f"Z1: {self.name} was told another path than {outcome.path}")
            if asked.kind in (*_CREATES, wire.SET):
                stat, there = body.stat(), model.at(outcome.path or asked.path, zxid).meta
                if there is None or stat != there.stat():
                    raise Violation(f"Z1: {self.name} was answered {stat} to {asked}, there is {there}")
        if outcome.code.name == "OK":
            self._shared.answered(zxid, self._ledger.scheduler.now)

    @staticmethod
    def _told(error: int, outcome: Outcome) -> bool:
        """Whether a reply's error says what the log does."""
        name = outcome.code.name
        return wire.CODES[error] == name or (error == -8 and name == "TOO_LARGE")

    def _same(self, logged: Any, asked: Any) -> bool:
        """Whether a request in the log is the one that a client has made."""
        if type(logged) is not type(asked):
            return False
        if isinstance(logged, Multi):
            return len(logged.operations) == len(asked.operations) and all(
                map(self._same, logged.operations, asked.operations)
            )
        if isinstance(logged, (Create, SetData)):
            plain = self._plain(logged.data) == asked.data.inline
            return plain and bool(logged._replace(data=asked.data) == asked)
        return bool(logged == asked)

    def _plain(self, data: Data) -> bytes:
        return self._ledger.blobs.get(data.blob, b"?") if data.blob else data.inline

    # ---- reads ---------------------------------------------------------------------------

    def _no_later(self, asked: Asked, later: Iterable[Asked], zxid: int) -> None:
        """A read shows no write of its connection that was asked for after it."""
        model = self._model
        after = [each for each in later if isinstance(each.operation, (Create, SetData))]
        for key in model.decided.get(self.session, [])[self._decided :]:
            outcome, operation = model.outcomes[key], model.requests[key].operation
            if outcome.code.name == "OK" and outcome.txid <= zxid:
                for each in after:
                    if self._same(operation, each.operation):
                        raise Violation(f"Z2: {self.name} was shown {each} by {asked}, which came before it")

    def _read(self, asked: Asked, zxid: int, error: int, body: Body) -> None:
        kind = asked.kind
        if kind in (wire.GET, wire.EXISTS, wire.CHILDREN, wire.CHILDREN2):
            self._node(kind, asked.path, zxid, error, body)
            self._current(asked, asked.path, zxid)
            if asked.watch and (not error or kind == wire.EXISTS):
                self.watches.setdefault((asked.path, asked.watch), Watch(zxid, True, not error))
        elif kind == wire.MULTI_READ:
            for part in asked.parts:
                _, _, wrong = body.take("ibi")
                if wrong:
                    body.take("i")
                self._node(part.kind, part.path, zxid, wrong, body)
                self._current(asked, part.path, zxid)
            body.take("ibi")
        elif kind == wire.EPHEMERALS:
            owned = {path for path in self._model.history if self._owner(path, zxid) == self.session}
            told = sorted(body.strings())
            if told != sorted(owned.intersection(told) if self._left else owned):
                raise Violation(f"{self.name} was told of the ephemerals {told} as of {zxid}, it has {owned}")
        elif kind == wire.SYNC:
            if zxid < asked.head:
                raise Violation(f"Z3: {self.name} synced to {zxid}, the log had {asked.head} before")
            if body.string() != asked.path:
                raise Violation(f"{self.name} synced another path")
        elif kind == wire.ADD_WATCH:
            body.take("i")
            watch = self.watches[asked.path, asked.watch]
            if not watch.sure:
                watch.sure, watch.since = True, zxid
        elif kind == wire.CHECK_WATCHES:
            self._expect(asked, error, bool(self._matching(asked)))
        elif kind == wire.REMOVE_WATCHES:
            left = [key for key in self._removing if self.watches.pop(key, None) is not None]
            if error or not self._removing or left:
                self._expect(asked, error, bool(left))
        elif kind == wire.SET_WATCHES2:
            self._set_again(zxid)

    def _owner(self, path: str, zxid: int) -> int:
        meta = self._model.at(path, zxid).meta
        return 0 if meta is None else meta.owner

    def _expect(self, asked: Asked, error: int, found: bool) -> None:
        if error != (0 if found else wire.NO_WATCHER):
            raise Violation(f"{self.name} was answered error {error} to {asked}, it has {list(self.watches)}")

    def _node(self, kind: int, path: str, zxid: int, error: int, body: Body) -> None:
        """Compare what is shown of a znode with the model's as of a zxid."""
        image = self._model.at(path, zxid)
        if error or image.meta is None:
            if error != wire.NO_NODE or image.meta is not None:
                raise Violation(f"Z3: {self.name} was shown error {error} of {path} as of {zxid}: {image}")
            return
        shown: list[Any] = []
        there: list[Any] = []
        if kind == wire.GET:
            self._ledger.reached["data in a blob"] += image.meta.blob != ""
            shown.append(body.buffer())
            there.append(self._content(image))
        elif kind in (wire.CHILDREN, wire.CHILDREN2):
            self._ledger.reached["children in pages"] += image.meta.pages > 0
            shown.append(sorted(body.strings()))
            there.append(sorted(image.children))
        if kind != wire.CHILDREN:
            shown.append(body.stat())
            there.append(image.meta.stat())
        if shown != there:
            raise Violation(f"Z3: {self.name} was shown {path} as {shown} as of {zxid}, it was {there}")

    def _current(self, asked: Asked, path: str, zxid: int) -> None:
        """A read shows each write of its path that somebody had an answer of when it was sent.

        From memory: those that were answered some time before that.
        """
        due = self._shared.at(asked.sent - self._behind) if self._behind else asked.acked
        written = self._model.at(path, due).txid
        if written > zxid:
            raise Violation(f"{self.name} was answered {asked} as of {zxid}, {written} was answered before")

    def _content(self, image: Image) -> bytes:
        blob = image.meta.blob if image.meta is not None else ""
        return self._ledger.blobs.get(blob, b"?") if blob else image.data

    # ---- watches -------------------------------------------------------------------------

    def _matching(self, asked: Asked) -> list[Key]:
        kinds = _MATCHING[int(asked.watch)]
        return [key for key in self.watches if key[0] == asked.path and key[1] in kinds]

    def _fired(self, txid: int, path: str, letter: str) -> list[Key]:
        """The watches that a change fires."""
        return [
            key
            for key, watch in self.watches.items()
            if watch.since < txid
            and letter in FIRES[key[1]]
            and (key[0] == path or (key[1] == "recursive" and path.startswith(key[0].rstrip("/") + "/")))
        ]

    def _passes(self, zxid: int, asked: Asked) -> None:
        """The connection is shown a state as of a transaction: all its events up to it have come."""
        happened = self._model.happened
        while self._at < len(happened) and happened[self._at][0] <= zxid:
            for key in self._fired(*happened[self._at]):
                if self.watches[key].sure:
                    raise Violation(
                        f"Z4: {self.name} was answered {asked} as of {zxid} before the event "
                        f"{happened[self._at]} of its {key[1]} watch"
                    )
            self._at += 1

    def prompt(self, before: int) -> None:
        """The events of all that happened before a time (ms) have come."""
        for change in self._model.happened[self._at :]:
            if self._ledger.decided(change[0]) < before and any(
                self.watches[key].sure for key in self._fired(*change)
            ):
                raise Violation(f"{self.name} was not sent the event {change}")

    def event(self, kind: int, path: str) -> None:
        """A watch's event."""
        letter = _LETTERS[kind]
        if self._heard is not None and self._heard_again(kind, path):
            return
        happened = self._model.happened
        while self._at < len(happened):
            change = happened[self._at]
            self._at += 1
            fired = self._fired(*change)
            if not fired:
                continue
            if change[1:] == (path, letter):
                for key in fired:
                    if key[1] in ONCE:
                        del self.watches[key]
                self.floor = max(self.floor, change[0])
                self._ledger.reached["an event"] += 1
                return
            if any(self.watches[key].sure for key in fired):
                raise Violation(
                    f"Z4: {self.name} was sent the event {letter} of {path}, the next is {change}"
                )
        raise Violation(
            f"Z4: {self.name} was sent the event {letter} of {path}, which none of its watches has"
        )

    def _heard_again(self, kind: int, path: str) -> bool:
        """Whether an event may be of a watch that is being set again; notes it."""
        plausible = any(
            txid > self._since and there == path and letter in _CAUSES[kind]
            for txid, there, letter in self._model.happened
        )
        found = False
        for key in self.lost:
            above = key[0].rstrip("/") + "/"
            covers = key[0] == path or (key[1] == "recursive" and path.startswith(above))
            if covers and plausible and kind in _MISSED[key[1]] and self._heard is not None:
                self._heard.add(key)
                found = True
        if found:
            self._ledger.reached["an event while watches are set again"] += 1
        return found

    def _set_again(self, zxid: int) -> None:
        """The watches of the connection before are set, or their events have come."""
        heard, self._heard = self._heard or set(), None
        for key, watch in self.lost.items():
            path, kind = key
            if kind in ONCE and key in heard:
                continue
            meta = self._model.at(path, zxid).meta
            if kind == "exists":
                missed = meta is not None
            elif kind == "data":
                missed = meta is None or meta.mzxid > self._since
            else:
                missed = kind == "children" and (meta is None or meta.pzxid > self._since)
            if missed:
                raise Violation(
                    f"Z4: the {kind} watch of {path} of {self.name} is set again as of {zxid}, since "
                    f"{self._since}, without the event of {meta}"
                )
            self.watches[key] = Watch(zxid, True, watch.present)
        self.lost.clear()
        self._ledger.reached["watches set again"] += 1

    def to_restore(self) -> dict[str, list[str]]:
        """Paths of the lost watches, by kind, as a client sets them again."""
        # A client waits by the data list for a znode that was there, whatever it had asked.
        for path, kind in [key for key, watch in self.lost.items() if key[1] == "exists" and watch.present]:
            watch = self.lost.pop((path, kind))
            self.lost.setdefault((path, "data"), watch)
        found: dict[str, list[str]] = {kind: [] for kind in FIRES}
        for path, kind in self.lost:
            found[kind].append(path)
        return found


def _results(body: Body) -> Sequence[int]:
    """The errors of a multi's operations."""
    found: list[int] = []
    while True:
        kind, done, _ = body.take("ibi")
        if done:
            return found
        if kind == -1:
            found.append(body.take("i")[0])
            continue
        found.append(0)
        if kind == wire.CREATE2:
            body.string()
            body.stat()
        elif kind == 1:
            body.string()
        elif kind == wire.SET:
            body.stat()
