"""All intervals of a session, in seconds: renewals, waits and resends. Has no clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from faaskeeper.session.outbox import Outbox

RENEWALS = 3
"""The number of renewals of a lease in one time-out."""
OPEN_S = 1.0
"""How long to wait for the answer to an opening, or to a server's question, before a resend."""
WAIT_S = 0.01
WAIT_MOST_S = 0.5
"""The first and the longest wait of steps between checks for a write in user storage."""
RING_S = 0.015
"""How long such a write may take before the service is asked, through a queue, to apply the log."""
RESEND_S = 2.0
RESEND_MOST_S = 30.0


def doubling(first: float, most: float = float("inf")) -> Iterator[float]:
    """Intervals that double, up to ``most``."""
    while True:
        yield first
        first = min(first * 2, most)


def attempts(timeout: float, now: Callable[[], float]) -> Iterator[float]:
    """How long to wait for an answer after each send, for ``timeout`` seconds in all."""
    deadline = now() + timeout
    for pause in doubling(OPEN_S):
        yield min(pause, max(deadline - now(), 0))
        if now() >= deadline:
            return


class Resending:
    """When to resend unanswered requests: after 2 s without any answer; then waits double."""

    def __init__(self, now: float) -> None:
        self._after = RESEND_S
        self.acked = 0
        """The outbox's ``acked`` at the last check."""
        self.at = now + self._after
        """The time of the next check."""

    def restart(self, now: float) -> None:
        """Restart the wait: requests are sent, and none was in flight before."""
        self.at = now + self._after

    def due(self, now: float, outbox: Outbox[Any]) -> bool:
        """Whether to resend the unanswered requests now."""
        if now < self.at:
            return False
        stuck = outbox.acked == self.acked and len(outbox) > 0
        self._after = min(self._after * 2, RESEND_MOST_S) if stuck else RESEND_S
        self.acked = outbox.acked
        self.at = now + self._after
        return stuck
