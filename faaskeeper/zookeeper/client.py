"""The client of ZooKeeper's own servers, with the API of every other deployment's client."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, cast

from faaskeeper.client.client import FaaSKeeperClient
from faaskeeper.client.connect import connect
from faaskeeper.client.runtime import THREADS, Runtime
from faaskeeper.client.session import Session
from faaskeeper.config import Config, ConfigurationException
from faaskeeper.core import forks
from faaskeeper.core.acl import Identity
from faaskeeper.core.znode import Meta
from faaskeeper.exceptions import MalformedInputException, ProviderException
from faaskeeper.node import Node
from faaskeeper.session.calls import Calls
from faaskeeper.session.client import START_S, STOP_S
from faaskeeper.session.states import Ticket
from faaskeeper.watch import WatchCallbackType
from faaskeeper.zookeeper import address
from faaskeeper.zookeeper.calls import ZooKeeperCalls
from faaskeeper.zookeeper.session import ZooKeeperSession

if TYPE_CHECKING:
    from faaskeeper.core.connection import Connection
    from faaskeeper.core.znode import Acl, Stat
    from faaskeeper.session.history import Moment


class ZooKeeperClient(FaaSKeeperClient):
    """A session with a ZooKeeper server; ``FaaSKeeperClient(Config.load("zk://..."))`` makes one.

    Its promises are ZooKeeper's. What differs from other deployments: a write whose connection is
    lost before its answer raises TimeoutException, since it may or may not have taken effect; events
    have the timestamp -1 where the server does not say it (before 3.9); sessions cannot be resumed;
    an error names what the server's release lacks.
    """

    def __init__(
        self,
        cfg: Config,
        port: int = -1,
        heartbeat: bool = True,
        verbose: bool = False,
        debug: bool = False,
        *,
        session_timeout: float | None = None,
        chroot: str = "/",
        runtime: Runtime = THREADS,
        random: Callable[[int], bytes] = os.urandom,
        connect: Callable[[Config, int], Connection] = connect,
    ) -> None:
        super().__init__(
            cfg,
            port,
            heartbeat,
            verbose,
            debug,
            session_timeout=session_timeout,
            chroot=chroot,
            runtime=runtime,
            random=random,
            connect=connect,
        )
        try:
            self.address = address.of(cfg.provider_config)
        except ValueError as error:
            raise ConfigurationException(str(error)) from error
        above = "" if self.address.chroot == "/" else self.address.chroot
        whole = above + ("" if chroot == "/" else chroot)
        self._zookeeper = ZooKeeperCalls(whole or "/", self._stat)
        self._calls: Calls = self._zookeeper

    def start(self, resume: Ticket | None = None) -> str:
        """Open a session; returns its id. Closes an open session first.

        Raises ProviderException that says why no server could be used.
        """
        if resume is not None:
            raise MalformedInputException("a ZooKeeper session cannot be resumed by another process")
        if self._session is not None:
            self.stop()
        session = ZooKeeperSession(self.address, self._timeout, self._listeners)
        session.auth = self._calls.identities.credentials
        try:
            session.open(START_S)
        except BaseException:
            session.abandon()
            raise
        self._zookeeper.use(session)
        self._session = cast(Session, session)  # it has what the client's methods use of one
        self._inherited = ""
        forks.register(self)
        self._log.info("session %s is open", self.session_id)
        return self.session_id or ""

    def stop(self, close: bool = True) -> str:
        """Close the session: its ephemerals are deleted. Returns "closed"."""
        session, self._session = self._session, None
        if session is None:
            return "closed"
        if close:
            session.close(STOP_S)
        else:
            session.abandon()
        return "closed"

    def forked(self, why: str) -> None:
        """In a forked child: drop the session, and leave the parent's connection alone."""
        forks.keep(self._session)
        super().forked(why)

    def add_auth(self, scheme: str, credential: str) -> None:
        """Send a credential now, and on each connection; see :meth:`FaaSKeeperClient.add_auth`."""
        self._calls.identities.add(scheme, credential)
        session = cast("ZooKeeperSession | None", self._session)
        if session is not None:
            session.auth = self._calls.identities.credentials
            session.show(scheme, credential)

    def who_am_i(self) -> list[Identity]:
        """The schemes and names of this client's identities, by the server (3.7 and later)."""
        self._open()
        return cast(list[Identity], self._run(self._zookeeper.who_am_i()))

    def may_read(self, path: str, meta: Meta) -> None:
        """The server has checked it."""

    @property
    def ticket(self) -> Ticket:
        """ZooKeeper sessions are not handed over: raises MalformedInputException."""
        raise MalformedInputException("a ZooKeeper session cannot be resumed by another process")

    @property
    def connection(self) -> NoReturn:
        """There is none: raises ProviderException that says so."""
        connect(self._config, self._port)
        raise AssertionError("connected to a ZooKeeper server's stores")

    def logs(self) -> str:
        """A ZooKeeper server shows its logs to nobody: raises ProviderException."""
        raise ProviderException(f"{self.address} is a ZooKeeper server: its logs are in files of its own")

    def end_session(self, session: str) -> NoReturn:
        """A ZooKeeper server ends sessions for nobody: raises ProviderException."""
        raise ProviderException(f"{self.address} is a ZooKeeper server, which ends no session for others")

    def history(self, *_: Any, **__: Any) -> NoReturn:
        """A ZooKeeper server keeps no past: raises ProviderException."""
        self._no_past()

    def _no_past(self) -> NoReturn:
        raise ProviderException(f"{self.address} is a ZooKeeper server, which keeps no history")

    # ---- reads, always asked of the server ---------------------------------------------------

    def get_data(
        self, path: str, watch: WatchCallbackType | None = None, *, at: Moment | None = None
    ) -> Node:
        """See :meth:`FaaSKeeperClient.get_data`. A server keeps no past: ``at`` raises ProviderException."""
        if at is not None:
            self._no_past()
        return cast(Node, self._run(self._ready().get_data(path, watch), watch))

    def get_acls(self, path: str, *, at: Moment | None = None) -> tuple[list[Acl], Stat]:
        """See :meth:`FaaSKeeperClient.get_acls`; ``at`` raises ProviderException."""
        if at is not None:
            self._no_past()
        return super().get_acls(path)

    def exists(self, path: str, watch: WatchCallbackType | None = None) -> Node | None:
        """See :meth:`FaaSKeeperClient.exists`."""
        return cast("Node | None", self._run(self._ready().exists(path, watch), watch))

    def get_children(
        self, path: str, include_data: bool = False, watch: WatchCallbackType | None = None
    ) -> list[Node]:
        """See :meth:`FaaSKeeperClient.get_children`."""
        return cast(list[Node], self._run(self._ready().get_children(path, include_data, watch), watch))

    def get_ephemerals(self, prefix: str = "/") -> list[str]:
        """The sorted paths of this session's ephemerals that begin with a prefix."""
        return cast(list[str], self._run(self._ready().get_ephemerals(prefix, 0, ())))
