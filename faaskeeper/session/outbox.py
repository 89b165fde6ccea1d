"""Tracks which requests a session has sent and which are answered. No I/O, no clock, no lock.

Requests are numbered without gaps, and a number is never reused for another body. Answers are
delivered in the order of the numbers: one that arrives early waits for those before it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

from faaskeeper.core.acl import Credential
from faaskeeper.core.requests import Create, Multi, Operation, Outcome, Request, SetData

MESSAGE_BYTES = 64 * 1024
"""Maximum bytes of requests in one message; a single larger request is sent alone."""


COMPANY_BYTES = 32 * 1024
"""Unsent requests of fewer bytes than this may wait for the answer to earlier ones."""


W = TypeVar("W")


class Unanswered(Generic[W]):
    """A request that waits for its outcome.

    ``waiter``: the shell's object that receives the outcome. ``size``: its approximate bytes in a
    message.
    """

    __slots__ = ("request", "size", "waiter")

    def __init__(self, request: Request, waiter: W, size: int) -> None:
        self.request = request
        self.waiter = waiter
        self.size = size


def size_of(operation: Operation) -> int:
    """The approximate number of bytes that a request takes in a message."""
    if isinstance(operation, (Create, SetData)):
        return 200 + len(operation.data.inline)
    if isinstance(operation, Multi):
        return 200 + sum(size_of(each) for each in operation.operations)
    return 200


class Outbox(Generic[W]):
    """Requests of one incarnation of a session, each with its shell's waiter."""

    def __init__(self) -> None:
        self._last = 0
        self.acked = 0
        """All cxids up to this one are answered."""
        self._unanswered: dict[int, Unanswered[W]] = {}
        self._early: dict[int, Outcome] = {}
        self._unsent: list[Unanswered[W]] = []
        self._unsent_bytes = 0

    def __len__(self) -> int:
        return len(self._unanswered)

    @property
    def unsent(self) -> bool:
        """Whether :meth:`take` would return requests."""
        return bool(self._unsent)

    @property
    def fresh(self) -> bool:
        """Whether no request was sent that is unanswered."""
        return len(self._unanswered) == len(self._unsent)

    def wait(self) -> bool:
        """Whether unsent requests may wait for more: they do not fill a message yet."""
        return self._unsent_bytes < COMPANY_BYTES

    def add(self, operation: Operation, waiter: W, auth: tuple[Credential, ...] = ()) -> None:
        """Number a request and queue it for :meth:`take`."""
        self._last += 1
        size = size_of(operation)
        waiting = Unanswered(Request(self._last, operation, auth), waiter, size)
        self._unanswered[self._last] = waiting
        self._unsent.append(waiting)
        self._unsent_bytes += size

    @property
    def empty(self) -> bool:
        """Whether it keeps neither a request nor an early answer."""
        return not (self._unanswered or self._early or self._unsent)

    def waiters(self) -> list[W]:
        """The waiters of all unanswered requests."""
        return [each.waiter for each in self._unanswered.values()]

    def last(self) -> W | None:
        """The waiter of the newest unanswered request: once that is done, so are all before it."""
        if not self._unanswered:
            return None
        return self._unanswered[next(reversed(self._unanswered))].waiter

    def take(self, repeat: bool) -> tuple[Request, ...]:
        """Requests for the next message; empty if all were sent.

        ``repeat``: begin with older unanswered requests, as many as fit beside the new ones. This
        is for a queue that does not keep order.
        """
        if not self._unsent:
            return ()
        taken: list[Request] = []
        total = 0
        for waiting in self._unsent:
            if taken and total + waiting.size > MESSAGE_BYTES:
                break
            taken.append(waiting.request)
            total += waiting.size
        del self._unsent[: len(taken)]
        self._unsent_bytes -= total
        if repeat:
            return (*self._before(taken[0].cxid, MESSAGE_BYTES - total), *taken)
        return tuple(taken)

    def _before(self, cxid: int, room: int) -> Iterable[Request]:
        older: list[Request] = []
        for number in range(cxid - 1, self.acked, -1):
            waiting = self._unanswered.get(number)
            if waiting is not None:
                if waiting.size > room:
                    break
                room -= waiting.size
                older.append(waiting.request)
        return reversed(older)

    def resend(self, cxid: int) -> tuple[Request, ...]:
        """Unanswered requests from ``cxid`` on, for one message."""
        taken: list[Request] = []
        total = 0
        for number, waiting in self._unanswered.items():
            if number < cxid or number in self._early:
                continue
            if taken and total + waiting.size > MESSAGE_BYTES:
                break
            taken.append(waiting.request)
            total += waiting.size
        return tuple(taken)

    def resend_all(self) -> list[tuple[Request, ...]]:
        """All unanswered requests, message by message."""
        found: list[tuple[Request, ...]] = []
        cxid = self.acked + 1
        while requests := self.resend(cxid):
            found.append(requests)
            cxid = requests[-1].cxid + 1
        return found

    def answered(self, outcomes: Iterable[tuple[int, Outcome]]) -> list[tuple[Unanswered[W], Outcome]]:
        """Process outcomes; returns those whose turn it is, each once."""
        unanswered, early = self._unanswered, self._early
        ready: list[tuple[Unanswered[W], Outcome]] = []
        for cxid, outcome in outcomes:
            if cxid not in unanswered:
                continue
            if cxid == self.acked + 1:
                self.acked = cxid
                ready.append((unanswered.pop(cxid), outcome))
                if early:
                    early.pop(cxid, None)  # it came before, too
            else:
                early[cxid] = outcome
        while early and (number := self.acked + 1) in early:
            self.acked = number
            ready.append((unanswered.pop(number), early.pop(number)))
        return ready

    def abandon(self) -> list[W]:
        """Drop all unanswered requests, when the session is over; returns their waiters."""
        given_up = self.waiters()
        self._unanswered = {}
        self._early = {}
        self._unsent = []
        self._unsent_bytes = 0
        return given_up
