"""Listens, and serves the page until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette

from faaskeeper.cli.errors import Failed
from faaskeeper.config import Config
from faaskeeper.exceptions import NoAuthException
from faaskeeper.ui.access import Access
from faaskeeper.ui.app import application
from faaskeeper.ui.logins import OPEN_GATE, Logins, Visit
from faaskeeper.ui.settings import Settings, page_of

_GOODBYE_S = 2
"""How long requests under way may take to end."""
_HEADER_BYTES = 64 * 1024
_CONNECTIONS = 500
"""Above so many at once, further requests are refused: the process has handles for its stores, too."""


class _Server(uvicorn.Server):
    """Ends the streams of events first when it is told to stop: no request waits for them."""

    def __init__(self, config: uvicorn.Config, app: Starlette) -> None:
        super().__init__(config)
        self._app = app

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT are the ways to end it: the process goes on, and exits in order."""
        loop = asyncio.get_running_loop()
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(each, self._stop)
        yield
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(each)

    def _stop(self) -> None:
        self._app.state.stopping.set()
        self.should_exit = True


def listening(address: tuple[str, int]) -> socket.socket:
    """A socket that listens. Raises OSError that names the address."""
    host, port = address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((host, port))
        opened.listen(128)
    except OSError as error:
        opened.close()
        raise OSError(error.errno, error.strerror, f"{host}:{port}") from error
    return opened


def serve(
    config: Config,
    credentials: Sequence[str],
    settings: Settings,
    opened: socket.socket,
    ready: Callable[[], None],
) -> None:
    """Serve the page on a socket until SIGTERM or SIGINT. ``ready``: called once it is served.

    Raises what opening a session raises, and Failed: the gate does not fit.
    """
    settings = settings._replace(page=page_of(config, settings))
    shared = Visit(Access(config, credentials), settings)
    try:
        check_gate(shared.access, settings.gate)
        logins = Logins(settings, shared, lambda credential: Access(config, (credential,)))
        app = application(settings, logins)
        chosen = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            http="h11",
            limit_concurrency=_CONNECTIONS,
            h11_max_incomplete_event_size=_HEADER_BYTES,
            timeout_graceful_shutdown=_GOODBYE_S,
            lifespan="on",
            ws="none",
            ssl_certfile=settings.tls and settings.tls[0],
            ssl_keyfile=settings.tls and settings.tls[1],
        )
        chosen.load()
        ready()
        _Server(chosen, app).run([opened])
    finally:
        shared.close()


def check_gate(access: Access, gate: str) -> None:
    """Raise Failed unless the node that opens the page exists, and reading it takes a password."""
    if not gate:
        return
    try:
        acl, _ = access.client.get_acls(gate)
    except NoAuthException:
        return  # not everybody may even see who may
    if access.open_to_strangers(acl):
        raise Failed(f"{OPEN_GATE.format(gate)}: give it an ACL of who may log in, by 'fk setAcl'", 2)
