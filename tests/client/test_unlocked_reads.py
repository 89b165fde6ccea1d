"""A read that takes no lock, against every moment at which another thread may be in the middle of the rules.

The rules' steps run once, and their state is kept at each instruction. Then the unlocked read runs with every
choice of moments at which it begins, reads storage, and looks at each part of the rules' state.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations_with_replacement
from typing import Any, NamedTuple

import pytest

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.core.records import Record
from faaskeeper.core.requests import Epoch
from faaskeeper.core.znode import genesis
from faaskeeper.session import rules as module
from faaskeeper.session.rules import Rules
from faaskeeper.session.watching import Watch
from faaskeeper.testing.patience import PATIENCE_S
from faaskeeper.watch import WatchedEvent

META = next(iter(genesis().values()))[0]
WRITTEN = {"/a": (1, 2, 5), "/b": (1, 3)}
"""The transactions that wrote each path."""
GROUP = Epoch(1, 3, ((2, (("/a", "S"),)), (3, (("/b", "S"),))))
"""Sets /a, then /b."""
NEXT = Epoch(3, 5, ((4, (("/c", "S"),)), (5, (("/a", "S"),))))


class Moment(NamedTuple):
    """All that an unlocked read may look at, and what was promised by then.

    ``shown``: as of which transaction anything was returned.
    """

    ticket: int
    seen: int
    least: dict[str, int]
    fired: int
    stored: tuple[tuple[str, Record], ...]
    shown: int


class Scene:
    """Rules, a storage of two paths, and every moment of what happens to them."""

    def __init__(self) -> None:
        self.fired = 1
        self.shown = 1
        self.rules = Rules(1, self._fire)
        self.moments: list[Moment] = []
        self.stored = {path: Record(1, META, b"", [], 0, 1, "") for path in WRITTEN}
        for path in WRITTEN:
            self.rules._keep(Watch(path, "persistent", 1, True, print))
        self.note()

    def _fire(self, callback: object, event: WatchedEvent) -> None:
        self.fired = event.timestamp
        self.note()

    def put(self, path: str, txid: int, upto: int) -> None:
        """A distributor writes a record."""
        self.stored[path] = Record(txid, META, b"", [], 0, upto, "")
        self.note()

    def meet(self, epoch: Epoch, settled: bool) -> None:
        """A thread that holds the lock meets an epoch, and shows it."""
        steps = self.rules.meet(epoch, settled=settled)
        with pytest.raises(StopIteration):
            self.traced(lambda: next(steps))
        self.shown = self.rules.seen
        self.note()

    def applied(self, txid: int) -> None:
        """A thread that holds the lock learns the mark."""
        self.traced(lambda: self.rules.note_applied(txid))

    def traced(self, act: Callable[[], object]) -> None:
        def trace(frame: Any, event: str, arg: object) -> Any:
            if frame.f_code.co_filename != module.__file__:
                return None
            frame.f_trace_opcodes = True
            self.note()
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            act()
        finally:
            sys.settrace(before)

    def note(self) -> None:
        rules = self.rules
        stored = tuple(self.stored.items())
        moment = Moment(rules.ticket, rules.seen, dict(rules._least), self.fired, stored, self.shown)
        if not self.moments or self.moments[-1] != moment:
            self.moments.append(moment)


class AsOf:
    """The rules' state, each part as of a moment of its own."""

    def __init__(self, moments: Iterator[Moment]) -> None:
        self._moments = moments
        self.last: Moment | None = None

    def __getattr__(self, name: str) -> Any:
        self.last = next(self._moments)
        return getattr(self.last, name.removeprefix("_"))


def check(moments: Sequence[Moment]) -> int:
    """Read each path at all combinations of moments; returns how many of the reads were accepted."""
    accepted = 0
    for path, written in WRITTEN.items():
        for begun, read, *looked in combinations_with_replacement(moments, 6):
            record = dict(read.stored)[path]
            state = AsOf(iter(looked))
            if not Rules.accepts(state, path, record, begun.ticket):  # type: ignore[arg-type]
                continue
            accepted += 1
            assert state.last is not None
            promised = max(begun.shown, begun.fired)
            least = max(txid for txid in written if txid <= promised)
            assert record.txid >= least, f"Z3: {path} of {record.txid} was shown, {promised} was before"
            assert state.last.fired >= record.txid, f"Z4: {path} of {record.txid} was shown before its event"
    return accepted


def one_by_one(scene: Scene) -> None:
    scene.put("/b", 3, 3)
    scene.meet(GROUP, settled=False)
    scene.put("/a", 2, 3)
    scene.applied(3)


def all_at_once(scene: Scene) -> None:
    scene.put("/a", 2, 3)
    scene.put("/b", 3, 3)
    scene.meet(GROUP, settled=True)


def two_groups(scene: Scene) -> None:
    scene.put("/b", 3, 3)
    scene.meet(GROUP, settled=False)
    scene.put("/a", 2, 3)
    scene.meet(NEXT, settled=False)
    scene.put("/a", 5, 5)


def mark_by_the_way(scene: Scene) -> None:
    scene.put("/b", 3, 3)
    scene.meet(GROUP, settled=False)
    scene.put("/a", 2, 3)
    scene.put("/a", 5, 5)
    scene.meet(NEXT, settled=True)


@pytest.mark.parametrize("happens", [one_by_one, all_at_once, two_groups, mark_by_the_way])
def test_an_unlocked_read_keeps_all_promises_at_any_moment(happens: Callable[[Scene], None]) -> None:
    scene = Scene()
    happens(scene)
    assert scene.moments[-1].fired == scene.rules.seen
    assert check(scene.moments) > 100


def test_while_an_event_is_being_queued_its_cause_is_not_shown_to_other_threads(
    client: FaaSKeeperClient, connect: Callable[..., FaaSKeeperClient]
) -> None:
    writer = connect()
    writer.create("/n", b"0")
    session = client._session
    assert session is not None
    rules, fire = session.rules, session.rules._fire
    accepted: list[bool] = []
    told = threading.Event()

    def fired(callback: Any, event: WatchedEvent) -> None:
        record = session.connection.records.get("/n")
        assert record is not None
        assert record.data == b"1"
        accepted.append(rules.accepts("/n", record, rules.ticket))
        fire(callback, event)

    client.get_data("/n", lambda event: told.set())
    rules._fire = fired
    writer.set_data("/n", b"1")
    assert told.wait(PATIENCE_S)
    assert accepted == [False]
    assert client.get_data("/n").data == b"1"
