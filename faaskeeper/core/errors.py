"""Kinds of error in core.

Drivers raise a :class:`DriverError` of one of five kinds. Callers act on the kind, never on a
message or a cloud's own class. Outcomes of requests are :class:`Code` values: they are data, logged
and answered, not exceptions.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any


class Portable(Exception):
    """An error that can be copied and sent to another process without loss.

    Python copies an error by calling its class with the message, which not every class accepts. A
    process pool hangs if a worker raises an error that cannot be copied.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(kind: type[Portable], args: tuple[Any, ...], fields: dict[str, Any]) -> Portable:
    error = kind.__new__(kind, *args)
    error.__dict__.update(fields)
    return error


class DriverError(Portable):
    """An error of a driver. The message says what a person can do about it."""


class Conflict(DriverError):
    """The condition of a conditional write did not hold. Nothing was changed."""


class Throttled(DriverError):
    """The store refused because of load, after the driver's own retries. Nothing was changed."""


class Unavailable(DriverError):
    """The store did not answer. Whether a write took effect is *unknown*."""


class TooLarge(DriverError):
    """The item or message exceeds the store's limit. Nothing was changed."""


class Denied(DriverError):
    """The store denied access. A retry will not help."""


class StaleView(Portable):
    """This process's knowledge of the log is too old for a safe append.

    The view is discarded and the call fails; the queue delivers again and a new view is loaded.
    """


class Restoring(StaleView):
    """The deployment is being restored, and nothing but that may use it.

    ``base``: the transaction at which the restore began; ``of``: the backup.
    """

    def __init__(self, base: int, of: str) -> None:
        super().__init__(
            f"this deployment is being restored from the backup {of}: wait until that is done; if it was "
            "interrupted, repeat 'fk restore' with the same backup"
        )
        self.base = base
        self.of = of


class Code(StrEnum):
    """Outcome of a request, with the names of ZooKeeper's ``KeeperException.Code``."""

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
    """No sequence number is left below the parent (not a code of ZooKeeper)."""
    RUNTIME_INCONSISTENCY = "RuntimeInconsistency"
    """In a multi that failed: an operation after the failed one."""
    FORGOTTEN = "Forgotten"
    """The request was decided, and its outcome is no longer kept. Never logged (not a code of
    ZooKeeper)."""
