"""A session with the deployment for requests of pages: opened on use, and again when it is lost."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from typing import Any

import click
from starlette.requests import Request
from starlette.responses import JSONResponse

from faaskeeper.cli.errors import KINDS, Failed, status_of
from faaskeeper.client import FaaSKeeperClient, SessionState
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
    SessionExpiredException,
    TooLargeException,
)

RIGHTS = {"read": READ, "write": WRITE, "create": CREATE, "delete": DELETE, "admin": ADMIN}


class Access:
    """One identity's session. Thread-safe: requests are served by several threads.

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
        self._closed = False

    @property
    def client(self) -> FaaSKeeperClient:
        """The client, with a session. Raises what opening one raises."""
        with self._lock:
            if self._closed:
                raise ProviderException("the page's server is stopping")
            if self._client is not None and self._client.state is SessionState.LOST:
                client, self._client = self._client, None
                client.stop(close=False)
            if self._client is None:
                client = self._open_client(self.config)
                for each in self._credentials:
                    client.add_auth("digest", each)
                client.start()
                self._client = client
            return self._client

    @property
    def connection(self) -> Connection | None:
        """The deployment's stores; None on a ZooKeeper server, which shows none."""
        return None if self.config.provider_name == "zookeeper" else self.client.connection

    def renew(self) -> None:
        """Open another session at the next use: this one has ended, and its client does not know yet."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.stop(close=False)

    def close(self) -> None:
        """End the session: its ephemerals are deleted."""
        with self._lock:
            self._closed = True
            client, self._client = self._client, None
        if client is not None:
            try:
                client.stop()
            except FaaSKeeperException:
                pass  # it ends with its lease

    # ---- rights --------------------------------------------------------------------------

    def who(self) -> list[acls.Identity]:
        """The identities of the session, without hashes."""
        try:
            return self.client.who_am_i()
        except ProviderException:  # a ZooKeeper server of before 3.7
            return [("digest", each.split(":", 1)[0]) for each in self._credentials]

    def rights(self, acl: Sequence[Acl], who: Sequence[acls.Identity]) -> dict[str, bool]:
        """What an ACL permits this session, by the names in :data:`RIGHTS`.

        Hashes are shown to who may administer a node only. One that is not shown counts as this
        session's if its user has the same name: then the deployment decides.
        """
        mine = {("digest", acls.digest(each)) for each in self._credentials}
        hidden = {("digest", f"{name}:x") for scheme, name in who if scheme == "digest"}
        identities = (*mine, *hidden, *(each for each in who if each[0] != "digest" or each == SUPER))
        return {
            name: acls.permits(tuple(acl), permission, tuple(identities))
            for name, permission in RIGHTS.items()
        }

    def sees(self, acl: tuple[Acl, ...] | None, who: Sequence[acls.Identity]) -> bool:
        """Whether the session may know of a node with this ACL; None: of an earlier release."""
        return SUPER in who if acl is None else acl is OPEN_ACL or self.rights(acl, who)["read"]

    def rights_on(self, path: str) -> dict[str, bool]:
        """What the session may do with a node. Raises NodeDoesntExistException."""
        try:
            acl, _ = self.client.get_acls(path)
        except NoAuthException:  # neither READ nor ADMIN: what else there is, nobody tells
            return {**dict.fromkeys(RIGHTS, True), "read": False, "admin": False}
        return self.rights(acl, self.who())

    def lists(self, path: str) -> bool:
        """Whether the session may know that there is a node: it may read its parent."""
        try:
            return path == "/" or self.rights_on(paths.parent(path))["read"]
        except NodeDoesntExistException:
            return False

    def require(self, path: str, right: str) -> None:
        """Raise NoAuthException unless the session has a right, before anything is sent."""
        if not self.rights_on(path)[right]:
            raise NoAuthException(path)


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
        return int(text)
    except ValueError:
        raise Invalid(f"{name} must be a whole number, not {text[:40]!r}") from None


async def body_in(request: Request, most: int) -> bytes:
    """The bytes that a request carries. Raises TooLargeException if there are more than ``most``."""
    data = bytearray()
    async for piece in request.stream():
        data += piece
        if len(data) > most:
            raise TooLargeException(f"the request has more than {most} bytes")
    return bytes(data)


async def json_in(request: Request, most: int = 4 * MAX_DATA_BYTES) -> dict[str, Any]:
    """The JSON object of at most so many bytes that a request carries. Raises Invalid."""
    try:
        found = json.loads(await body_in(request, most))
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
