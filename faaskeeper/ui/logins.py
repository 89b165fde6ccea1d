"""Who may see the page: logins by a token, or by ZooKeeper's digest credentials; and their sessions.

A login is a random number in a cookie that scripts cannot read; here only its hash is kept. By token,
everybody shares the session of ``fk ui``. By digest credentials, each has a session of their own,
with the rights of these credentials. A deployment does not check a password before an ACL asks for
it, so one may log in who can read a znode that nobody may read without a password: *the gate*.

*Guesses.* An attempt by password is counted before the deployment is asked, and forgotten unless the
password was wrong. So neither one address nor all together have more of them under way, or failed
within a time, than is said below. They are counted by address, so nobody keeps others out.
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from hmac import compare_digest
from ipaddress import ip_address, ip_network

from faaskeeper.cli.errors import Failed
from faaskeeper.clocks import elapsed_s
from faaskeeper.exceptions import NoAuthException
from faaskeeper.ui.access import Access
from faaskeeper.ui.follower import Follower
from faaskeeper.ui.index import Index
from faaskeeper.ui.service import Gauge
from faaskeeper.ui.settings import Settings

_IDLE_S = 12 * 3600.0
"""A login that nobody uses for so long is over. A page that only listens does not use it."""
_LONGEST_S = 7 * 24 * 3600.0
"""A login is over after so long, however much it is used."""
_MOST = 100
"""Logins at a time; the one that was not used for longest gives way."""
_FAILED, _ALL, _WITHIN_S = 10, 100, 60.0
"""After so many failed attempts of an address, or of all, within this time none is looked at."""
OPEN_GATE = "everybody may read {} without a password"


class Visit:
    """What one login sees: a session with the deployment, its events, its index."""

    def __init__(self, access: Access, settings: Settings) -> None:
        self.access = access
        self.follower = Follower(access)
        self.index = Index(access, self.follower)
        self.gauge = Gauge(access, settings.servers)

    def close(self) -> None:
        """End the session."""
        self.follower.close()
        self.access.close()


class _Login:
    """A cookie that is good, and since when."""

    def __init__(self, visit: Visit) -> None:
        self.visit = visit
        self.began = self.used = elapsed_s()

    @property
    def over(self) -> bool:
        now = elapsed_s()
        return now - self.used > _IDLE_S or now - self.began > _LONGEST_S


class TooOften(Exception):
    """Too many attempts to log in failed: passwords could be guessed, a token cannot."""


class Logins:
    """The logins. ``make``: makes the session for credentials (of the scheme digest)."""

    def __init__(self, settings: Settings, shared: Visit, make: Callable[[str], Access]) -> None:
        self._settings = settings
        self._shared = shared
        self._make = make
        self._lock = threading.Lock()
        self._known: OrderedDict[bytes, _Login] = OrderedDict()
        self._attempts: list[tuple[float, str]] = []

    def of(self, cookie: str) -> Visit | None:
        """What the bearer of a cookie sees, who uses it now; None: they have to log in."""
        if not self._settings.login:
            return self._shared
        name = _name(cookie)
        with self._lock:
            login = self._known.get(name)
            if login is None or login.over:
                return None
            login.used = elapsed_s()
            self._known.move_to_end(name)
            return login.visit

    def good(self, cookie: str) -> bool:
        """Whether a cookie is good still; this does not use it."""
        if not self._settings.login:
            return True
        with self._lock:
            login = self._known.get(_name(cookie))
            return login is not None and not login.over

    def enter(self, user: str, secret: str, address: str, before: str = "") -> str | None:
        """Log in; returns the cookie, None if the secret is wrong.

        ``address``: who asks. ``before``: the cookie that they had, which is good no more. Raises
        TooOften, Failed if the gate is open, and what opening a session raises.
        """
        visit = self._by_token(secret) if self._settings.token else self._by_digest(user, secret, address)
        if visit is None:
            return None
        cookie = secrets.token_urlsafe(32)
        with self._lock:
            old = self._known.pop(_name(before), None)
            self._known[_name(cookie)] = _Login(visit)
            gone = [self._known.popitem(last=False)[1] for _ in range(len(self._known) - _MOST)]
        for each in gone if old is None else [old, *gone]:
            self._close(each.visit)
        return cookie

    def sweep(self) -> None:
        """End the sessions of logins that are over."""
        with self._lock:
            gone = [name for name, login in self._known.items() if login.over]
            logins = [self._known.pop(name) for name in gone]
        for each in logins:
            self._close(each.visit)

    def _by_token(self, token: str) -> Visit | None:
        right = compare_digest(
            sha256(token.encode()).digest(), sha256(self._settings.token.encode()).digest()
        )
        return self._shared if right else None

    def _by_digest(self, user: str, password: str, address: str) -> Visit | None:
        if not user or ":" in user:
            return None
        attempt = self._attempt(_source(address))
        access = self._make(f"{user}:{password}")
        try:
            access.client.get_data(self._settings.gate)
            self._check_gate(access)
        except NoAuthException:
            access.close()
            return None
        except BaseException:
            self._forget(attempt)
            access.close()
            raise
        self._forget(attempt)
        return Visit(access, self._settings)

    def _check_gate(self, access: Access) -> None:
        """Raise Failed if it was not the password that opened the gate: its ACL may be another now."""
        acl, _ = access.client.get_acls(self._settings.gate)
        if access.open_to_strangers(acl):
            raise Failed(f"{OPEN_GATE.format(self._settings.gate)}, so nobody is let in by it", 9)

    def _attempt(self, source: str) -> tuple[float, str]:
        attempt = elapsed_s(), source
        with self._lock:
            self._attempts = [each for each in self._attempts if attempt[0] - each[0] < _WITHIN_S]
            of_source = sum(each[1] == source for each in self._attempts)
            if of_source >= _FAILED or len(self._attempts) >= _ALL:
                raise TooOften
            self._attempts.append(attempt)
        return attempt

    def _forget(self, attempt: tuple[float, str]) -> None:
        with self._lock:
            if attempt in self._attempts:
                self._attempts.remove(attempt)

    def leave(self, cookie: str) -> None:
        """Log out."""
        with self._lock:
            login = self._known.pop(_name(cookie), None)
        if login is not None:
            self._close(login.visit)

    def _close(self, visit: Visit) -> None:
        if visit is not self._shared:
            visit.close()

    def close(self) -> None:
        """End all."""
        with self._lock:
            known, self._known = list(self._known.values()), OrderedDict()
        for each in known:
            self._close(each.visit)
        self._shared.close()


def _name(cookie: str) -> bytes:
    return sha256(cookie.encode()).digest()


def _source(address: str) -> str:
    """Whom an address counts for: of IPv6, one has a network of 64 bits."""
    try:
        found = ip_address(address)
    except ValueError:
        return ""
    return str(ip_network((found, 64), strict=False)) if found.version == 6 else address
