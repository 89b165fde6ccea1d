"""How a session begins in a process: a message is sent until it is answered. No I/O, no clock, no lock."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import Any

from faaskeeper.core.errors import Code
from faaskeeper.core.requests import Message, Reply
from faaskeeper.core.sessions import Lease
from faaskeeper.session.incarnation import Incarnation, Over


class Step(Enum):
    """What a reply means to a session that is being opened."""

    IGNORED = auto()
    """It is for another, or has come twice."""
    BEGUN = auto()
    """The session is open."""
    AGAIN = auto()
    """Another process was faster: send the message as it is now."""
    OVER = auto()
    """There is no session to go on with any more."""


class Opening:
    """Opens a session, or goes on with it as a new incarnation."""

    def __init__(self, incarnation: Incarnation[Any], random: Callable[[int], bytes]) -> None:
        self._incarnation = incarnation
        self._random = random
        self._nonce = random(16).hex()
        self.message: Message | None = None
        """What is to be sent until :attr:`done`."""
        self.done = False

    @property
    def resumes(self) -> bool:
        """Whether the session is one that was opened before."""
        return self._incarnation.session > 0

    def open(self) -> None:
        """Begin with a new session."""
        self.message = self._incarnation.open(self._nonce)

    def resume(self, lease: Lease | None) -> None:
        """Begin to go on with a session, by its lease. Raises Over where there is no good one: the service
        has forgotten sessions that ended long ago, and would not answer.
        """
        if lease is None or lease.marked:
            raise Over(Code.SESSION_EXPIRED)
        current = max(self._incarnation.number, lease.incarnation)
        self.message = self._incarnation.resume(current, self._random)

    def answered(self, reply: Reply) -> Step:
        """Take in a reply. BEGUN at most once."""
        incarnation = self._incarnation
        if self.done:
            return Step.IGNORED
        if reply.nonce:
            if reply.nonce != self._nonce:
                return Step.IGNORED
            incarnation.session = reply.session
            self.done = True
            return Step.BEGUN
        if not incarnation.is_for_us(reply):
            return Step.IGNORED
        outcome = next((outcome for cxid, outcome in reply.outcomes if not cxid), None)
        if outcome is None:
            return Step.IGNORED
        if outcome.code is Code.SESSION_MOVED:
            self.message = incarnation.resume(reply.current, self._random)
            return Step.AGAIN
        self.done = True
        if outcome.code is not Code.OK:
            return Step.OVER
        incarnation.owned.update(outcome.paths)
        return Step.BEGUN
