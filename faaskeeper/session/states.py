"""A session's state as its client sees it, the errors of its end, the ticket to resume it."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from faaskeeper.core.errors import Code
from faaskeeper.core.tuples import NamedTuple
from faaskeeper.exceptions import (
    FaaSKeeperException,
    ProviderException,
    SessionClosingException,
    SessionExpiredException,
    TimeoutException,
)

_OVER = {
    Code.SESSION_EXPIRED: "the session has expired: start() a new one",
    Code.SESSION_MOVED: "another process has resumed this session: this process can no longer use it",
}


class SessionState(StrEnum):
    """What a client knows about its session.

    ``CONNECTED``: its lease is valid. ``SUSPENDED``: the client did not reach the service; the
    session may have ended without its knowledge. ``LOST``: it has ended, its ephemerals are gone.
    """

    CONNECTED = "CONNECTED"
    SUSPENDED = "SUSPENDED"
    LOST = "LOST"


Listener = Callable[[SessionState], None]
"""Called with the new state."""


class Ticket(NamedTuple):
    """What another process needs to resume a session. Any holder can act for the session.

    ``timeout`` in ms.
    """

    session: int
    incarnation: int
    secret: bytes
    timeout: int


def over(code: Code) -> SessionExpiredException:
    """The error for a session that has ended, or that another process has resumed."""
    return SessionExpiredException(_OVER[code])


def unknown(error: FaaSKeeperException, what: str) -> FaaSKeeperException:
    """The error for a write without an answer when its session ended: it may have taken effect."""
    message = f"{what}: {error}; whether it happened is not known"
    if isinstance(error, (SessionExpiredException, SessionClosingException)):
        return type(error)(message)
    return ProviderException(message)


def unopened(timeout: float) -> TimeoutException:
    """The error for an opening without an answer within ``timeout`` seconds."""
    return TimeoutException(timeout, f"the service did not answer within {timeout:g} s")


def unanswered(what: str, timeout: float) -> str:
    """The message for a write without an answer within ``timeout`` seconds."""
    return f"{what} was not answered within {timeout:g} s: whether it happened is not known"
