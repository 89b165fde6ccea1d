"""The exceptions of the client."""

from __future__ import annotations

from faaskeeper.core.errors import Portable


class FaaSKeeperException(Portable):
    """Base class of all exceptions that the client raises. Can be pickled and copied."""


class ProviderException(FaaSKeeperException):
    """The deployment's stores or queues failed. The message says how to fix the problem."""


class AWSException(ProviderException):
    """An AWS service failed."""


class SessionClosingException(FaaSKeeperException):
    """The session is closing or closed, or was never started."""

    def __init__(self, message: str = "the session is closing or closed: start() a new one") -> None:
        super().__init__(message)


class ForkedException(SessionClosingException):
    """This process is a fork of the process that started the client.

    It must start its own client.
    """


class SessionExpiredException(FaaSKeeperException):
    """The service expired the session and deleted its ephemerals.

    Requests without a reply may or may not have taken effect.
    """

    def __init__(self, message: str = "the session has expired: start() a new one") -> None:
        super().__init__(message)


class TimeoutException(FaaSKeeperException):
    """No reply arrived in time. The message says what is known about the operation."""

    def __init__(self, time: float, message: str = "") -> None:
        super().__init__(message or f"no reply within {time:g} s")
        self.time = time


class WatchSetFailureException(FaaSKeeperException):
    """Setting the watch failed. No watch is set, and the read returns no result."""


class ZooKeeperException(FaaSKeeperException):
    """The service rejected a request, by ZooKeeper's rules."""


class NodeExistsException(ZooKeeperException):
    """A node exists at the path."""

    def __init__(self, path: str) -> None:
        super().__init__(f"the node {path} exists")
        self.path = path


class NodeDoesntExistException(ZooKeeperException):
    """No node exists at the path or, for a create, at its parent's path."""

    def __init__(self, path: str) -> None:
        super().__init__(f"the node {path} does not exist")
        self.path = path


class NotEmptyException(ZooKeeperException):
    """The node has children, so it cannot be deleted."""

    def __init__(self, path: str) -> None:
        super().__init__(f"the node {path} has children")
        self.path = path


class NoChildrenForEphemeralsException(ZooKeeperException):
    """An ephemeral node cannot have children."""

    def __init__(self, path: str) -> None:
        super().__init__(f"the parent of {path} is ephemeral and cannot have children")
        self.path = path


class BadVersionError(ZooKeeperException):
    """The node's version differs from the one in the request."""

    def __init__(self, version: int, path: str = "") -> None:
        where = f" of {path}" if path else ""
        super().__init__(f"the version{where} is not {version}")
        self.version = version


class RolledBackException(ZooKeeperException):
    """In a transaction's results: the operation had no effect, because one before it failed."""


class NoAuthException(ZooKeeperException):
    """The ACL of the node (for a create or delete, of its parent) does not permit this."""

    def __init__(self, path: str, message: str = "") -> None:
        super().__init__(message or f"the ACL of {path} does not permit this: authenticate with add_auth()")
        self.path = path


class InvalidACLException(ZooKeeperException):
    """An ACL is empty or has an invalid entry."""


class NoWatcherException(ZooKeeperException):
    """The session has no such watch to remove."""

    def __init__(self, path: str) -> None:
        super().__init__(f"this session has no such watch on {path}")
        self.path = path


class MalformedInputException(ZooKeeperException):
    """A path, a version or data is invalid. The client sent nothing."""


class SequenceUsedUpException(ZooKeeperException):
    """2**31 children were created below the parent, so no sequence number is left."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"no sequence number is left for {path}: 2,147,483,648 children were created below its parent; "
            "use another parent"
        )
        self.path = path


class TooLargeException(ZooKeeperException):
    """The data or a request exceeds a limit of the deployment."""


class BeforeHistoryException(FaaSKeeperException):
    """The moment is before what is retained of the past.

    ``oldest``: the oldest transaction that can be answered. ``time``: its time, or that of the next
    one (ms since 1970); 0 if unknown. ``why``: what is missing, if it is not the moment as a whole.
    """

    def __init__(self, oldest: int, time: int = 0, why: str = "") -> None:
        since = ""
        if time:
            from datetime import datetime

            since = f" ({datetime.fromtimestamp(time / 1000).astimezone().isoformat(timespec='seconds')})"
        what = why or "this moment is before the retained history"
        super().__init__(f"{what}: the history begins at transaction {oldest}{since}")
        self.oldest = oldest
        self.time = time
