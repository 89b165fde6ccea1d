"""One server with many znodes, sessions and watches: memory, CPU at rest, latencies, and a restart.

``fk serve``, embedded, in a process of its own; clients are bare connections of one asyncio loop.
Each step adds to what is there: znodes, connected sessions that ping, watches. After each the
resident memory is read, and the CPU that the server takes in ten seconds at rest. Then one client
sends gets and sets, 9 to 1, at a fixed rate whatever the answers; latencies count from when each
was due. The same again beside clients that send much and read nothing. Then a second server joins
the directory and half of the sessions move to it; the first is killed, and its sessions come to the
second, which takes the directory over. At last that is killed and started again.

Run it with ``python -m benchmarks.growth``; ``--scale 0.1`` makes everything a tenth.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import signal
import statistics
import struct
import tempfile
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

from rich.console import Console
from rich.table import Table

from benchmarks.gateway import GatewayServer

CREATE, EXISTS, GET, SET = 1, 3, 4, 5
PING = struct.pack(">iii", 8, -2, 11)
TIMEOUT_MS = 30_000
RATE = 1_000
_REST_S = 10.0
_LOADED_S = 20.0
_DATA = b"x" * 1024
_ACL = struct.pack(">ii", 1, 31) + b"\0\0\0\x05world\0\0\0\x06anyone"


def _string(value: bytes) -> bytes:
    return struct.pack(">i", len(value)) + value


class Connection(asyncio.Protocol):
    """A session: replies come in the order of requests, so no xids are kept."""

    def __init__(self, session: int = 0, password: bytes = bytes(16)) -> None:
        self.session = session
        self.password = password
        self.events = 0
        self.connected: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting: deque[Callable[[int], None]] = deque()
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        record = struct.pack(">iqiq", 0, 0, TIMEOUT_MS, self.session) + _string(self.password)
        transport.write(struct.pack(">i", len(record)) + record)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.connected.done():
            self.connected.set_exception(ConnectionResetError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        at = 0
        while len(self._buffer) - at >= 4:
            (length,) = struct.unpack_from(">i", self._buffer, at)
            if len(self._buffer) - at < 4 + length:
                break
            self._frame(at + 4, length)
            at += 4 + length
        del self._buffer[:at]

    def _frame(self, at: int, length: int) -> None:
        if not self.connected.done():
            _, granted, self.session = struct.unpack_from(">iiq", self._buffer, at)
            self.password = bytes(self._buffer[at + 20 : at + 36])
            if granted:
                self.connected.set_result(None)
            else:
                self.connected.set_exception(ConnectionResetError("the session has expired"))
            return
        xid, _, error = struct.unpack_from(">iqi", self._buffer, at)
        if xid == -1:
            self.events += 1
        elif xid != -2:
            self.waiting.popleft()(error)

    def send(self, kind: int, body: bytes, done: Callable[[int], None]) -> None:
        """Send a request; ``done`` gets the error of its reply."""
        assert self._transport is not None
        self.waiting.append(done)
        self._transport.write(struct.pack(">iii", 8 + len(body), 1, kind) + body)

    def ping(self) -> None:
        """Send a ping."""
        assert self._transport is not None
        self._transport.write(PING)

    def pause(self) -> None:
        """Read nothing any more."""
        assert self._transport is not None
        self._transport.pause_reading()

    def close(self) -> None:
        """End the connection, not the session."""
        assert self._transport is not None
        self._transport.abort()


async def connect(port: int, session: int = 0, password: bytes = bytes(16)) -> Connection:
    """A connection that has its session. Raises OSError."""
    loop = asyncio.get_running_loop()
    _, made = await loop.create_connection(lambda: Connection(session, password), "127.0.0.1", port)
    await made.connected
    return made


async def some_at_once(number: int, calls: Iterable[Callable[[], Awaitable[object]]]) -> None:
    """Run calls, so many at a time."""
    left = iter(calls)

    async def work() -> None:
        for call in left:
            await call()

    await asyncio.gather(*(work() for _ in range(number)))


async def requests(connection: Connection, kind: int, bodies: Iterable[bytes], most: int = 500) -> None:
    """Send requests, at most so many without an answer. Raises RuntimeError for an error."""
    room = asyncio.Semaphore(most)
    errors: list[int] = []

    def done(error: int) -> None:
        room.release()
        if error:
            errors.append(error)

    for body in bodies:
        await room.acquire()
        connection.send(kind, body, done)
    for _ in range(most):
        await room.acquire()
    if errors:
        raise RuntimeError(f"{len(errors)} requests failed, the first with error {errors[0]}")


class Growth:
    """The server and what it holds."""

    def __init__(self, server: GatewayServer, scale: float) -> None:
        self.server = server
        self.scale = scale
        self.sessions: list[Connection] = []
        self.paths: list[bytes] = []
        self.rows: list[tuple[str, str, str, str]] = []

    def number(self, whole: int) -> int:
        return max(1, int(whole * self.scale))

    async def run(self) -> None:
        pinging = asyncio.create_task(self._ping())
        await self._step("started", self._nothing())
        await self._step(f"{self.number(10**6):,} znodes of 100 bytes", self._create(self.number(10**6)))
        await self._step(f"{self.number(10_000):,} sessions", self._connect(self.number(10_000)))
        await self._step(f"{self.number(100_000):,} watches", self._watch(self.number(100_000)))
        quiet = await self._loaded()
        self.rows.append((f"{RATE:,} requests a second", quiet, "", ""))
        greedy = [await self._greedy() for _ in range(10)]
        beside = await self._loaded()
        self.rows.append(("the same beside 10 clients that do not read", beside, "", ""))
        for each in greedy:
            each.close()
        pinging.cancel()
        with suppress(asyncio.CancelledError):
            await pinging
        await self._joined()
        await self._killed()

    async def _nothing(self) -> None:
        """Nothing is added."""

    async def _step(self, name: str, adding: Awaitable[None]) -> None:
        began = time.perf_counter()
        await adding
        took = time.perf_counter() - began
        before, _ = self.server.used()
        await asyncio.sleep(_REST_S)
        after, memory = self.server.used()
        rest = 100 * (after - before) / _REST_S
        self.rows.append((name, f"{took:.1f} s", f"{memory:,.0f} MB", f"{rest:.1f} %"))

    async def _ping(self) -> None:
        while True:
            sessions = list(self.sessions)
            began = time.monotonic()
            for number, each in enumerate(sessions):
                each.ping()
                if number % 100 == 99:
                    due = began + TIMEOUT_MS / 3_000 * number / len(sessions)
                    await asyncio.sleep(max(0.0, due - time.monotonic()))
            await asyncio.sleep(max(0.05, began + TIMEOUT_MS / 3_000 - time.monotonic()))

    async def _create(self, znodes: int) -> None:
        parents = max(1, znodes // 1_000)
        self.paths = [b"/p%d/n%d" % (number % parents, number) for number in range(znodes)]
        connection = await connect(self.server.port)
        self.sessions.append(connection)
        rest = _string(b"x" * 100) + _ACL + struct.pack(">i", 0)
        await requests(connection, CREATE, (_string(b"/p%d" % each) + rest for each in range(parents)))
        await requests(connection, CREATE, (_string(path) + rest for path in self.paths))

    async def _connect(self, sessions: int) -> None:
        async def one() -> None:
            self.sessions.append(await connect(self.server.port))

        await some_at_once(100, itertools.repeat(one, sessions))

    async def _watch(self, watches: int) -> None:
        watched = self.paths[: self.number(10_000)]
        each = max(1, watches // len(self.sessions))

        def calls() -> Iterable[Callable[[], Awaitable[object]]]:
            places = itertools.cycle(watched)
            for session in self.sessions:
                bodies = [_string(next(places)) + b"\1" for _ in range(each)]
                yield lambda session=session, bodies=bodies: requests(session, GET, bodies, most=each)

        await some_at_once(100, calls())

    async def _loaded(self) -> str:
        """Latencies of gets and sets at a fixed rate, of paths that nobody watches."""
        connections = [await connect(self.server.port) for _ in range(10)]
        paths = self.paths[self.number(10_000) :] or self.paths
        took: dict[int, list[float]] = {GET: [], SET: []}
        began = time.perf_counter()
        total = int(RATE * _LOADED_S)
        for number in range(total):
            due = began + number / RATE
            if (left := due - time.perf_counter()) > 0:
                await asyncio.sleep(left)
            kind = SET if number % 10 == 0 else GET
            path = _string(random.choice(paths))
            body = path + (_string(_DATA) + struct.pack(">i", -1) if kind == SET else b"\0")

            def done(error: int, due: float = due, kind: int = kind) -> None:
                took[kind].append(time.perf_counter() - due)

            connections[number % 10].send(kind, body, done)
        while sum(map(len, took.values())) < total:
            await asyncio.sleep(0.1)
        for each in connections:
            each.close()
        return ", ".join(
            f"{name} {1e3 * statistics.median(some):.1f} / {1e3 * statistics.quantiles(some, n=100)[98]:.1f}"
            for name, some in (("get", took[GET]), ("set", took[SET]))
        )

    async def _greedy(self) -> Connection:
        """A client that asks for much, again and again, and reads nothing."""
        connection = await connect(self.server.port)
        connection.pause()
        body = _string(self.paths[0]) + b"\0"
        for _ in range(20_000):
            connection.send(GET, body, lambda error: None)
        return connection

    async def _joined(self) -> None:
        """Kill a server beside which another runs, and count the time until its sessions are there."""
        first, second = self.server, GatewayServer(str(self.server.directory.parent), beside=self.server)
        self.server = second
        some = range(len(self.sessions) // 2)
        began = time.perf_counter()
        await self._back(range(len(some), len(self.sessions)))
        moved = len(self.sessions) - len(some)
        self._row(f"{moved:,} sessions moved to a second server", f"{time.perf_counter() - began:.1f} s")
        _end(first)
        began = time.perf_counter()
        await self._back(some)
        took = time.perf_counter() - began
        self._row(f"the first killed, its {len(some):,} sessions on the second", f"{took:.1f} s")

    async def _killed(self) -> None:
        """Kill the server, start it again, and count the time until every session is back."""
        _end(self.server)
        began = time.perf_counter()
        self.server.restart()
        started = time.perf_counter() - began
        await self._back(range(len(self.sessions)))
        took = time.perf_counter() - began
        self._row(f"killed, started, {len(self.sessions):,} sessions back", f"{started:.1f} s, {took:.1f} s")

    def _row(self, name: str, took: str) -> None:
        _, memory = self.server.used()
        self.rows.append((name, took, f"{memory:,.0f} MB", ""))

    async def _back(self, numbers: Iterable[int]) -> None:
        """Have some sessions resumed by the server."""
        sessions = self.sessions

        async def back(number: int) -> None:
            old = sessions[number]
            old.close()
            while True:
                with suppress(ConnectionResetError):
                    sessions[number] = await connect(self.server.port, old.session, old.password)
                    return
                await asyncio.sleep(0.01)  # the server takes the directory over

        await some_at_once(100, (lambda number=number: back(number) for number in numbers))


def _end(server: GatewayServer) -> None:
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()


def main() -> None:
    """Print a table of what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--directory", default=tempfile.gettempdir(), help="where the server's files go")
    given = parser.parse_args()
    server = GatewayServer(given.directory)
    growth = Growth(server, given.scale)
    try:
        asyncio.run(growth.run())
    finally:
        growth.server.stop()
        server.process.kill()
    table = Table(title="One server; latencies: median / 99th percentile, ms")
    for column in ("", "took", "memory", "CPU at rest"):
        table.add_column(column, justify="right" if table.columns else "left")
    for row in growth.rows:
        table.add_row(*row)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
