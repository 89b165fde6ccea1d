"""What one client has been shown and what it watches, checked against the model's history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from faaskeeper.core.firing import FIRED_BY, STAYING
from faaskeeper.core.records import Record
from faaskeeper.testing.simulator.model import Model
from faaskeeper.testing.simulator.scheduler import Violation
from faaskeeper.watch import WatchedEvent

_TYPES = {"C": 0, "D": 1, "S": 2, "K": 3}
"""Letters of changes, and the types of the events that they cause."""


class ClientView:
    """The checks of one client: what it has been shown so far, and what it watches."""

    def __init__(self, model: Model, name: str) -> None:
        self.model = model
        self.name = name
        self.view = 0
        """The txid of the newest state that it was shown anything of."""
        self.last_event = 0
        self.watches: list[WatchSeen] = []

    def shown(self, path: str, record: Record | None) -> None:
        """A read returns a record."""
        model = self.model
        meta = None if record is None else record.meta
        if record is None or meta is None:
            view = self.view if record is None else max(self.view, record.txid)
            while view <= model.head and model.at(path, view).meta is not None:
                view += 1
            if view > model.head:
                raise Violation(f"Z3: {self.name} was shown no {path}, there is one since {self.view}")
            self.view = view
        else:
            view = max(self.view, record.txid)
            image = model.at(path, view)
            if image.txid != record.txid:
                raise Violation(
                    f"Z3: {self.name} at {view} was shown {path} of {record.txid}, it is of {image.txid}"
                )
            if (meta, record.data, tuple(record.children)) != image.stored():
                raise Violation(f"{self.name} was shown {path} as {record}, it was {image}")
            self.view = view
        self.ordered(f"{path}")

    def together(self, records: Mapping[str, Record | None], seen: int) -> None:
        """Several paths are shown as of one transaction, the client's ``seen``."""
        for path, record in records.items():
            image = self.model.at(path, seen)
            shown = (None, b"", ()) if record is None else (record.meta, record.data, tuple(record.children))
            if shown != image.stored():
                raise Violation(f"Z3: {self.name} was shown {path} as {record} as of {seen}, it was {image}")
        self.view = max(self.view, seen)
        self.ordered(f"{list(records)}")

    def listed(self, path: str, names: Sequence[str]) -> None:
        """The names of all children are returned, as of what was shown last."""
        image = self.model.at(path, self.view)
        if list(image.children) != list(names):
            raise Violation(f"{self.name} was shown {names} below {path}, there were {image}")

    def answered(self, txid: int) -> None:
        """An answer as of a transaction is returned."""
        self.view = max(self.view, txid)
        self.ordered(f"an answer of {txid}")

    def ordered(self, what: str) -> None:
        """Z4: check that the events up to the shown state came before it. ``what``: was shown."""
        for watch in self.watches:
            if not watch.fired and not watch.over:
                due = watch.due(self.model, self.view)
                if due is not None:
                    raise Violation(
                        f"Z4: {self.name} was shown {what} of {self.view} before the event {due} of {watch}"
                    )

    def watch(self, path: str, kind: str) -> WatchSeen:
        """Make a watch that is about to be set; see :meth:`set`."""
        return StayingSeen(path, kind) if kind in STAYING else WatchSeen(path, kind)

    def set(self, watch: WatchSeen, seen: int) -> None:
        """A watch was set, by the read that was just shown.

        ``seen``: the client's. "Absent" without a tombstone held at several txids; the watch counts
        from the last of them.
        """
        watch.since = max(self.view, seen)
        self.watches.append(watch)

    def fire(self, watch: WatchSeen, event: WatchedEvent) -> None:
        """An event is announced."""
        txid = event.timestamp
        if watch.over:
            raise Violation(f"{self.name}: {watch} fired by {txid}, it was removed before")
        if isinstance(watch, StayingSeen):
            self._stayed(watch, event)
            return
        if watch.fired:
            raise Violation(f"{self.name}: {watch} fired twice, by {watch.fired} and {txid}")
        watch.fired = txid
        if watch.since >= 0:
            due = watch.due(self.model, self.model.head)
            if self.model.trimmed and due is not None and txid >= due[0]:
                due = (txid, event.event_type.value)
            if due is None or due[0] != txid:
                raise Violation(f"{self.name}: {watch} fired by {txid}, the first that counts is {due}")
            if event.event_type.value != due[1]:
                raise Violation(f"{self.name}: {watch} fired {event}, it was type {due[1]}")
        self._announced(txid)

    def _stayed(self, watch: StayingSeen, event: WatchedEvent) -> None:
        """A persistent or recursive watch fires for each event that counts, in order."""
        fired = (event.timestamp, event.path, event.event_type.value)
        due = watch.next(self.model, self.model.head)
        if self.model.trimmed and due != fired:
            watch.skip(self.model, event.timestamp)
        elif due != fired:
            raise Violation(f"{self.name}: {watch} fired {fired}, the next that counts is {due}")
        else:
            watch.fired_events += 1
        self._announced(event.timestamp)

    def _announced(self, txid: int) -> None:
        if txid < self.last_event:
            raise Violation(f"Z4: {self.name} received the event {txid} after {self.last_event}")
        self.last_event = txid
        self.view = max(self.view, txid)

    def settle(self) -> None:
        """At rest: check that every watch with a cause has fired."""
        for watch in self.watches:
            due = watch.due(self.model, self.model.head)
            if due is not None and not watch.fired and not watch.over:
                raise Violation(f"{self.name}: {watch} never fired {due}")

    def restart(self) -> None:
        """Another process resumes the session: the watches of its predecessor are gone."""
        for watch in self.watches:
            watch.over = True
        self.last_event = 0


class WatchSeen:
    """A watch as the checks see it. ``since``: the txid at which it was set; -1: not yet."""

    def __init__(self, path: str, kind: str) -> None:
        self.path = path
        self.kind = kind
        self.since = -1
        self.fired = 0
        self.over = False
        """It was removed."""

    def due(self, model: Model, upto: int) -> tuple[int, int] | None:
        """The first event after it was set, at or below ``upto``: txid and type."""
        for txid, letters in model.events.get(self.path, ()):
            if self.since < txid <= upto:
                for letter in letters:
                    if letter in FIRED_BY[self.kind]:
                        return txid, _TYPES[letter]
        return None

    def __repr__(self) -> str:
        return f"the {self.kind} watch of {self.path} since {self.since}"


class StayingSeen(WatchSeen):
    """A persistent or recursive watch. ``fired_events``: how many it has fired."""

    def __init__(self, path: str, kind: str) -> None:
        super().__init__(path, kind)
        self.fired_events = 0

    def _events(self, model: Model, upto: int) -> list[tuple[int, str, int]]:
        below = "/" if self.path == "/" else f"{self.path}/"
        return [
            (txid, path, _TYPES[letter])
            for txid, path, letter in model.happened
            if self.since < txid <= upto
            and letter in FIRED_BY[self.kind]
            and (path == self.path or (self.kind == "recursive" and path.startswith(below)))
        ]

    def next(self, model: Model, upto: int) -> tuple[int, str, int] | None:
        """The first event that it has not fired: txid, path and type."""
        events = self._events(model, upto)
        return events[self.fired_events] if self.fired_events < len(events) else None

    def skip(self, model: Model, upto: int) -> None:
        """Events up to a transaction are not announced one by one."""
        self.fired_events = len(self._events(model, upto))

    def due(self, model: Model, upto: int) -> tuple[int, int] | None:
        found = self.next(model, upto) if self.since >= 0 else None
        return None if found is None else (found[0], found[2])
