"""The server: listens, keeps the list of connections, stops in order.

It holds no state that would be missed. When it is killed, its clients connect to another server of
the deployment, or to this one when it runs again, and resume their sessions.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from faaskeeper.config import Config
from faaskeeper.core import codec
from faaskeeper.core.connection import Connection
from faaskeeper.core.errors import DriverError, StaleView
from faaskeeper.gateway import admin
from faaskeeper.gateway.connection import ClientConnection
from faaskeeper.gateway.errors import ServerError
from faaskeeper.gateway.following import Following
from faaskeeper.gateway.hub import Hub
from faaskeeper.gateway.machine import MACHINE, Machine
from faaskeeper.gateway.metrics import Levels, Metrics, expose
from faaskeeper.gateway.registry import SessionRegistry
from faaskeeper.gateway.sessions import Bounds, GatewaySession

_log = logging.getLogger(__name__)

MAX_BUFFER = 0xFFFFF
"""Most bytes of a frame: ZooKeeper's default of ``jute.maxbuffer``, 1 MiB less one."""
_FILES_KEPT = 64
"""Files that the process needs beside its connections."""
_BUFFER_BYTES = 64 * 1024
_CHECK_S = 0.5
_STOP_S = 10.0


@dataclass(frozen=True)
class Settings:
    """A server's settings.

    ``listen``: each (host, port), port 0 for a free one; ``metrics`` likewise. ``commands``:
    four-letter words that are answered. ``max_buffer``: most bytes of a frame. ``max_connections``
    0: as many as the process may have files. ``tls``: (certificate, key) files; ``tls_ca``:
    authorities whose certificates clients may show, "" for none. ``following``: how to answer reads
    from memory where stores are far; None: from storage.
    """

    listen: tuple[tuple[str, int], ...] = (("127.0.0.1", 2181),)
    metrics: tuple[str, int] | None = None
    commands: frozenset[str] = frozenset(admin.DEFAULT)
    max_buffer: int = MAX_BUFFER
    max_connections: int = 0
    bounds: Bounds = field(default_factory=Bounds)
    tls: tuple[str, str] | None = None
    tls_ca: str = ""
    following: Following | None = None


class Gateway:
    """A server of a deployment. It closes ``connection`` when it ends."""

    def __init__(
        self,
        connection: Connection,
        config: Config,
        settings: Settings,
        machine: Machine = MACHINE,
    ) -> None:
        self._config = config
        self._settings = settings
        self.max_buffer = settings.max_buffer
        self.metrics = Metrics()
        self.connections: dict[ClientConnection, None] = {}
        """Those that are open, in the order in which they came."""
        self.received = 0
        self.sent = 0
        self.began = time.monotonic()
        self.most_files = _raise_files()
        self.max_connections = settings.max_connections or max(self.most_files - _FILES_KEPT, 1)
        self.buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._stopping = asyncio.Event()
        self._failure: Exception | None = None
        self.hub = Hub(
            connection,
            on_lost=self._lost,
            on_failure=self._failed,
            machine=machine,
            following=settings.following,
        )
        self.registry = SessionRegistry(self.hub, settings.bounds)
        self._servers: list[asyncio.Server] = []
        self._stop_metrics: Callable[[], None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._refused_at = 0.0
        self.addresses: tuple[tuple[str, int], ...] = settings.listen
        self.metrics_address: tuple[str, int] | None = None

    # ---- running -------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to serve. Raises ServerError, with what is wrong."""
        await self.hub.lease.start()
        loop = asyncio.get_running_loop()
        context = _tls(self._settings)
        where = self._settings.listen[0]
        try:
            for where in self._settings.listen:
                server = await loop.create_server(
                    lambda: ClientConnection(self), *where, ssl=context, backlog=1024, start_serving=False
                )
                self._servers.append(server)
            if self._settings.metrics is not None:
                where = self._settings.metrics
                self._stop_metrics = expose(self.metrics, self.counted, *where)
            for server in self._servers:
                await server.start_serving()
        except ModuleNotFoundError as error:
            raise ServerError(
                f"metrics need prometheus_client ({error}): pip install 'faaskeeper[gateway]'"
            ) from error
        except OSError as error:
            raise ServerError(f"cannot listen on {written(where)}: {_reason(error)}") from error
        names = [each.getsockname() for server in self._servers for each in server.sockets]
        self.addresses = tuple((name[0], name[1]) for name in names)
        self._tasks = [loop.create_task(self.hub.lease.keep()), loop.create_task(self._check())]
        if self.hub.follower is not None:
            self._tasks.append(loop.create_task(self.hub.follower.keep()))
        for task in self._tasks:
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A task that is to run for ever has ended: the server cannot go on without it."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _log.error("the server cannot go on", exc_info=error)
            self._failed(ServerError(f"the server failed: {error!r}"))

    async def _check(self) -> None:
        """Check twice a second what has to be done by time."""
        served = True
        while True:
            await asyncio.sleep(_CHECK_S)
            if not self.hub.lease.serving and served:
                self._lost("the server's lease was not renewed")
            served = self.hub.lease.serving
            with self.hub.output:
                self.registry.check()
            try:
                await self.hub.watches.tidy()
            except DriverError as error:
                _log.warning("idle registrations stay: %s", error)

    async def run(self) -> None:
        """Serve until :meth:`stop` is called. Raises what ended the deployment, if anything did."""
        await self._stopping.wait()
        await self._end()
        if self._failure is not None:
            raise ServerError(str(self._failure))

    def stop(self) -> None:
        """Have :meth:`run` end."""
        self._stopping.set()

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        for server in self._servers:
            server.close()
        if self._stop_metrics is not None:
            self._stop_metrics()
        with self.hub.output:
            for each in list(self.connections):
                each.close()
        try:
            async with asyncio.timeout(_STOP_S):
                if self._failure is None:
                    await self.registry.release_all()
                    await self.hub.lease.close()
        except TimeoutError:
            _log.warning("stopped before all sessions were released: their time-outs end them")
        self.hub.close()

    def _lost(self, why: str) -> None:
        """Clients may not be served any more: their sessions may have expired."""
        _log.error("%s: every connection is ended", why)
        for each in list(self.connections):
            each.end(why)

    def _failed(self, error: Exception) -> None:
        self._failure = self._failure or error
        self.stop()

    # ---- connections ---------------------------------------------------------------------

    def admit(self, connection: ClientConnection) -> bool:
        """Whether there is room for a connection."""
        if len(self.connections) >= self.max_connections or self._stopping.is_set():
            self.metrics.refused()
            if time.monotonic() - self._refused_at > 1.0:
                self._refused_at = time.monotonic()
                _log.warning(
                    "refused connection %s: there are %d; raise --max-connections or 'ulimit -n'",
                    connection.peer,
                    len(self.connections),
                )
            return False
        self.connections[connection] = None
        return True

    def forget(self, connection: ClientConnection) -> None:
        """A connection has ended."""
        self.connections.pop(connection, None)
        self.received += connection.received
        self.sent += connection.sent

    # ---- levels and settings ---------------------------------------------------------------

    async def command(self, word: str) -> str:
        """The answer to a four-letter word."""
        counts = word in admin.COUNTING and word in self._settings.commands
        levels = await self.counted() if counts else self.levels()
        return admin.answer(self, word, self._settings.commands, levels)

    async def counted(self) -> Levels:
        """The levels now, with the deployment's tally."""
        count = self.hub.connection.tally
        try:
            tally = None if count is None else await self.hub.runner.call(count)
        except (DriverError, StaleView, codec.Malformed) as error:
            _log.warning("the deployment's tally cannot be read now: %s", error)
            tally = None
        return self.levels()._replace(tally=tally)

    @property
    def sessions(self) -> Mapping[int, GatewaySession]:
        """The sessions that are served, by id."""
        return self.hub.sessions

    def levels(self) -> Levels:
        """The levels now, without the tally."""
        rules = self.hub.watches.rules
        watches, watched = rules.count()
        return Levels(
            len(self.connections),
            len(self.hub.sessions),
            watches,
            watched,
            sum(each.waiting for each in self.connections),
            max(rules.seen - rules.applied, 0),
            rules.seen,
            self.hub.lease.serving,
            memory=rules.memory_levels(),
        )

    def settings(self) -> dict[str, object]:
        """The answer to the word ``conf``; has no secrets."""
        settings, following = self._settings, self.hub.following
        return {
            "clientPort": self.addresses[0][1],
            "clientPortAddress": ",".join(written(each) for each in self.addresses),
            "secureClientPort": self.addresses[0][1] if settings.tls else -1,
            "maxClientCnxns": self.max_connections,
            "minSessionTimeout": settings.bounds.least,
            "maxSessionTimeout": settings.bounds.most,
            "jute.maxbuffer": settings.max_buffer,
            "4lw.commands.whitelist": ",".join(sorted(settings.commands)),
            "serverId": 0,
            "deployment": self._config.deployment_name,
            "provider": self._config.provider_name,
            "workerQueue": self._config.worker_queue.value,
            "reads": "storage" if following is None else "memory",
            **({} if following is None else {"follow": round(following.every * 1000)}),
        }


def written(address: tuple[str, int]) -> str:
    """An address as it is written: HOST:PORT, [HOST]:PORT for IPv6."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _reason(error: OSError) -> str:
    """Why listening failed, without the address, which asyncio repeats in words of its own."""
    if isinstance(error, socket.gaierror) or not error.errno:
        return error.strerror or str(error)
    return os.strerror(error.errno)


def _raise_files() -> int:
    """Raise the process's limit of open files as far as allowed; returns the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 65_536 if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        return most
    return soft if soft != resource.RLIM_INFINITY else most


def _tls(settings: Settings) -> ssl.SSLContext | None:
    """The context for TLS. Raises ServerError with the file that is wrong."""
    if settings.tls is None:
        if settings.tls_ca:
            raise ServerError("client certificates need TLS: --tls-cert and --tls-key")
        return None
    certificate, key = settings.tls
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key)
        if settings.tls_ca:
            context.load_verify_locations(settings.tls_ca)
            context.verify_mode = ssl.CERT_OPTIONAL
    except (OSError, ssl.SSLError) as error:
        raise ServerError(
            f"TLS with {certificate}, {key}, {settings.tls_ca or 'no authority'}: {error}"
        ) from error
    return context


async def serve(
    connection: Connection,
    config: Config,
    settings: Settings,
    ready: Callable[[Gateway], None] = lambda gateway: None,
) -> None:
    """Serve until SIGTERM or SIGINT. ``ready`` is called once clients may connect.

    Raises ServerError.
    """
    gateway = Gateway(connection, config, settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, gateway.stop)
    await gateway.start()
    ready(gateway)
    await gateway.run()
