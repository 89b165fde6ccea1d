"""In which order a session's requests begin, so that each sees what was asked before it, and no more.

Writes that follow each other are sent on together, since the service keeps their order. A read begins when
the writes before it are answered; a write begins when the reads before it are done. Reads that follow each
other exclude each other or not, as their results are handed on.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Order(Generic[T]):
    """Requests that wait for their turn, and how many are under way. ``most``: reads at one time."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: deque[tuple[bool, T]] = deque()
        self.writing = 0
        """Writes that were begun and have no answer."""
        self.reading = 0
        """Reads that were begun and are not done."""

    def __len__(self) -> int:
        """How many requests wait for their turn."""
        return len(self._waiting)

    def may_begin(self, write: bool) -> bool:
        """Whether a request that is asked for now may begin at once."""
        return not self._waiting and self._may(write)

    def _may(self, write: bool) -> bool:
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

    def next(self) -> T | None:
        """The next request, which begins by this; None where none may."""
        if not self._waiting or not self._may(self._waiting[0][0]):
            return None
        write, request = self._waiting.popleft()
        self.begin(write)
        return request

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
