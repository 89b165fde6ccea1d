"""Who may see the page: logins by a token, or by ZooKeeper's digest credentials; and their sessions.

A login is a random number in a cookie that scripts cannot read; here only its hash is kept. By token,
everybody shares the session of ``fk ui``. By digest credentials, each has a session of their own,
with the rights of these credentials. A deployment does not check a password before an ACL asks for
it, so one may log in who can read a znode that not everybody may read: *the gate*.
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from hashlib import sha256
from hmac import compare_digest

from faaskeeper.core.errors import DriverError
from faaskeeper.exceptions import FaaSKeeperException
from faaskeeper.providers.clocks import elapsed_s
from faaskeeper.ui.access import Access
from faaskeeper.ui.follower import Follower
from faaskeeper.ui.index import Index
from faaskeeper.ui.service import Gauge
from faaskeeper.ui.settings import Settings

_IDLE_S = 12 * 3600.0
"""A login that nobody uses for so long is over."""
_MOST = 100
"""Logins at a time; the one that was not used for longest gives way."""
_FAILED, _WITHIN_S = 10, 60.0
"""After so many failed attempts within this time, no further one is looked at."""


class Visit:
    """What one login sees: a session with the deployment, its events, its index."""

    def __init__(self, access: Access, settings: Settings) -> None:
        self.access = access
        self.follower = Follower(access)
        self.index = Index(access, self.follower)
        self.gauge = Gauge(access, settings.servers)
        self.used = elapsed_s()

    def close(self) -> None:
        """End the session."""
        self.follower.close()
        self.access.close()


class TooOften(Exception):
    """Too many attempts to log in failed: passwords could be guessed, a token cannot."""


class Logins:
    """The logins. ``make``: makes the session for credentials (of the scheme digest)."""

    def __init__(self, settings: Settings, shared: Visit, make: Callable[[str], Access]) -> None:
        self._settings = settings
        self._shared = shared
        self._make = make
        self._lock = threading.Lock()
        self._known: OrderedDict[bytes, Visit] = OrderedDict()
        self._failures: deque[float] = deque(maxlen=_FAILED)

    def of(self, cookie: str) -> Visit | None:
        """What the bearer of a cookie sees; None: they have to log in."""
        if not self._settings.login:
            return self._shared
        name = sha256(cookie.encode()).digest()
        with self._lock:
            visit = self._known.get(name)
            if visit is None:
                return None
            if elapsed_s() - visit.used > _IDLE_S:
                gone = self._known.pop(name)
            else:
                visit.used = elapsed_s()
                self._known.move_to_end(name)
                return visit
        self._close(gone)
        return None

    def enter(self, user: str, secret: str) -> str | None:
        """Log in; returns the cookie, None if the secret is wrong. Raises TooOften."""
        visit = self._by_token(secret) if self._settings.token else self._by_digest(user, secret)
        if visit is None:
            return None
        cookie = secrets.token_urlsafe(32)
        with self._lock:
            self._known[sha256(cookie.encode()).digest()] = visit
            gone = [self._known.popitem(last=False)[1] for _ in range(len(self._known) - _MOST)]
        for each in gone:
            self._close(each)
        return cookie

    def _by_token(self, token: str) -> Visit | None:
        right = compare_digest(
            sha256(token.encode()).digest(), sha256(self._settings.token.encode()).digest()
        )
        return self._shared if right else None

    def _by_digest(self, user: str, password: str) -> Visit | None:
        if not user or ":" in user:
            return None
        with self._lock:
            now = elapsed_s()
            if len(self._failures) == _FAILED and now - self._failures[0] < _WITHIN_S:
                raise TooOften
            self._failures.append(now)  # before it is looked at: others may try at the same time
        access = self._make(f"{user}:{password}")
        try:
            access.client.get_data(self._settings.gate)
        except (DriverError, FaaSKeeperException):
            access.close()
            return None
        with self._lock:
            if now in self._failures:
                self._failures.remove(now)
        return Visit(access, self._settings)

    def leave(self, cookie: str) -> None:
        """Log out."""
        with self._lock:
            visit = self._known.pop(sha256(cookie.encode()).digest(), None)
        if visit is not None:
            self._close(visit)

    def _close(self, visit: Visit) -> None:
        if visit is not self._shared:
            visit.close()

    def close(self) -> None:
        """End all."""
        with self._lock:
            known, self._known = list(self._known.values()), OrderedDict()
        for each in known:
            self._close(each)
        self._shared.close()
