"""One incarnation of a session: builds the messages of a process and interprets their replies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from faaskeeper.core.acl import Credential
from faaskeeper.core.errors import Code, Conflict, Portable
from faaskeeper.core.requests import (
    Create,
    Delete,
    Message,
    Multi,
    Open,
    Operation,
    Outcome,
    Reply,
    Request,
    Resume,
    SetData,
)
from faaskeeper.core.sessions import Lease, Leases, next_incarnation
from faaskeeper.core.tuples import NamedTuple
from faaskeeper.session.outbox import Outbox, Unanswered

W = TypeVar("W")

OVER = (Code.SESSION_EXPIRED, Code.SESSION_MOVED)
"""Outcomes that end an incarnation: its session has ended, or another one replaced it."""


class Over(Portable):
    """The session has ended (SESSION_EXPIRED), or another process resumed it (SESSION_MOVED)."""

    def __init__(self, code: Code) -> None:
        super().__init__(code.value)
        self.code = code


class Answered(NamedTuple, Generic[W]):
    """A reply's meaning. ``ready``: the requests whose turn it is, in order, with outcomes.

    ``again``: requests that the writer lacks; send them again, with ``acked``. ``over``: one of
    :data:`OVER`, or None.
    """

    ready: list[tuple[Unanswered[W], Outcome]]
    again: tuple[Request, ...]
    acked: int
    over: Code | None


class Incarnation(Generic[W]):
    """One incarnation of a session, as a process holds it. No I/O, no clock, no lock.

    ``timeout``: the session's, in ms. ``W``: the type of the waiters that receive outcomes.
    """

    def __init__(self, session: int, number: int, secret: bytes, timeout: int) -> None:
        self.session = session
        self.number = number
        self.secret = secret
        self.timeout = timeout
        self.address = ""
        """The address that the service sends answers to."""
        self.outbox: Outbox[W] = Outbox()
        self.owned: set[str] = set()
        """The ephemerals that the session is known to have created and has not deleted itself."""

    # ---- beginning -----------------------------------------------------------------------

    def open(self, nonce: str) -> Message:
        """The message that opens a session. Send it until it is answered."""
        return self._begin(Open(nonce, self.secret, self.timeout))

    def resume(self, current: int, random: Callable[[int], bytes]) -> Message:
        """The message that replaces the incarnation ``current`` with this process.

        Each call draws a new number, so no two processes ever have the same.
        """
        self.number = next_incarnation(max(self.number, current), random)
        return self._begin(Resume(current))

    def _begin(self, operation: Open | Resume) -> Message:
        return Message(self.session, self.number, 0, self.address, (Request(0, operation),))

    # ---- asking --------------------------------------------------------------------------

    def message(self, requests: tuple[Request, ...], acked: int | None = None) -> Message:
        """A message with requests.

        ``acked``: the value at the time when they were taken from the outbox; None: the present
        value.
        """
        acked = self.outbox.acked if acked is None else acked
        return Message(self.session, self.number, acked, self.address, requests)

    def add(self, operation: Operation, waiter: W, auth: tuple[Credential, ...]) -> None:
        """Number a request and queue it for the outbox's ``take``."""
        self.outbox.add(operation, waiter, auth)

    # ---- being answered --------------------------------------------------------------------

    def is_for_us(self, reply: Reply) -> bool:
        """Whether a reply answers requests of this incarnation."""
        return reply.session == self.session and reply.incarnation == self.number and not reply.nonce

    def answered(self, reply: Reply) -> Answered[W]:
        """Process a reply whose epoch was met."""
        outbox = self.outbox
        ready = outbox.answered(reply.outcomes)
        over: Code | None = None
        for each, outcome in ready:
            if outcome.code is Code.OK:
                operation = each.request.operation
                if type(operation) is not SetData:  # nearly all are
                    self._note(operation, outcome)
            elif outcome.code in OVER:
                over = outcome.code
        again = outbox.resend(reply.resend) if reply.resend else ()
        return Answered(ready, again, outbox.acked, over)

    def _note(self, operation: Operation, outcome: Outcome) -> None:
        """Update the set of owned ephemerals."""
        if isinstance(operation, Create):
            if operation.ephemeral:
                self.owned.add(outcome.path)
        elif isinstance(operation, Delete):
            self.owned.discard(operation.path)
        elif isinstance(operation, Multi):
            for part, each in zip(operation.operations, outcome.results, strict=True):
                self._note(part, each)

    # ---- the lease -------------------------------------------------------------------------

    def lease(self, version: int, expires: int) -> Lease:
        """This incarnation's lease, to replace the known version (0 and 1: just granted)."""
        return Lease(self.session, version, expires, False, self.number, 0, self.timeout)


def renew(leases: Leases, wanted: Lease) -> Lease:
    """Replace the version of a lease that ``wanted`` names; returns the lease as it is now.

    A renewal that seemed to fail may have taken effect, and an earlier process may have renewed.
    The version is then a later one, and this process may still renew. An earlier one is of a lease
    that was granted anew, by a function that was late, after the session's end had removed it.
    Raises Over, or DriverError.

    One process renews a lease in one thread at a time: the second try names the version that it
    finds, so it would replace a later renewal by an earlier one.
    """
    try:
        return leases.replace(wanted)
    except Conflict:
        current = leases.get(wanted.session)
        if current is None or current.marked or current.version < wanted.version:
            raise Over(Code.SESSION_EXPIRED) from None
        if current.incarnation > wanted.incarnation:
            raise Over(Code.SESSION_MOVED) from None
        return leases.replace(wanted._replace(version=current.version))
