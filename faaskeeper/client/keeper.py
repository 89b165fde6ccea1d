"""What a session does by itself: renew its lease, send again, send what other threads left to it."""

from __future__ import annotations

from typing import Any, Protocol

from faaskeeper.client.runtime import Condition, Lock, Runtime
from faaskeeper.core.requests import Request
from faaskeeper.session.outbox import Outbox
from faaskeeper.session.timing import Resending

NEVER = float("inf")


class Kept(Protocol):
    """What the keeper has its session do."""

    def send(self, requests: tuple[Request, ...], acked: int) -> None:
        """Send requests."""

    def flush(self) -> None:
        """Send what is not sent yet."""

    def tidy(self) -> None:
        """Remove registrations that nothing waits for."""

    def renew(self) -> None:
        """Renew the lease."""


class Keeper:
    """Runs in a thread of its own. ``lock`` is the session's, ``wake`` its condition.

    ``every``: seconds between renewals (:data:`NEVER`: the lease is not renewed). While nothing is asked the
    thread sleeps until the lease is due, and the next request wakes it.
    """

    def __init__(
        self, session: Kept, outbox: Outbox[Any], runtime: Runtime, lock: Lock, wake: Condition, every: float
    ) -> None:
        self._session = session
        self._outbox = outbox
        self._runtime = runtime
        self._lock = lock
        self._wake = wake
        self._every = every
        self._dozing = False
        self._handed_over = False
        self._ending = False

    def asked(self) -> None:
        """A request was added; with the lock held."""
        if self._dozing:
            self._dozing = False
            self._wake.notify_all()

    def hand_over(self) -> None:
        """Leave to the keeper what is unsent, and the registrations that nothing waits for."""
        with self._lock:
            self._handed_over = True
            self._wake.notify_all()

    def end(self) -> None:
        """Have :meth:`run` end; with the lock held."""
        self._ending = True
        self._wake.notify_all()

    def forked(self, lock: Lock, wake: Condition) -> None:
        """In a forked child: ``lock`` and ``wake`` replace the parent's."""
        self._lock, self._wake = lock, wake

    def run(self) -> None:
        """Keep the session until :meth:`end`."""
        clock = self._runtime.monotonic
        renew_at = clock() + self._every
        resending = Resending(clock())
        while True:
            with self._lock:
                if self._ending:
                    return
                quiet = not len(self._outbox) and self._outbox.acked == resending.acked
                self._dozing = quiet
                due = renew_at if quiet else min(renew_at, resending.at)
                unsent, self._handed_over = self._handed_over, False
                if due > clock() and not unsent:
                    self._wake.wait(None if due == NEVER else due - clock())
                    if self._dozing != quiet:  # woken by a request
                        resending.restart(clock())
                    continue
                again: tuple[Request, ...] = ()
                if resending.due(clock(), self._outbox):
                    again = self._outbox.resend(self._outbox.acked + 1)
                acked = self._outbox.acked
            if again:
                self._session.send(again, acked)
            if unsent:
                self._session.flush()
                self._session.tidy()
            if clock() >= renew_at:
                renew_at = clock() + self._every
                self._session.renew()
