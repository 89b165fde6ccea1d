"""What the clients for threads and for asyncio share: identities, and the session that they have."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from faaskeeper.core import forks
from faaskeeper.exceptions import FaaSKeeperException, ForkedException, SessionClosingException
from faaskeeper.session.states import Listener, SessionState, Ticket

if TYPE_CHECKING:
    from faaskeeper.config import Config
    from faaskeeper.core.acl import Identity
    from faaskeeper.core.connection import Connection
    from faaskeeper.core.znode import Meta, Stat
    from faaskeeper.session.calls import Calls
    from faaskeeper.session.engine import Engine
    from faaskeeper.watch import WatchCallbackType, WatchType

    S = TypeVar("S", bound=Engine[Any])
else:
    S = TypeVar("S")

START_S = 30.0
"""How long a client waits for the answer to an opening."""
STOP_S = 10.0
"""How long a client waits for the confirmation of a close."""


class BaseClient(forks.Inherited, Generic[S]):
    """A client of one kind. ``S``: its type of session. The arguments are those of each client.

    ``load``: see :class:`~faaskeeper.session.calls.Calls`.
    """

    def __init__(
        self,
        config: Config,
        port: int,
        heartbeat: bool,
        session_timeout: float | None,
        chroot: str,
        random: Callable[[int], bytes],
        connect: Callable[[Config, int], Connection],
        load: Callable[[str], Stat] | None = None,
    ) -> None:
        from faaskeeper.session.calls import Calls  # what a client is made of: see client.client

        self._config = config
        self._port = port
        self._heartbeat = heartbeat
        self._timeout = float(session_timeout or config.session_timeout)
        self._random = random
        self._connect = connect
        self._calls = Calls(chroot, load)
        self._session: S | None = None
        self._connection: Connection | None = None
        self._listeners: list[Listener] = []
        self._inherited = ""
        """Why a fork of the process that opened a session may not use it."""

    # ---- the session -------------------------------------------------------------------

    def _begun(self, session: S) -> None:
        """Use a session, which is open."""
        self._connection, self._session = session.connection, session
        self._inherited = ""
        forks.register(self)
        self._calls.begin(session.rules, session.connection)
        session.auth = self._calls.identities.credentials

    @abstractmethod
    def _open(self) -> S:
        """The session. Raises SessionClosingException without one."""

    def _ready(self) -> Calls:
        """The client's operations, while a session is open."""
        self._open()
        return self._calls

    def _closed(self) -> FaaSKeeperException:
        return ForkedException(self._inherited) if self._inherited else SessionClosingException()

    def forked(self, why: str) -> None:
        """In a forked child: drop the session; ``why`` is the reason that calls raise."""
        if self._session is not None:
            self._inherited = why
        self._session = self._connection = None

    @property
    def session(self) -> S | None:
        """The session in its shell, None without one: for the deployment's tools and checks."""
        return self._session

    @property
    def ticket(self) -> Ticket:
        """What another process needs to resume this session. Keep it as secret as a password."""
        return self._open().ticket

    @property
    def session_id(self) -> str | None:
        """The session's id in hexadecimal; None without a session."""
        return None if self._session is None else f"{self._session.id:08x}"

    @property
    def state(self) -> SessionState:
        """The session's state; LOST without a session."""
        return SessionState.LOST if self._session is None else self._session.state

    @property
    def session_timeout(self) -> float:
        """Seconds without a renewal after which the session ends."""
        return self._timeout if self._session is None else self._session.timeout_ms / 1000

    @property
    def lease_left(self) -> float:
        """Seconds for which the session cannot end, unless its client or the operator ends it.

        As far as the client knows; 0 without a session. It counts from the last renewal that
        succeeded, so a session may be SUSPENDED and have some left. Too long by at most the time
        that a reply of the service took: whoever must be sure subtracts that.
        """
        return 0.0 if self._session is None else self._session.lease_left_ms / 1000

    def add_listener(self, listener: Listener) -> None:
        """Call ``listener(state)`` whenever the state changes, in the order of all callbacks."""
        self._listeners.append(listener)

    def remove_listener(self, listener: Listener) -> None:
        """Stop calling a listener."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    # ---- identities --------------------------------------------------------------------

    def add_auth(self, scheme: str, credential: str) -> None:
        """Send a credential with every operation from now on, in later sessions too.

        ``scheme``: ``digest``, with ``user:password``. A wrong password has no effect until an ACL
        requires it.
        """
        self._calls.identities.add(scheme, credential)
        self._calls.prove(self._connection)
        if self._session is not None:
            self._session.auth = self._calls.identities.credentials

    def who_am_i(self) -> list[Identity]:
        """The schemes and names of this client's identities; no hashes (ZooKeeper's whoAmI)."""
        from faaskeeper.core import acl as acls

        self._open()
        return acls.named(self._calls.identities.who)

    def may_read(self, path: str, meta: Meta) -> None:
        """Raise NoAuthException unless this client may read a node with this metadata."""
        self._calls.may_read(path, meta)

    # ---- watches -----------------------------------------------------------------------

    def check_watches(
        self,
        path: str,
        kind: WatchType | Sequence[WatchType] | None = None,
        watch: WatchCallbackType | None = None,
    ) -> None:
        """Raise NoWatcherException unless a watch matches; see ``remove_watches``."""
        self._ready().check_watches(path, kind, watch)
