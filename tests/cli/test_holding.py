"""A command that runs under a lock is gone before another holds the lock."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from faaskeeper.cli.errors import Failed
from faaskeeper.cli.holding import Guarded, Holding, Signals, check_grace
from faaskeeper.client import FaaSKeeperClient, SessionState
from faaskeeper.config import Config
from faaskeeper.core.errors import Unavailable
from faaskeeper.recipes import Lock
from faaskeeper.testing.patience import PATIENCE_S

GRACE_S = 0.5
LONG_S = 120
"""A time-out of sessions that nothing but the test ends, however busy the machine is."""
STUBBORN = 'trap "" TERM; while :; do sleep 0.05; done'
OBEYS = 'trap "exit 0" TERM; while :; do sleep 0.05; done'


@pytest.fixture
def timeout() -> int:
    """The sessions' time-out in s."""
    return LONG_S


@pytest.fixture
def config(tmp_path: Path, timeout: int) -> Config:
    return Config.deserialize(
        {
            "cloud-provider": "local",
            "deployment-name": "held",
            "directory": str(tmp_path / "service"),
            "session-timeout": timeout,
            "heartbeat-frequency": 1,
        }
    )


class Held:
    """A command under a lock, held by a thread of this process."""

    def __init__(self, client: FaaSKeeperClient, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.client = client
        self.lock = Lock(client, "/lock", "first")
        assert self.lock.acquire(PATIENCE_S)
        self.holding = Holding(client, self.lock, GRACE_S, 0.1)
        self.holding.prepare()
        self.status: int | Failed | None = None
        self._started = threading.Event()
        reports = Guarded.reports

        def heard(guarded: Guarded, timeout: float) -> list[tuple[str, int]] | None:
            found = reports(guarded, timeout)
            if ("started" in dict(found or ())) and not self._started.is_set():
                self.guarded = guarded
                self.pid = dict(found or ())["started"]
                self._started.set()
            return found

        monkeypatch.setattr(Guarded, "reports", heard)
        self._thread = threading.Thread(target=self._run, args=(script,))
        self._thread.start()
        assert self._started.wait(PATIENCE_S)

    def _run(self, script: str) -> None:
        try:
            self.status = self.holding.run(["sh", "-c", script], os.environ, Signals())
        except Failed as error:
            self.status = error

    def outcome(self) -> int | Failed | None:
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        return self.status

    @property
    def runs(self) -> bool:
        """Whether a process of the command's group exists that is not a zombie."""
        for each in Path("/proc").glob("[0-9]*/stat"):
            try:
                state, _, group = each.read_text().rpartition(")")[2].split()[:3]
            except OSError:
                continue
            if int(group) == self.pid and state != "Z":
                return True
        return False


def unreachable(client: FaaSKeeperClient, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Have each renewal of a client's lease fail; returns what ends that."""
    leases = client.connection.leases

    class Away:
        def __getattr__(self, name: str) -> object:
            return getattr(leases, name)

        def replace(self, lease: object) -> object:
            raise Unavailable("no way to the service")

        renew = replace

    monkeypatch.setattr(client.connection, "leases", Away())
    return lambda: monkeypatch.setattr(client.connection, "leases", leases)


Start = Callable[..., FaaSKeeperClient]


@pytest.fixture
def held(connect: Start, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Held]]:
    made: list[Held] = []

    def make(script: str) -> Held:
        made.append(Held(connect(), script, monkeypatch))
        return made[-1]

    yield make
    for each in made:
        if each.status is None:
            each.guarded.kill()
        each.outcome()


@pytest.mark.parametrize("timeout", [10])
def test_a_command_that_does_not_obey_is_gone_before_another_holds_the_lock(
    held: Callable[[str], Held], connect: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = held(f"({STUBBORN}) & {STUBBORN}")
    unreachable(first.client, monkeypatch)
    other = Lock(connect(), "/lock", "second")
    token = first.lock.token
    assert other.acquire(PATIENCE_S)
    assert not first.runs
    assert other.token > token
    outcome = first.outcome()
    assert isinstance(outcome, Failed)
    assert (outcome.status, "the lock /lock was lost" in str(outcome)) == (1, True)


@pytest.mark.parametrize("timeout", [15])
def test_a_command_survives_a_renewal_that_fails(
    held: Callable[[str], Held], timeout: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = held(OBEYS)
    suspended = threading.Event()
    renewed = threading.Event()
    states = {SessionState.SUSPENDED: suspended, SessionState.CONNECTED: renewed}
    first.client.add_listener(lambda state: states[state].set())
    again = unreachable(first.client, monkeypatch)
    assert suspended.wait(PATIENCE_S)
    again()
    assert renewed.wait(PATIENCE_S)
    assert first.client.lease_left > timeout / 2
    assert first.runs
    first.guarded.signal(signal.SIGTERM)
    assert first.outcome() == 0


def test_a_command_whose_contender_s_node_is_deleted_is_killed(
    held: Callable[[str], Held], connect: Start
) -> None:
    first = held(STUBBORN)
    connect().delete(first.lock.node or "")
    outcome = first.outcome()
    assert isinstance(outcome, Failed)
    assert "a client deleted its node" in str(outcome)
    assert not first.runs


def test_a_command_whose_session_was_ended_is_killed(held: Callable[[str], Held]) -> None:
    first = held(STUBBORN)
    leases = first.client.connection.leases
    lease = leases.get(int(first.client.session_id or "", 16))
    assert lease is not None
    leases.mark(lease)  # as heartbeat does
    session = first.client.session
    assert session is not None
    session.renew()
    outcome = first.outcome()
    assert isinstance(outcome, Failed)
    assert "the session has expired" in str(outcome)


def test_a_client_that_fails_has_its_command_end_within_the_lease(held: Callable[[str], Held]) -> None:
    first = held(OBEYS)
    session = first.client.session
    assert session is not None
    began = time.monotonic()
    session._failed(OSError("the disk is full"))
    outcome = first.outcome()
    assert isinstance(outcome, Failed)
    assert "the disk is full" in str(outcome)
    assert time.monotonic() - began < PATIENCE_S


def test_a_lock_lost_before_the_command_began_runs_nothing(connect: Start) -> None:
    client, other = connect(), connect()
    lock = Lock(client, "/lock")
    lock.acquire()
    other.delete(lock.node or "")
    with pytest.raises(Exception, match="was lost before the command began"):
        Holding(client, lock, 0, 0).prepare()


def test_a_service_that_answers_too_slowly_is_refused(connect: Start) -> None:
    client = connect()
    lock = Lock(client, "/lock")
    lock.acquire()
    with pytest.raises(Exception, match=rf"answers within 90 s, too slowly .* time-out of {LONG_S} s"):
        Holding(client, lock, 0, 90).prepare()


@pytest.mark.parametrize(
    ("grace", "timeout", "said"),
    [
        (9, 30, ""),
        (9.1, 30, "at most 9, or --session-timeout 30.3"),
        (0, 4, ""),
        (5, 4, "at most 0.333, or --session-timeout 18"),
    ],
)
def test_a_grace_that_does_not_fit_is_refused(grace: float, timeout: float, said: str) -> None:
    if not said:
        check_grace(grace, timeout)
        return
    with pytest.raises(Failed, match=said):
        check_grace(grace, timeout)
