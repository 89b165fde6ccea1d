"""What a client is told of its session: its state, how it ended, and the ticket to go on with it."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from faaskeeper.core.errors import Code
from faaskeeper.exceptions import (
    FaaSKeeperException,
    ProviderException,
    SessionClosingException,
    SessionExpiredException,
)

_OVER = {
    Code.SESSION_EXPIRED: "the session has expired: start() a new one",
    Code.SESSION_MOVED: "another process goes on with this session: this one may not",
}


class SessionState(StrEnum):
    """What is known of a session.

    ``CONNECTED``: its lease is good. ``SUSPENDED``: the service was not reached; the session may have
    ended without our knowing. ``LOST``: it has ended, its ephemerals are gone.
    """

    CONNECTED = "CONNECTED"
    SUSPENDED = "SUSPENDED"
    LOST = "LOST"


class Ticket(NamedTuple):
    """What another process needs to go on with a session. Whoever has it can act for the session.

    ``timeout`` in ms.
    """

    session: int
    incarnation: int
    secret: bytes
    timeout: int


def over(code: Code) -> SessionExpiredException:
    """The error of a session that has ended, or that another process goes on with."""
    return SessionExpiredException(_OVER[code])


def unknown(error: FaaSKeeperException, what: str) -> FaaSKeeperException:
    """The error of a write that was not answered before its session ended: it may have taken effect."""
    message = f"{what}: {error}; whether it happened is not known"
    if isinstance(error, (SessionExpiredException, SessionClosingException)):
        return type(error)(message)
    return ProviderException(message)
