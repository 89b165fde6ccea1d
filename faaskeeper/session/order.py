"""The order in which a session's requests begin: each sees the effects of those before it only.

Requests begin in the order in which they are added:

==================  ====================================================================
the next request    begins as soon as
==================  ====================================================================
write               no read is under way; earlier writes may be, since the service keeps
                    the order of a session's writes
read                no write is under way, and fewer than ``most`` reads are
any, during a hold  the hold is released
==================  ====================================================================
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Order(Generic[T]):
    """Requests that wait, and how many are under way. ``most``: reads at one time."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: deque[tuple[bool, T]] = deque()
        self.writing = 0
        """Writes that were begun and have no answer."""
        self.reading = 0
        """Reads that were begun and are not done."""
        self._held = False

    def __len__(self) -> int:
        """How many requests wait for their turn."""
        return len(self._waiting)

    def may_begin(self, write: bool) -> bool:
        """Whether a request that is asked for now may begin at once."""
        if self._waiting or self._held:
            return False
        return not self.reading if write else not self.writing and self.reading < self._most

    def add(self, write: bool, request: T) -> None:
        """Have a request wait for its turn."""
        self._waiting.append((write, request))

    def waiting(self) -> list[T]:
        """The requests that wait for their turn."""
        return [request for _, request in self._waiting]

    def remove(self, request: T) -> bool:
        """Forget a request that waits; False where it does not any more."""
        for at, (_, each) in enumerate(self._waiting):
            if each is request:
                del self._waiting[at]
                return True
        return False

    def begin(self, write: bool) -> None:
        """A request begins."""
        if write:
            self.writing += 1
        else:
            self.reading += 1

    def next(self, reads: bool = True) -> T | None:
        """The next request, which begins by this; None where none may. ``reads``: a read may."""
        if not self._waiting or self._held:
            return None
        write, request = self._waiting[0]
        if write:
            if self.reading:
                return None
            self.writing += 1
        else:
            if self.writing or self.reading >= self._most or not reads:
                return None
            self.reading += 1
        self._waiting.popleft()
        return request

    def join(self, fits: Callable[[T], bool], most: int) -> list[T]:
        """Take the reads that follow, while they fit, to be done with the read that was begun last.

        They count as one read with it. ``most``: how many.
        """
        joined: list[T] = []
        while self._waiting and len(joined) < most:
            write, request = self._waiting[0]
            if write or not fits(request):
                break
            joined.append(self._waiting.popleft()[1])
        return joined

    def hold(self) -> None:
        """Begin nothing until :meth:`release`: a write that was begun is not ready to be sent."""
        self._held = True

    def release(self) -> None:
        """Go on after :meth:`hold`."""
        self._held = False

    def done(self, write: bool) -> None:
        """A request is answered."""
        if write:
            self.writing -= 1
        else:
            self.reading -= 1

    def abandon(self) -> list[T]:
        """Forget every request that waits; returns them."""
        waiting = self.waiting()
        self._waiting.clear()
        return waiting
