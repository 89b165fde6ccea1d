"""When a session does again what it does more than once: all its intervals, in seconds. Has no clock."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from faaskeeper.session.outbox import Outbox

RENEWALS = 3
"""How often a lease is renewed in one time-out."""
OPEN_S = 1.0
"""How long an answer to an opening, or to a question of a server's, may take before it is asked again."""
WAIT_S = 0.01
WAIT_MOST_S = 0.5
"""How long steps wait, first and at most, before they look again whether a write is in user storage."""
RING_S = 0.015
"""How long that may take before the service is asked, through a queue, to apply what is in the log."""
RESEND_S = 2.0
RESEND_MOST_S = 30.0


def doubling(first: float, most: float = float("inf")) -> Iterator[float]:
    """Intervals that double, up to ``most``."""
    while True:
        yield first
        first = min(first * 2, most)


class Resending:
    """When unanswered requests are sent again: after 2 s without any answer, then twice as long each time."""

    def __init__(self, now: float) -> None:
        self._after = RESEND_S
        self.acked = 0
        """What was answered when this looked last."""
        self.at = now + self._after
        """When to look again."""

    def restart(self, now: float) -> None:
        """Requests are sent after none was under way."""
        self.at = now + self._after

    def due(self, now: float, outbox: Outbox[Any]) -> bool:
        """Whether to send now, again, what is unanswered."""
        if now < self.at:
            return False
        stuck = outbox.acked == self.acked and len(outbox) > 0
        self._after = min(self._after * 2, RESEND_MOST_S) if stuck else RESEND_S
        self.acked = outbox.acked
        self.at = now + self._after
        return stuck
