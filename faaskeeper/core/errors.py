"""The few kinds of error that core knows.

Drivers raise a :class:`DriverError` of one of five kinds; callers act on the kind, never on a
message or a cloud's own class. Outcomes of requests are :class:`Code` values: they are data,
logged and answered, not exceptions.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any


class Portable(Exception):
    """An error that goes to another process, or is copied, as it is.

    Python makes a copy by calling the class with the message, which not every class takes: a process pool
    whose worker raises such a one hangs.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(kind: type[Portable], args: tuple[Any, ...], fields: dict[str, Any]) -> Portable:
    error = kind.__new__(kind, *args)
    error.__dict__.update(fields)
    return error


class DriverError(Portable):
    """What a driver may raise. The message says what a person can do about it."""


class Conflict(DriverError):
    """The condition of a conditional write did not hold. Nothing was changed."""


class Throttled(DriverError):
    """The store refused for load, after the driver's own retries. Nothing was changed."""


class Unavailable(DriverError):
    """The store did not answer. Whether a write took effect is *unknown*."""


class TooLarge(DriverError):
    """The item or message is over the store's limit. Nothing was changed."""


class Denied(DriverError):
    """The store does not let us. Trying again will not help."""


class StaleView(Portable):
    """What this process knows of the log is too old to append to it safely.

    The view is dropped and the call fails; the queue delivers again and a fresh view is loaded.
    """


class Code(StrEnum):
    """Outcome of a request, by the names of ZooKeeper's ``KeeperException.Code``."""

    OK = "Ok"
    NO_NODE = "NoNode"
    NODE_EXISTS = "NodeExists"
    BAD_VERSION = "BadVersion"
    NOT_EMPTY = "NotEmpty"
    NO_CHILDREN_FOR_EPHEMERALS = "NoChildrenForEphemerals"
    BAD_ARGUMENTS = "BadArguments"
    SESSION_EXPIRED = "SessionExpired"
    SESSION_MOVED = "SessionMoved"
    UNIMPLEMENTED = "Unimplemented"
    TOO_LARGE = "TooLarge"
    NO_AUTH = "NoAuth"
    INVALID_ACL = "InvalidACL"
    SEQUENCE_USED_UP = "SequenceUsedUp"
    """No sequence number is left below the parent (ZooKeeper has no such code)."""
    RUNTIME_INCONSISTENCY = "RuntimeInconsistency"
    """In a multi that failed: an operation after the one that failed."""
    FORGOTTEN = "Forgotten"
    """The request was decided, and its outcome is not kept any more. Never logged; not one of ZooKeeper's."""
