"""The background work of a session: renews its lease, resends, sends what other threads left."""

from __future__ import annotations

from typing import Any, Protocol

from faaskeeper.client.runtime import Condition, Lock, Runtime
from faaskeeper.client.sender import Sender
from faaskeeper.core.requests import Request
from faaskeeper.session.outbox import Outbox
from faaskeeper.session.timing import Resending

NEVER = float("inf")


class Kept(Protocol):
    """The session as the keeper uses it."""

    def tidy(self) -> None:
        """Remove registrations without a watch."""

    def renew(self, returned: bool = False) -> None:
        """Renew the lease; see :meth:`faaskeeper.session.engine.Engine.renewal`."""


class Keeper:
    """Runs in its own thread. ``lock`` is the session's, ``wake`` its condition.

    ``every``: seconds between renewals (:data:`NEVER`: the lease is not renewed). Without requests,
    the thread sleeps until the lease is due; the next request wakes it.
    """

    def __init__(
        self,
        session: Kept,
        sender: Sender,
        outbox: Outbox[Any],
        runtime: Runtime,
        lock: Lock,
        wake: Condition,
        every: float,
    ) -> None:
        self._session = session
        self._sender = sender
        self._outbox = outbox
        self._runtime = runtime
        self._lock = lock
        self._wake = wake
        self._every = every
        self._dozing = False
        self._handed_over = False
        self._returned = False
        self._ending = False

    def returned(self) -> None:
        """The service was away and is back: send all again, renew, and meet what was missed."""
        with self._lock:
            self._returned = True
            self._wake.notify_all()

    def asked(self) -> None:
        """Note that a request was added. The caller holds the lock."""
        if self._dozing:
            self._dozing = False
            self._wake.notify_all()

    def hand_over(self) -> None:
        """Leave unsent requests, and registrations without a watch, to the keeper."""
        with self._lock:
            self._handed_over = True
            self._wake.notify_all()

    def end(self) -> None:
        """Make :meth:`run` return. The caller holds the lock."""
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
                returned, self._returned = self._returned, False
                if due > clock() and not unsent and not returned:
                    self._wake.wait(None if due == NEVER else due - clock())
                    if self._dozing != quiet:  # woken by a request
                        resending.restart(clock())
                    continue
                again: list[tuple[Request, ...]] = []
                if returned:
                    again = self._outbox.resend_all()
                elif resending.due(clock(), self._outbox):
                    again = [self._outbox.resend(self._outbox.acked + 1)]
                acked = self._outbox.acked
            for requests in again:
                self._sender.send(requests, acked)
            if unsent:
                self._sender.flush()
                self._session.tidy()
            if clock() >= renew_at or (returned and self._every != NEVER):
                renew_at = clock() + self._every
                self._session.renew(returned)
