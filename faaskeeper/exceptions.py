"""What the client raises."""

from __future__ import annotations

from faaskeeper.core.errors import Portable


class FaaSKeeperException(Portable):
    """Everything that the client raises of itself. May be pickled and copied."""


class ProviderException(FaaSKeeperException):
    """The deployment's stores or queues failed; the message says what to do about it."""


class AWSException(ProviderException):
    """AWS failed."""


class SessionClosingException(FaaSKeeperException):
    """The session is being closed, or was never started."""

    def __init__(self, message: str = "the session is closing or closed: start() a new one") -> None:
        super().__init__(message)


class ForkedException(SessionClosingException):
    """This process is a fork of the one that started the client: it has to start a client of its own."""


class SessionExpiredException(FaaSKeeperException):
    """The service ended the session: its ephemerals are gone. What was not answered is unknown."""

    def __init__(self, message: str = "the session has expired: start() a new one") -> None:
        super().__init__(message)


class TimeoutException(FaaSKeeperException):
    """No answer in time. Says what is known about the operation."""

    def __init__(self, time: float, message: str = "") -> None:
        super().__init__(message or f"no answer within {time:g} s")
        self.time = time


class WatchSetFailureException(FaaSKeeperException):
    """The watch could not be registered: no watch is set, and what was read is not returned."""


class ZooKeeperException(FaaSKeeperException):
    """The service refused a request, by ZooKeeper's rules."""


class NodeExistsException(ZooKeeperException):
    """There is a node at the path already."""

    def __init__(self, path: str) -> None:
        super().__init__(f"the node {path} exists")
        self.path = path


class NodeDoesntExistException(ZooKeeperException):
    """There is no node at the path, or, for a create, at its parent's."""

    def __init__(self, path: str) -> None:
        super().__init__(f"the node {path} does not exist")
        self.path = path


class NotEmptyException(ZooKeeperException):
    """A node with children cannot be deleted."""

    def __init__(self, path: str) -> None:
        super().__init__(f"the node {path} has children")
        self.path = path


class NoChildrenForEphemeralsException(ZooKeeperException):
    """An ephemeral node cannot have children."""

    def __init__(self, path: str) -> None:
        super().__init__(f"the parent of {path} is ephemeral and cannot have children")
        self.path = path


class BadVersionError(ZooKeeperException):
    """The node's version is not the one that the request named."""

    def __init__(self, version: int, path: str = "") -> None:
        where = f" of {path}" if path else ""
        super().__init__(f"the version{where} is not {version}")
        self.version = version


class RolledBackException(ZooKeeperException):
    """In a transaction's results: the operation did not happen, because one before it failed."""


class NoAuthException(ZooKeeperException):
    """The ACL of the node (of its parent, for a create or delete) does not permit this."""

    def __init__(self, path: str) -> None:
        super().__init__(f"the ACL does not permit this for {path}: add_auth() what it asks for")
        self.path = path


class InvalidACLException(ZooKeeperException):
    """An ACL is empty, or has an entry that cannot be."""


class NoWatcherException(ZooKeeperException):
    """There is no such watch to remove."""

    def __init__(self, path: str) -> None:
        super().__init__(f"this session has no such watch of {path}")
        self.path = path


class MalformedInputException(ZooKeeperException):
    """A path, a version or data that cannot be; nothing was sent."""


class SequenceUsedUpException(ZooKeeperException):
    """There were 2**31 children below the parent: no sequence number is left."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"no sequence number is left for {path}: 2,147,483,648 children were created below its parent; "
            "use another"
        )
        self.path = path


class TooLargeException(ZooKeeperException):
    """Data over the limit, or a limit of the deployment's stores."""
