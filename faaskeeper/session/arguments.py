"""Validates users' arguments and converts them for requests; maps outcomes to errors.

Bad input is rejected here, before anything is sent; the error says what would be right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from faaskeeper.core import acl as acls
from faaskeeper.core import paths
from faaskeeper.core.errors import Code
from faaskeeper.core.requests import Outcome
from faaskeeper.core.tuples import NamedTuple
from faaskeeper.core.znode import CONTAINER, MAX_TTL_MS, OPEN_ACL, Acl
from faaskeeper.exceptions import (
    BadVersionError,
    FaaSKeeperException,
    InvalidACLException,
    MalformedInputException,
    NoAuthException,
    NoChildrenForEphemeralsException,
    NodeDoesntExistException,
    NodeExistsException,
    NotEmptyException,
    SequenceUsedUpException,
    TooLargeException,
    ZooKeeperException,
)
from faaskeeper.watch import WatchCallbackType, WatchedEvent, WatchType


class NodeKind(NamedTuple):
    """The kind of node that a create makes; ``ttl`` in ms."""

    ephemeral: bool = False
    sequential: bool = False
    acl: Sequence[Acl] | None = None
    ttl: int | None = None
    container: bool = False


def ttl_of(kind: NodeKind) -> int:
    """The time to live as a request carries it: ms, 0 for none, or ``CONTAINER``."""
    if kind.ttl is None:
        if kind.container and (kind.ephemeral or kind.sequential):
            raise MalformedInputException("a container cannot be ephemeral or sequential")
        return CONTAINER if kind.container else 0
    if type(kind.ttl) is not int or not 0 < kind.ttl <= MAX_TTL_MS:
        raise MalformedInputException(f"a time to live must be from 1 to {MAX_TTL_MS} ms, not {kind.ttl!r}")
    if kind.ephemeral or kind.container:
        raise MalformedInputException("a node with a time to live cannot be ephemeral or a container")
    return kind.ttl


def acl_of(entries: Sequence[Acl] | None) -> tuple[Acl, ...]:
    """An ACL as a request carries it. Checks that need the service are left to the service."""
    if entries is None:
        return OPEN_ACL
    for entry in entries:
        permissions, scheme, id = entry if len(entry) == 3 else (-1, "", "")
        if type(permissions) is not int or not 0 < permissions <= acls.ALL:
            raise InvalidACLException(
                f"an ACL entry must be (permissions from 1 to 31, scheme, id), not {entry!r}"
            )
        if scheme not in acls.SCHEMES:
            schemes = ", ".join(acls.SCHEMES)
            raise InvalidACLException(f"the scheme in the ACL entry {entry!r} must be one of {schemes}")
        if not isinstance(id, str) or not _is_unicode(id):
            raise InvalidACLException(f"the id in the ACL entry {entry!r} must be a string of valid Unicode")
    if not entries:
        raise InvalidACLException("an ACL must not be empty: no client could use the node")
    asked = tuple((permissions, scheme, id) for permissions, scheme, id in entries)
    return OPEN_ACL if asked == OPEN_ACL else asked


def _is_unicode(text: str) -> bool:
    """Whether a string has no lone surrogate, and so has a form in UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class Below:
    """A watch's callback in a client with a chroot. Two are equal if their callbacks are."""

    __slots__ = ("_callback", "_chroot")

    def __init__(self, chroot: str, callback: WatchCallbackType) -> None:
        self._chroot = chroot
        self._callback = callback

    def __call__(self, event: WatchedEvent) -> None:
        path = event.path[len(self._chroot) :] or "/"
        self._callback(WatchedEvent(event.event_type, path, event.timestamp))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Below) and other._callback == self._callback

    def __hash__(self) -> int:
        return hash(self._callback)


_KINDS = {
    WatchType.GET_DATA: "data",
    WatchType.EXISTS: "exists",
    WatchType.GET_CHILDREN: "children",
    WatchType.PERSISTENT: "persistent",
    WatchType.PERSISTENT_RECURSIVE: "recursive",
}


def kinds_of(kind: WatchType | Sequence[WatchType] | None) -> list[str]:
    """The names that ``core`` uses for kinds of watch; None: all."""
    if kind is None:
        return list(_KINDS.values())
    return [_KINDS[each] for each in ([kind] if isinstance(kind, WatchType) else kind)]


def check(path: str) -> None:
    """Raise MalformedInputException unless a request may name the path."""
    if not isinstance(path, str):
        raise MalformedInputException(f"a path must be a string, not {type(path).__name__}")
    wrong = paths.malformed(path)
    if wrong is not None:
        raise MalformedInputException(wrong)


def check_version(version: int) -> None:
    """Raise MalformedInputException unless it is a version, or -1.

    Versions wrap: after 2**31 - 1 they are negative.
    """
    if type(version) is not int or not -(2**31) <= version < 2**31:
        raise MalformedInputException(f"a version must be a 32-bit integer, or -1 for any, not {version!r}")


def _not_allowed(path: str) -> MalformedInputException:
    """The error for a request that is never allowed; states the rule that its path breaks."""
    if path in paths.RESERVED:
        return MalformedInputException(f"{path} is part of every tree: it cannot be created or deleted")
    return MalformedInputException(
        paths.invalid(path) or f"the service does not allow this request for {path}"
    )


_ERRORS: dict[Code, Callable[[str], FaaSKeeperException]] = {
    Code.NO_NODE: NodeDoesntExistException,
    Code.NODE_EXISTS: NodeExistsException,
    Code.NOT_EMPTY: NotEmptyException,
    Code.NO_CHILDREN_FOR_EPHEMERALS: NoChildrenForEphemeralsException,
    Code.BAD_ARGUMENTS: _not_allowed,
    Code.NO_AUTH: NoAuthException,
    Code.SEQUENCE_USED_UP: SequenceUsedUpException,
    Code.INVALID_ACL: lambda path: InvalidACLException(
        f"the ACL for {path} has an id that is invalid for its scheme ('auth' needs add_auth() before)"
    ),
    Code.TOO_LARGE: lambda path: TooLargeException(f"the data of {path} exceeds a limit of the deployment"),
    Code.FORGOTTEN: lambda path: ZooKeeperException(
        f"{path}: the service processed this request before and no longer has the outcome: whether it "
        "happened is not known; read the node, and start() a new session"
    ),
}


def raise_error(outcome: Outcome, path: str, version: int = -1) -> None:
    """Raise the outcome's error, if it has one."""
    code = outcome.code
    if code is Code.OK:
        return
    raise error_of(code, path, version)


def error_of(code: Code, path: str, version: int = -1) -> FaaSKeeperException:
    """The exception for a code other than OK."""
    if code is Code.BAD_VERSION:
        return BadVersionError(version, path)
    error = _ERRORS.get(code)
    return error(path) if error else ZooKeeperException(f"{path}: {code.value}")
