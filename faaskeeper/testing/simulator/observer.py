"""What a session shows is checked at the moment it does, through its observer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from faaskeeper.client.futures import Future
from faaskeeper.client.session import Session
from faaskeeper.core.errors import Code
from faaskeeper.core.firing import STAYING
from faaskeeper.core.records import Record
from faaskeeper.core.requests import Operation, Outcome
from faaskeeper.session.commands import Command, ReadBlob, ReadLog, ReadMark
from faaskeeper.session.observer import Observer
from faaskeeper.session.rules import names_of
from faaskeeper.session.watching import Watch
from faaskeeper.testing.simulator.client_view import ClientView, WatchSeen
from faaskeeper.testing.simulator.ledger import Ledger
from faaskeeper.testing.simulator.preempt import preempt
from faaskeeper.testing.simulator.scheduler import Violation
from faaskeeper.watch import WatchCallbackType, WatchedEvent


class Callback:
    """A watch's callback, by which the observer finds the watch."""

    def __init__(self, seen: WatchSeen) -> None:
        self.seen = seen

    def __call__(self, event: WatchedEvent) -> None:
        """Do nothing: the event was checked when it was queued."""


def observe(session: Session, view: ClientView, ledger: Ledger) -> None:
    """Have everything checked that a session shows from now on."""
    if ledger.plan.preempt:
        preempt(session, ledger.scheduler)
    state = vars(session.rules)
    view.view = max(view.view, state["seen"])
    if state["seen"] < view.view:
        raise Violation(f"Z3: {view.name} goes on at {state['seen']}, {view.view} was shown before")
    session.rules.observer = CheckingObserver(ledger, view, session)


class CheckingObserver(Observer):
    """Checks what a session shows against its :class:`ClientView`."""

    def __init__(self, ledger: Ledger, view: ClientView, session: Session) -> None:
        self._ledger = ledger
        self._view = view
        self._session = session
        self._state = vars(session.rules)  # without the switches of preempt
        self._sent: list[Future[Any]] = []

    def asked(self, operation: Operation, request: Any) -> None:
        self._sent.append(request)

    def answered(self, request: Any, outcome: Outcome) -> None:
        if outcome.code is Code.FORGOTTEN:
            raise Violation(f"Z1: {self._view.name} waits for {request.what}, whose outcome was not kept")
        self._view.answered(outcome.txid)

    def reads(self) -> list[Future[Any]]:
        self._sent = [future for future in self._sent if not future.done()]
        return list(self._sent)

    def has_read(self, began: Any) -> None:
        unanswered = [each.future for each in self._session.outbox.waiters()]
        late = [future.what for future in began if any(future is each for each in unanswered)]
        if late:
            raise Violation(f"Z2: {self._view.name} was shown something before {late} was answered")

    def shown(self, path: str, record: Record | None) -> None:
        self._view.shown(path, record)

    def shown_together(self, records: dict[str, Record | None], listed: Sequence[str]) -> None:
        self._view.together(records, self._state["seen"])
        for path in listed:
            self._view.listed(path, names_of(path, records))
        if any("//" in path for path in records):
            self._ledger.reached["children in pages"] += 1

    def watched(self, watch: Watch, record: Record | None) -> None:
        seen = _seen(watch.callback)
        if watch.kind in STAYING:
            seen.since = watch.stamp
            self._view.watches.append(seen)
            self._ledger.reached["a watch that stays"] += 1
        else:
            self._view.shown(watch.path, record)
            self._view.set(seen, self._state["seen"] if record is None else 0)

    def forgotten(self, path: str, watches: Sequence[Watch]) -> None:
        for watch in watches:
            _seen(watch.callback).over = True

    def fired(self, callback: WatchCallbackType, event: WatchedEvent) -> None:
        self._view.fire(_seen(callback), event)

    def performed(self, command: Command, answer: object) -> None:
        if isinstance(command, ReadLog):
            name = "read the log between" if answer is not None else "the log between was trimmed"
            self._ledger.reached[name] += 1
        elif isinstance(command, ReadMark):
            self._ledger.reached["read the mark"] += 1
        elif isinstance(command, ReadBlob):
            if answer is not None and answer != self._ledger.blobs.get(command.name):
                raise Violation(f"the data {answer!r} is shown of {command.name}, which is another")
            self._ledger.reached["data that is lost"] += answer is None


def _seen(callback: Any) -> WatchSeen:
    if not isinstance(callback, Callback):
        raise AssertionError(f"a watch of the simulator calls {callback!r}")
    return callback.seen
