"""How a process opens or resumes a session: it repeats a message until an answer comes.

No I/O, no clock, no lock.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import Any

from faaskeeper.core.changes import Effect, Opened, Resumed
from faaskeeper.core.errors import Code
from faaskeeper.core.requests import Message, Reply
from faaskeeper.core.sessions import Lease
from faaskeeper.session.incarnation import Incarnation, Over


class Step(Enum):
    """The meaning of a reply while a session is being opened."""

    IGNORED = auto()
    """The reply is for another session or opening, or is a duplicate."""
    BEGUN = auto()
    """The session is open."""
    AGAIN = auto()
    """Another process was faster: send the message again, in its new form."""
    OVER = auto()
    """The session has ended and cannot be resumed."""


class Opening:
    """Opens a session, or resumes it as a new incarnation."""

    def __init__(self, incarnation: Incarnation[Any], random: Callable[[int], bytes]) -> None:
        self._incarnation = incarnation
        self._random = random
        self._nonce = random(16).hex()
        self.message: Message | None = None
        """The message to send until :attr:`done`."""
        self.done = False

    @property
    def messages(self) -> list[Message]:
        """The message, in a list; an empty one before there is any."""
        return [] if self.message is None else [self.message]

    def caused(self, effect: Effect) -> bool:
        """Whether this opening, or an earlier form of it, is why a transaction has this effect."""
        if isinstance(effect, Opened):
            return effect.nonce == self._nonce
        mine = Resumed(self._incarnation.session, self._incarnation.number)
        return effect == mine

    @property
    def resumes(self) -> bool:
        """Whether the session was opened before."""
        return self._incarnation.session > 0

    def open(self) -> None:
        """Start to open a new session."""
        self.message = self._incarnation.open(self._nonce)

    def resume(self, lease: Lease | None) -> None:
        """Start to resume a session, given its lease.

        Raises Over if the lease is missing or marked: the service has no state of sessions that
        ended long ago, and would not answer.
        """
        if lease is None or lease.marked:
            raise Over(Code.SESSION_EXPIRED)
        current = max(self._incarnation.number, lease.incarnation)
        self.message = self._incarnation.resume(current, self._random)

    def answered(self, reply: Reply) -> Step:
        """Process a reply. Returns BEGUN at most once."""
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
