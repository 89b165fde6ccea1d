"""A server's own lease: what the server takes it for is never more than what the store has."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from faaskeeper.core.connection import Connection
from faaskeeper.core.errors import Code, Unavailable
from faaskeeper.core.requests import Epoch, Outcome, Reply
from faaskeeper.core.sessions import Lease, Leases, served_ms
from faaskeeper.gateway.lease import LEASE_MS, ServerLease
from faaskeeper.providers.memory import MemoryTable
from faaskeeper.session.timing import RENEWALS

SESSION = 7
SHORT_MS = 4_000


class Runner:
    """Calls drivers as a pool does: a call goes on when nobody waits for it any more."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.calls: list[asyncio.Task[Any]] = []
        self.hold: asyncio.Event | None = None
        """The next calls wait for it."""

    async def call(self, function: Callable[..., Any], *args: Any) -> Any:
        hold, self.hold = self.hold, None

        async def called() -> Any:
            if hold is not None:
                await hold.wait()
            return function(*args)

        self.calls.append(asyncio.get_running_loop().create_task(called()))
        return await asyncio.shield(self.calls[-1])

    async def perform(self, steps: str) -> None:
        if self.server.away:
            raise Unavailable("the log cannot be read")
        self.server.met.append(steps)

    def begin(self, session: int, address: str) -> None:
        """See :class:`faaskeeper.gateway.runner.StepRunner`."""


class Unsure(Leases):
    """Leases whose writes may take effect without an answer, for which one waits a second."""

    def __init__(self, server: Server) -> None:
        super().__init__(MemoryTable())
        self._server = server
        self.lost = False

    def replace(self, lease: Lease) -> Lease:
        replaced = super().replace(lease)
        if self.lost:
            self._server.now += 1
            raise Unavailable("the answer was lost")
        return replaced


class Sender:
    """Brings the answer to the server's opening, some time after it was made."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.late = 0.0

    async def ask(self, nonce: str, *_: Any, **__: Any) -> Reply:
        server = self._server
        server.leases.grant(SESSION, server.service_ms() + LEASE_MS, LEASE_MS)
        outcomes = ((0, Outcome(Code.OK, SESSION)),)
        reply = Reply(SESSION, 0, outcomes, Epoch(0, 0, ()), server.service_ms(), nonce=nonce)
        server.now += self.late
        return reply


class Server:
    """The lease of a server whose clock stands unless it is moved, and is behind the service's."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.runner = Runner(self)
        self.leases = Unsure(self)
        self.rung = 0
        self.away = False
        """The log and its mark cannot be read."""
        fields: dict[str, Any] = dict.fromkeys(
            ("records", "log", "watches", "worker_queue", "channel", "blobs", "inline_bytes", "close")
        )
        connection = Connection(
            **fields,
            applied=self.applied,
            leases=self.leases,
            ring=self.ring,
            clock=lambda: self.service_ms() - 31_000,
        )
        self.met: list[str] = []
        """What the rules performed."""
        rules = SimpleNamespace(
            watching=True,
            follows=False,
            seen=1,
            sync=lambda: "sync",
            meet=lambda epoch, settled: "meet",
        )
        watches: Any = SimpleNamespace(runner=self.runner, rules=rules)
        receiver: Any = SimpleNamespace(identify=lambda session, secret: None, address="")
        self.sender = Sender(self)
        sender: Any = self.sender
        self.lease = ServerLease(
            connection,
            watches,
            receiver,
            sender,
            {},
            on_lost=lambda why: None,
            random=bytes,
            now=lambda: self.now,
        )

    def service_ms(self) -> int:
        """The service's clock."""
        return 1_700_000_000_000 + int(self.now * 1000)

    def applied(self) -> int:
        """See :class:`faaskeeper.core.connection.Connection`."""
        if self.away:
            raise Unavailable("the mark cannot be read")
        return 0

    def ring(self) -> None:
        """See :class:`faaskeeper.core.connection.Connection`."""
        self.rung += 1
        raise Unavailable("the queue is away")

    async def shorten_without_an_answer(self) -> None:
        """Have the lease's time-out shortened; it takes effect, but nobody hears of it."""
        self.leases.lost = True
        with pytest.raises(Unavailable):
            await self.lease.cover(SHORT_MS)
        self.leases.lost = False

    @property
    def stored(self) -> Lease:
        """The lease in the store."""
        found = self.leases.get(SESSION)
        assert found is not None
        return found


def test_a_renewal_that_nobody_waits_for_any_more_does_not_set_a_later_one_back() -> None:
    async def run() -> None:
        server = Server()
        await server.lease.start()
        server.runner.hold = hold = asyncio.Event()
        before = len(server.runner.calls)
        client = asyncio.create_task(server.lease.cover(SHORT_MS))
        while len(server.runner.calls) == before:
            await asyncio.sleep(0)
        client.cancel()
        with pytest.raises(asyncio.CancelledError):
            await client
        server.now += 20
        later = asyncio.create_task(server.lease.renew())
        for _ in range(20):
            await asyncio.sleep(0)
        hold.set()
        await later
        await asyncio.gather(*server.runner.calls)
        assert (server.stored.timeout, server.stored.expires) == (LEASE_MS, server.service_ms() + LEASE_MS)

    asyncio.run(run())


def test_a_server_keeps_to_a_shorter_lease_that_may_have_been_written() -> None:
    async def run() -> None:
        server = Server()
        await server.lease.start()
        began = server.now
        await server.shorten_without_an_answer()
        assert server.stored.timeout == SHORT_MS, "it took effect"
        assert server.lease.serves(began + served_ms(SHORT_MS) / 1000 - 0.1)
        assert not server.lease.serves(began + served_ms(SHORT_MS) / 1000)

    asyncio.run(run())


def test_a_session_is_not_covered_by_a_shorter_lease_that_was_not_written() -> None:
    async def run() -> None:
        server = Server()
        await server.lease.start()
        await server.shorten_without_an_answer()
        written = server.stored.version
        await server.lease.cover(SHORT_MS + 2_000)
        assert (server.stored.version, server.stored.timeout) == (written + 1, SHORT_MS + 2_000)

    asyncio.run(run())


def test_a_renewal_that_failed_is_tried_again_at_once_if_that_took_a_second() -> None:
    """Whoever asked for it: the server serves for less than its keeper was to wait."""

    async def run() -> None:
        server = Server()
        await server.lease.start()
        keeping = asyncio.create_task(server.lease.keep())
        await asyncio.sleep(0)
        await server.shorten_without_an_answer()
        written = server.stored.version
        async with asyncio.timeout(LEASE_MS / 1000 / RENEWALS / 4):
            while server.stored.version == written:
                await asyncio.sleep(0)
        keeping.cancel()

    asyncio.run(run())


def test_a_server_that_took_in_its_first_answer_late_has_no_lease_that_is_overdue() -> None:
    async def run() -> None:
        server = Server()
        server.sender.late = 9.0
        await server.lease.start()
        await server.lease.cover(SHORT_MS)
        assert server.stored.expires >= server.service_ms() + SHORT_MS

    asyncio.run(run())


def test_who_waits_for_a_write_does_not_fail_because_the_service_could_not_be_asked() -> None:
    async def run() -> None:
        server = Server()
        server.lease.ring(0.01)
        assert server.rung == 1

    asyncio.run(run())


def test_a_lease_stands_and_the_log_is_met_later_where_it_cannot_be_read_at_a_renewal(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def run() -> None:
        server = Server()
        await server.lease.start()
        server.met.clear()
        server.lease.returned()
        server.away = True
        server.now += 5
        await server.lease.renew()
        assert server.stored.expires == server.service_ms() + LEASE_MS
        assert server.lease.serves(server.now + served_ms(LEASE_MS) / 1000 - 1)
        assert server.met == []
        server.away = False
        await server.lease.renew()
        assert server.met == ["sync"]
        await server.lease.renew()
        assert server.met == ["sync", "meet"]

    asyncio.run(run())
    assert "the lease was renewed" in caplog.text
