"""The order in which a session's requests begin: each sees only the effects of those before it.

Requests begin in the order in which they are added:

==================  ====================================================================
the next request    begins as soon as
==================  ====================================================================
write               no read is in flight; earlier writes may be, since the service keeps
                    the order of a session's writes
read                no write is in flight, and fewer than ``most`` reads are
any, during a hold  the hold is released
==================  ====================================================================
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Order(Generic[T]):
    """Requests that wait, and how many are in flight. ``most``: the limit of concurrent reads."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.queue: deque[tuple[bool, T]] = deque()
        """The requests that wait for their turn, each with whether it is a write; read only."""
        self.writing = 0
        """Writes that have begun and have no answer."""
        self.reading = 0
        """Reads that have begun and are not done."""
        self._held = False

    def __len__(self) -> int:
        """The number of requests that wait for their turn."""
        return len(self.queue)

    def may_begin(self, write: bool) -> bool:
        """Whether a new request may begin at once."""
        if self.queue or self._held:
            return False
        return not self.reading if write else not self.writing and self.reading < self._most

    def add(self, write: bool, request: T) -> None:
        """Queue a request until its turn."""
        self.queue.append((write, request))

    def waiting(self) -> list[T]:
        """The requests that wait for their turn."""
        return [request for _, request in self.queue]

    def remove(self, request: T) -> bool:
        """Remove a waiting request; False if it no longer waits."""
        for at, (_, each) in enumerate(self.queue):
            if each is request:
                del self.queue[at]
                return True
        return False

    def begin(self, write: bool) -> None:
        """Count a request as begun."""
        if write:
            self.writing += 1
        else:
            self.reading += 1

    def next(self, reads: bool = True) -> T | None:
        """Begin the next request and return it; None if none may begin.

        ``reads``: whether a read may.
        """
        if not self.queue or self._held:
            return None
        write, request = self.queue[0]
        if write:
            if self.reading:
                return None
            self.writing += 1
        else:
            if self.writing or self.reading >= self._most or not reads:
                return None
            self.reading += 1
        self.queue.popleft()
        return request

    def may_read(self) -> bool:
        """Whether the next request may begin if it is a read."""
        return not self._held and not self.writing and self.reading < self._most

    def reads(self, fits: Callable[[T], object], most: int) -> list[T]:
        """The reads that are next, as long as ``fits``, if one may begin; at most ``most``.

        They stay in the queue: :meth:`skip` removes those that were done at once.
        """
        found: list[T] = []
        if not self.may_read():
            return found
        for write, request in self.queue:
            if write or len(found) == most or not fits(request):
                break
            found.append(request)
        return found

    def comes(self, request: T) -> bool:
        """Whether a request is the next one."""
        return bool(self.queue) and self.queue[0][1] is request

    def skip(self, number: int) -> None:
        """Remove the next so many requests, which are done."""
        for _ in range(number):
            self.queue.popleft()

    def join(self, fits: Callable[[T], bool], most: int) -> list[T]:
        """Take the reads that follow, as long as ``fits``, to join the read that began last.

        They count as one read with it. Takes at most ``most``.
        """
        joined: list[T] = []
        while self.queue and len(joined) < most:
            write, request = self.queue[0]
            if write or not fits(request):
                break
            joined.append(self.queue.popleft()[1])
        return joined

    def hold(self) -> None:
        """Begin nothing until :meth:`release`: a write that has begun cannot be sent yet."""
        self._held = True

    def release(self) -> None:
        """End a :meth:`hold`."""
        self._held = False

    def done(self, write: bool, number: int = 1) -> None:
        """Count requests as answered."""
        if write:
            self.writing -= number
        else:
            self.reading -= number

    def abandon(self) -> list[T]:
        """Remove all waiting requests and return them."""
        waiting = self.waiting()
        self.queue.clear()
        return waiting
