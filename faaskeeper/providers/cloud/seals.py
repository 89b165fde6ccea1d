"""The key pairs of a deployment, for which clients seal their requests.

Heartbeat makes them (:func:`renew`): it puts the private halves into the settings, which only
functions and trusted writers read, and then publishes the newest public half beside the checkpoint,
which clients read and cannot write. ``docs/architecture/security.md``, *Keys of the envelopes*, has
the argument. What is published also says how the log is laid out (:func:`stripes_of`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from faaskeeper.core.clocks import Clock
from faaskeeper.core.drivers.storage import Condition, IfAbsent, IfOlder, IfStamp, Item, Table
from faaskeeper.core.errors import Conflict, Denied, DriverError

EVERY_MS = 30 * 24 * 3600 * 1000
"""How long a key pair is the newest."""
KEPT = 3
"""How many private keys are kept."""
REFRESH_MS = 15 * 60 * 1000
"""How long a client uses the public key that it read."""
LOOK_AGAIN_MS = 10_000
"""How often a function looks for a key pair that it does not know, at most."""
_KEY_BYTES = 32
_PRIVATE = ("deployment", "seals")
PUBLIC = ("checkpoint", "seal")
"""Where the public key is, in the table of the checkpoint."""

_log = logging.getLogger(__name__)


class Seal(NamedTuple):
    """A public key. ``generation``: the number of its pair."""

    generation: int
    key: X25519PublicKey


def _pairs(row: dict[str, Any]) -> dict[int, X25519PrivateKey]:
    """Private keys by generation, of the settings' row, which has the newest first."""
    keys: bytes = row["keys"]
    some = [keys[at : at + _KEY_BYTES] for at in range(0, len(keys), _KEY_BYTES)]
    newest: int = row["stamp"]
    return {newest - age: X25519PrivateKey.from_private_bytes(each) for age, each in enumerate(some)}


def renew(settings: Table, published: Table, now: int, stripes: int = 1, *, at_once: bool = False) -> bool:
    """Make a new key pair if one is due, and publish the newest; returns whether one was made.

    ``settings``, ``published``: the tables of the private and the public halves. ``now``: ms.
    ``stripes``: of the log. ``at_once``: a new one is due. Any number of processes may run this at
    once, and each may end anywhere.
    """
    row: Any = settings.get(*_PRIVATE)
    public: Any = published.get(*PUBLIC)
    due = row is None or at_once or abs(now - row["made"]) > EVERY_MS
    if row is not None and public is not None and not due:
        newest = _pairs(row)[row["stamp"]].public_key().public_bytes_raw()
        if (public["stamp"], public["key"]) == (row["stamp"], newest):
            if stripes_of(public) != stripes:
                _put(published, {**public, "stripes": stripes}, IfStamp(public["stamp"]))
            return False
        due = public["stamp"] >= row["stamp"]  # the settings are of an earlier moment than what is public
    if due:
        stamp = max(0 if each is None else each["stamp"] for each in (row, public)) + 1
        keys = X25519PrivateKey.generate().private_bytes_raw()
        if row is not None and stamp == row["stamp"] + 1:
            keys = (keys + row["keys"])[: KEPT * _KEY_BYTES]
        item = {"stamp": stamp, "made": now, "keys": keys}
        try:
            settings.put(*_PRIVATE, item, IfAbsent() if row is None else IfStamp(row["stamp"]))
        except Conflict:
            due = False  # another process was first
        row = settings.get(*_PRIVATE)
    key = _pairs(row)[row["stamp"]].public_key().public_bytes_raw()
    _put(published, {"stamp": row["stamp"], "key": key, "stripes": stripes}, IfOlder(row["stamp"]))
    return due


def _put(published: Table, row: Item, condition: Condition) -> None:
    try:
        published.put(*PUBLIC, row, condition)
    except Conflict:
        pass  # published already, or a later one


def stripes_of(row: Mapping[str, Any] | None) -> int:
    """Over how many partition keys the log is spread, by the settings or by what is published.

    Deployments of before stripes do not say it, and have one.
    """
    return 1 if row is None else int(row.get("stripes", 1))


class PrivateKeys:
    """A function's private keys, read when the first is needed. ``clock``: ms of elapsed time."""

    def __init__(self, settings: Table, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: dict[int, X25519PrivateKey] = {}
        self._looked: int | None = None

    def get(self, generation: int) -> X25519PrivateKey | None:
        """The private key of a generation, or None. Raises DriverError."""
        key = self._keys.get(generation)
        if key is None:
            with self._lock:
                self._look()
            key = self._keys.get(generation)
        return key

    def _look(self) -> None:
        """Read the keys again, unless they were read just now: anyone may name a generation."""
        now = self._clock()
        if self._looked is not None and now - self._looked < LOOK_AGAIN_MS:
            return
        row: Any = self._settings.get(*_PRIVATE)
        self._looked = now
        if row is not None:
            self._keys = _pairs(row)


class PublishedKey:
    """The newest public key, as clients read it. ``clock``: ms of elapsed time."""

    def __init__(self, table: Table, deployment: str, clock: Clock) -> None:
        self._table = table
        self._deployment = deployment
        self._clock = clock
        self._read = 0
        self._seal: Seal | None = None
        self.stripes = 1
        """Of the log, once the key was read."""

    def read(self) -> Seal:
        """Read the key. Raises DriverError."""
        now = self._clock()
        row: Any = self._table.get(*PUBLIC)
        if row is None:
            raise Denied(
                f"the deployment {self._deployment} has published no key with which to seal requests: its "
                "functions are of an earlier release. Run 'fk deploy functions', and heartbeat does that "
                "within a minute"
            )
        self._read = now
        self.stripes = stripes_of(row)
        self._seal = Seal(row["stamp"], X25519PublicKey.from_public_bytes(row["key"]))
        return self._seal

    def get(self) -> Seal:
        """The key, read again from time to time. Raises DriverError if none was ever read."""
        if self._seal is None or self._clock() - self._read > REFRESH_MS:
            try:
                return self.read()
            except DriverError as error:
                if self._seal is None:
                    raise
                _log.warning("the deployment's public key could not be read again: %s", error)
        return self._seal


SealOf = Callable[[], Seal]
"""Returns the key to seal with. Raises DriverError."""
