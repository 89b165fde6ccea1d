"""The super user of a deployment on a cloud: a salted hash of the digest id, in the settings.

``fk deploy`` writes it (:func:`set_super_user`). Functions, trusted writers and servers read it
(:class:`SavedSuperUser`); nobody else may read the settings.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from hashlib import scrypt
from hmac import compare_digest
from typing import Any

from faaskeeper.core.clocks import Clock
from faaskeeper.core.drivers.storage import Item, Table
from faaskeeper.core.errors import DriverError

REFRESH_MS = 60_000
"""How long the row is used before it is read again."""
GUESSES = 3
"""How many ids of the super user's name are judged for one client; further ones count as wrong."""
_ROW = ("super", "super")
_COST = {"n": 1 << 14, "r": 8, "p": 1}
"""Scrypt's parameters for new rows: 16 MB and some 50 ms."""
_MAX_BYTES = 64 << 20
_SALT_BYTES = 16
_MOST = 10_000
"""Most clients, and most ids, that are remembered."""

_log = logging.getLogger(__name__)


def _hash(id: str, salt: bytes, cost: dict[str, int]) -> bytes:
    return scrypt(id.encode(), salt=salt, maxmem=_MAX_BYTES, dklen=32, **cost)


def salted(digest: str, random: Callable[[int], bytes] = os.urandom) -> Item:
    """The row for a super user's digest id, ``USER:BASE64``."""
    salt = random(_SALT_BYTES)
    hashed = _hash(digest, salt, _COST)
    return {"stamp": 1, "user": digest.split(":", 1)[0], "salt": salt, "hash": hashed, **_COST}


def set_super_user(settings: Table, digest: str) -> None:
    """Set the deployment's super user; "": there is none."""
    if digest:
        settings.put(*_ROW, salted(digest))
    else:
        settings.delete(*_ROW)


class SavedSuperUser:
    """Judges whether a digest id is the super user's; a :data:`faaskeeper.core.acl.SuperUser`.

    ``digest``: the id in the configuration, which counts while there is no row: functions that an
    earlier release deployed have it there. ``clock``: ms of elapsed time.
    """

    def __init__(self, settings: Table, digest: str, clock: Clock) -> None:
        self._settings = settings
        self._digest = digest
        self._clock = clock
        self._lock = threading.Lock()
        self._row: Any = None
        self._looked: int | None = None
        self._judged: OrderedDict[str, bool] = OrderedDict()
        self._guesses: OrderedDict[object, int] = OrderedDict()

    def look(self) -> None:
        """Read the row. Raises DriverError."""
        row = self._settings.get(*_ROW)
        with self._lock:
            self._looked = self._clock()
            if row != self._row:
                self._row = row
                self._judged.clear()
                self._guesses.clear()

    def __call__(self, id: str, by: object) -> bool:
        if self._looked is None or self._clock() - self._looked > REFRESH_MS:
            try:
                self.look()
            except DriverError as error:
                _log.warning("the super user could not be read again: %s", error)
        row = self._row
        if row is None:
            return bool(self._digest) and compare_digest(id.encode(), self._digest.encode())
        if id.split(":", 1)[0] != row["user"]:
            return False
        with self._lock:  # one hash at a time
            return self._judge(id, by, row)

    def _judge(self, id: str, by: object, row: Any) -> bool:
        known = self._judged.get(id)
        if known is not None:
            return known
        guesses = self._guesses.pop(by, 0)
        _remember(self._guesses, by, guesses + 1)
        if guesses >= GUESSES:
            return False
        cost = {name: row[name] for name in _COST}
        right = compare_digest(_hash(id, row["salt"], cost), row["hash"])
        _remember(self._judged, id, right)
        return right


def _remember(memory: OrderedDict[Any, Any], key: object, value: object) -> None:
    memory[key] = value
    if len(memory) > _MOST:
        memory.popitem(last=False)
