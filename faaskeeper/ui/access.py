"""A session with the deployment for requests of pages: opened on use, and again when it is lost."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

import click
from starlette.requests import Request
from starlette.responses import JSONResponse

from faaskeeper.cli.errors import KINDS, Failed, status_of
from faaskeeper.client import FaaSKeeperClient, SessionState
from faaskeeper.clocks import elapsed_s
from faaskeeper.config import Config
from faaskeeper.core import acl as acls
from faaskeeper.core import paths
from faaskeeper.core.acl import ADMIN, CREATE, DELETE, READ, SUPER, WRITE
from faaskeeper.core.connection import Connection
from faaskeeper.core.errors import DriverError, StaleView
from faaskeeper.core.znode import MAX_DATA_BYTES, OPEN_ACL, Acl
from faaskeeper.exceptions import (
    BadVersionError,
    BeforeHistoryException,
    FaaSKeeperException,
    NoAuthException,
    NodeDoesntExistException,
    ProviderException,
    SessionClosingException,
    SessionExpiredException,
    TooLargeException,
)
from faaskeeper.session.history import session_of

BODY_S = 60.0
"""How long what a request carries may take to come."""
_PATIENCE_S = 10.0
"""How long a request waits for another one that opens the session."""
_PAUSE_S = 1.0
"""For so long after the session could not be opened requests fail at once, for the same reason."""
_END_S = 20.0
"""How long the end of another session may take."""
RIGHTS = {"read": READ, "write": WRITE, "create": CREATE, "delete": DELETE, "admin": ADMIN}


class Access:
    """One identity's session. Thread-safe: requests are served by several threads.

    While the deployment is not reached, requests fail soon: those that waited for each other to open
    a session, one after the other, would take all threads, and nothing would be served any more.

    ``credentials``: of the scheme digest, ``user:password``. ``open_client``: makes a client; for
    tests.
    """

    def __init__(
        self,
        config: Config,
        credentials: Sequence[str] = (),
        open_client: Callable[[Config], FaaSKeeperClient] = FaaSKeeperClient,
    ) -> None:
        self.config = config
        self._credentials = tuple(credentials)
        self._open_client = open_client
        self._client: FaaSKeeperClient | None = None
        self._lock = threading.Lock()
        self._failed: tuple[float, FaaSKeeperException | DriverError] | None = None
        self._closed = False

    @property
    def client(self) -> FaaSKeeperClient:
        """The client, with a session. Raises what opening one raises."""
        if not self._lock.acquire(timeout=_PATIENCE_S):
            raise ProviderException("the deployment does not answer: a session is being opened")
        try:
            if self._closed:
                raise ProviderException("the page's server is stopping")
            if self._client is not None and self._client.state is SessionState.LOST:
                client, self._client = self._client, None
                client.stop(close=False)
            if self._client is None:
                if self._failed is not None and elapsed_s() - self._failed[0] < _PAUSE_S:
                    raise copy(self._failed[1])
                try:
                    self._client = self._opened()
                except (DriverError, FaaSKeeperException) as error:
                    self._failed = elapsed_s(), error
                    raise
            return self._client
        finally:
            self._lock.release()

    def _opened(self) -> FaaSKeeperClient:
        client = self._open_client(self.config)
        for each in self._credentials:
            client.add_auth("digest", each)
        client.start()
        return client

    @property
    def connection(self) -> Connection | None:
        """The deployment's stores; None on a ZooKeeper server, which shows none."""
        return None if self.config.provider_name == "zookeeper" else self.client.connection

    def end(self, session: str) -> bool:
        """End a session; returns whether it was open. Of its own, another one is opened at the next use.

        Another's is ended by a session for this alone: a writer of an earlier release drops the
        request, and everything that a session asks after it would wait for its answer for ever.
        """
        if self.connection is not None and session_of(session) == session_of(self.client.session_id or ""):
            with self._lock:
                client, self._client = self._client, None
            if client is not None:
                client.stop()
            return True
        client = self._opened()
        timer = threading.Timer(_END_S, client.stop, kwargs={"close": False})
        timer.start()
        try:
            return client.end_session(session)
        except SessionClosingException:
            raise Failed(
                f"no answer within {_END_S:g} s: functions of an earlier release do not know this request. "
                "Look whether the session is still there",
                8,
            ) from None
        finally:
            timer.cancel()
            _stop(client)

    def close(self) -> None:
        """End the session: its ephemerals are deleted."""
        with self._lock:
            self._closed = True
            client, self._client = self._client, None
        if client is not None:
            _stop(client)

    # ---- rights --------------------------------------------------------------------------

    def who(self) -> list[acls.Identity]:
        """The identities of the session, without hashes."""
        try:
            return self.client.who_am_i()
        except ProviderException:  # a ZooKeeper server of before 3.7
            return [("digest", each.split(":", 1)[0]) for each in self._credentials]

    def open_to_strangers(self, acl: Sequence[Acl]) -> bool:
        """Whether an ACL permits reading to a session like this one without any password.

        That is also one by the address or the certificate of this process.
        """
        try:
            found = self.client.who_am_i()
        except ProviderException:  # a ZooKeeper server of before 3.7: what is no password counts
            return not acl or any(given & READ and scheme != "digest" for given, scheme, _ in acl)
        others = tuple(each for each in found if each[0] not in ("digest", "super"))
        return acls.permits(tuple(acl), READ, others)

    def rights(self, acl: Sequence[Acl], who: Sequence[acls.Identity]) -> dict[str, bool]:
        """What an ACL permits this session, by the names in :data:`RIGHTS`.

        Hashes are shown to who may administer a node only. One that is not shown counts as this
        session's if its user has the same name: then the deployment decides.
        """
        hidden = (("digest", f"{name}:x") for scheme, name in who if scheme == "digest")
        identities = (*self._exactly(who), *hidden)
        return {name: acls.permits(tuple(acl), given, identities) for name, given in RIGHTS.items()}

    def _exactly(self, who: Sequence[acls.Identity]) -> tuple[acls.Identity, ...]:
        mine = {("digest", acls.digest(each)) for each in self._credentials}
        return (*mine, *(each for each in who if each[0] != "digest"))

    def sees(self, acl: tuple[Acl, ...] | None, who: Sequence[acls.Identity]) -> bool:
        """Whether the session may know of a node with this ACL; None: of an earlier release."""
        if acl is None:
            return SUPER in who
        return acl is OPEN_ACL or acls.permits(acl, READ, self._exactly(who))

    def rights_on(self, path: str) -> dict[str, bool]:
        """What the session may do with a node. Raises NodeDoesntExistException."""
        try:
            acl, _ = self.client.get_acls(path)
        except NoAuthException:  # neither READ nor ADMIN: what else there is, nobody tells
            return {**dict.fromkeys(RIGHTS, True), "read": False, "admin": False}
        return self.rights(acl, self.who())

    def lists(self, path: str) -> bool:
        """Whether the session may know that there is a node: it may read its parent."""
        return path == "/" or self.reads(paths.parent(path))

    def reads(self, path: str) -> bool:
        """Whether the session may read a node that is there."""
        try:
            return self.rights_on(path)["read"]
        except NodeDoesntExistException:
            return False

    def require(self, path: str, right: str) -> None:
        """Raise NoAuthException unless the session has a right, before anything is sent."""
        if not self.rights_on(path)[right]:
            raise NoAuthException(path)


def _stop(client: FaaSKeeperClient) -> None:
    try:
        client.stop()
    except (DriverError, FaaSKeeperException):
        pass  # it ends with its lease


def access_of(request: Request) -> Access:
    """The session that a request is served with."""
    found: Access = request.state.access
    return found


# ---- requests and answers --------------------------------------------------------------------------


class Invalid(Exception):
    """A request that the page does not make."""


def path_in(request: Request, name: str = "path") -> str:
    """A path from a query. Raises Invalid that names the rule it breaks."""
    path = request.query_params.get(name, "")
    wrong = paths.invalid(path)
    if wrong is not None:
        raise Invalid(wrong)
    return path


def number_in(request: Request, name: str, default: int | None = None) -> int:
    """A whole number from a query. Raises Invalid."""
    text = request.query_params.get(name, "")
    if not text and default is not None:
        return default
    try:
        return bounded(int(text), name)
    except ValueError:
        raise Invalid(f"{name} must be a whole number, not {text[:40]!r}") from None


def bounded(number: int, name: str) -> int:
    """A number that stores take. Raises Invalid."""
    if abs(number) >= 1 << 63:
        raise Invalid(f"{name} is too large a number")
    return number


async def body_in(request: Request, most: int) -> bytes:
    """The bytes that a request carries.

    Raises TooLargeException if there are more than ``most``, Invalid if they do not come in time.
    """
    data = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for piece in request.stream():
                data += piece
                if len(data) > most:
                    raise TooLargeException(f"the request has more than {most} bytes")
    except TimeoutError:
        raise Invalid(f"the request did not come within {BODY_S:g} s") from None
    return bytes(data)


async def json_in(request: Request, most: int = 4 * MAX_DATA_BYTES) -> dict[str, Any]:
    """The JSON object of at most so many bytes that a request carries. Raises Invalid."""
    body = await body_in(request, most)
    try:
        found = json.loads(body)
        if b"\\ud" in body.lower():
            json.dumps(found, ensure_ascii=False).encode()  # half of a pair is no text
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Invalid("the request must carry a JSON object")
    return found


_STATUSES = {2: 400, 3: 404, 4: 409, 5: 409, 6: 409, 7: 413, 8: 504, 9: 403}


ERRORS = (Invalid, click.ClickException, FaaSKeeperException, Failed, DriverError, StaleView)
"""What the page is told; others are bugs of ours."""


def error_of(error: Exception) -> JSONResponse:
    """An error as JSON that the page shows."""
    if isinstance(error, Invalid):
        return _shown(str(error), "invalid", 400)
    if isinstance(error, click.ClickException):
        return _shown(error.format_message(), "invalid", 400)
    if isinstance(error, BeforeHistoryException):
        return _shown(str(error), "before history", 410, oldest=error.oldest)
    if isinstance(error, NoAuthException):
        return _shown(str(error).partition(": authenticate")[0], "not permitted", 403)
    if isinstance(error, BadVersionError):
        return _shown("somebody else changed it meanwhile", "bad version", 409)
    if isinstance(error, SessionExpiredException):
        return _shown("the page's session had ended, and another one is opened: try again", "session", 503)
    if isinstance(error, FaaSKeeperException):
        status = status_of(error)
        return _shown(str(error), KINDS[status], _STATUSES.get(status, 502))
    if isinstance(error, Failed):
        return _shown(str(error), KINDS.get(error.status, "failed"), _STATUSES.get(error.status, 502))
    return _shown(str(error), "failed", 502)


def _shown(message: str, kind: str, status: int, **more: Any) -> JSONResponse:
    return JSONResponse({"error": message, "kind": kind, **more}, status)
