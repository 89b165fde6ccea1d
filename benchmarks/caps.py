"""What a service lets through: limits for a key, an object, a queue, and how a call waits for them.

The limits are data (``data/limits.json``), each with its source. A limit is a bucket that holds one
second's worth and fills evenly. AWS refuses a call that finds too little in a bucket, and the
client's library calls again after a pause. Google slows calls down: there a call waits until the
bucket has enough.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

DATA = Path(__file__).parent / "data" / "limits.json"
REFUSED_MS = 4.0
"""How long a refused call takes, ms: an assumption."""
PAUSE_MS = 1000.0
_PAUSES = 2
"""botocore's retries, mode *standard*: a random part of 1 s, then of 2 s. Its third refusal is an
error, and the queue delivers again. The model goes on as with the second."""


def limits() -> dict[str, dict[str, Any]]:
    """The known limits, with their sources."""
    found: dict[str, dict[str, Any]] = json.loads(DATA.read_text(encoding="utf-8"))["limits"]
    return found


class Use(NamedTuple):
    """What a call takes of a limit. ``name``: of the key, object or queue that the limit is for."""

    limit: str
    name: str
    units: float


class _Bucket:
    def __init__(self, a_second: float, now: float) -> None:
        self._rate = a_second / 1000
        self._most = a_second
        self._level = a_second
        self._since = now

    def lacks_ms(self, units: float, now: float) -> float:
        """How long (ms) until the bucket has as many; a full one lets anything through."""
        self._level = min(self._most, self._level + (now - self._since) * self._rate)
        self._since = now
        return max(min(units, self._most) - self._level, 0.0) / self._rate

    def take(self, units: float) -> None:
        self._level -= units  # below zero: what follows waits for it


class Caps:
    """The limits of a cloud. ``refuses``: whether its services refuse calls that exceed them."""

    def __init__(self, cloud: str, refuses: bool, random: Random) -> None:
        known = {name: row for name, row in limits().items() if row["cloud"] == cloud}
        self._rates = {name: row["a_second"] for name, row in known.items() if row.get("modelled", True)}
        self._refuses = refuses
        self._random = random
        self._buckets: dict[tuple[str, str], _Bucket] = {}
        self.used: Counter[tuple[str, str]] = Counter()
        """Units let through, by limit and name."""
        self.refused: Counter[tuple[str, str]] = Counter()
        """Calls that were refused or had to wait."""

    def pass_through(
        self, uses: Sequence[Use], now: Callable[[], float], sleep: Callable[[float], object]
    ) -> None:
        """Return when a call is let through, after as many attempts as that takes."""
        uses = [each for each in uses if each.limit in self._rates]
        attempt = 0
        while True:
            waits = [(self._bucket(each, now()).lacks_ms(each.units, now()), each) for each in uses]
            longest, worst = max(waits, default=(0.0, None), key=lambda each: each[0])
            if worst is None or longest <= 1e-6:
                break
            self.refused[worst.limit, worst.name] += 1
            if self._refuses:
                attempt = min(attempt + 1, _PAUSES)
                sleep(REFUSED_MS + self._random.random() * PAUSE_MS * attempt)
            else:
                sleep(longest)
        for each in uses:
            self._bucket(each, now()).take(each.units)
            self.used[each.limit, each.name] += each.units  # type: ignore[assignment]

    def _bucket(self, use: Use, now: float) -> _Bucket:
        key = use.limit, use.name
        if key not in self._buckets:
            self._buckets[key] = _Bucket(self._rates[use.limit], now)
        return self._buckets[key]

    def nearest(self, seconds: float) -> tuple[str, str, float, int]:
        """The limit that was used most: its name, what for, the share used, calls that waited."""
        share, limit, name = max(
            (
                (units / seconds / self._rates[limit], limit, name)
                for (limit, name), units in self.used.items()
            ),
            default=(0.0, "", ""),
        )
        return limit, name, share, self.refused[limit, name]
