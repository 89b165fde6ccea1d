"""Latencies drawn from those of a cloud: quantiles by kind of call and size of payload."""

from __future__ import annotations

import json
from bisect import bisect_left
from pathlib import Path
from random import Random
from typing import Any

_LARGEST = 10 * 1024 * 1024
"""Up to so many bytes a bounded kind of call is extrapolated."""


class Latencies:
    """Draws by inverting the quantiles; between two measured sizes it interpolates.

    ``path``: JSON with ``quantiles`` (a list from 0 to 1) and, by cloud, kind and size in bytes, a
    latency in ms for each.
    """

    def __init__(self, path: Path, cloud: str, random: Random) -> None:
        data = json.loads(path.read_text(encoding="utf-8"))
        self._quantiles: list[float] = data["quantiles"]
        self._random = random
        self._kinds: dict[str, tuple[list[int], list[list[float]]]] = {}
        for kind, by_size in data[cloud].items():
            sizes = sorted(int(size) for size in by_size)
            self._kinds[kind] = (sizes, [by_size[str(size)] for size in sizes])
        self.published: dict[str, Any] = data["published"]

    def take(self, kind: str, other: Latencies) -> None:
        """Draw a kind of call from the quantiles of another."""
        self._kinds[kind] = other._kinds[kind]

    def bound(self, kind: str, row: list[float], less: str = "", many: int = 0) -> None:
        """Draw a kind of call from the quantiles of an operation of few bytes that contains it.

        ``row``: latencies of the operation in ms, one for each quantile. ``less``, ``many``: it
        also contains so many calls of another kind (with 1 KB), whose latency is subtracted. A larger
        call takes longer by as much as a call of that other kind does, at the median.
        """
        made: list[float] = []
        for quantile, value in zip(self._quantiles, row, strict=True):
            rest = value - (many * self.at(less, 1024, quantile) if less else 0.0)
            made.append(max(rest, made[-1] if made else 0.0))
        self._kinds[kind] = ([0], [made])
        if less:
            largest = self._kinds[less][0][-1]
            grown = self.at(less, largest, 0.5) - self.at(less, 1024, 0.5)
            longer = max(grown, 0.0) * _LARGEST / (largest - 1024)
            self._kinds[kind] = ([1024, _LARGEST], [made, [each + longer for each in made]])

    def leave_out_pauses(self, kind: str, size: int) -> None:
        """Leave out what retries added to a kind of call, of this size (bytes) and larger ones.

        A pause makes a call take more than twice as long as the fastest. What is faster keeps its
        proportions.
        """
        sizes, rows = self._kinds[kind]
        made: list[list[float]] = []
        for each, row in zip(sizes, rows, strict=True):
            last = max(at for at, value in enumerate(row) if value < 2 * row[0])
            share = self._quantiles[last] if each >= size else 1.0
            made.append([self._inverted(row, quantile * share) for quantile in self._quantiles])
        self._kinds[kind] = (sizes, made)

    def mean(self, kind: str, size: int) -> float:
        """The mean latency of a measured size, ms: the quantiles' polygon up to the last but one.

        The last is one call, which may have taken a minute.
        """
        sizes, rows = self._kinds[kind]
        row, quantiles = rows[sizes.index(size)], self._quantiles
        parts = [
            (quantiles[at + 1] - quantiles[at]) * (row[at] + row[at + 1]) / 2 for at in range(len(row) - 2)
        ]
        return sum(parts) + (quantiles[-1] - quantiles[-2]) * row[-2]

    def draw(self, kind: str, size: int = 0) -> float:
        """A latency in ms."""
        return self.at(kind, size, self._random.random())

    def at(self, kind: str, size: int, quantile: float) -> float:
        """The latency in ms at a quantile (0 to 1)."""
        sizes, rows = self._kinds[kind]
        above = min(bisect_left(sizes, size), len(sizes) - 1)
        below = max(above - 1, 0) if sizes[above] > size else above
        high = self._inverted(rows[above], quantile)
        if below == above:
            return high
        share = (size - sizes[below]) / (sizes[above] - sizes[below])
        low = self._inverted(rows[below], quantile)
        return low + (high - low) * max(share, 0.0)

    def _inverted(self, row: list[float], quantile: float) -> float:
        above = min(bisect_left(self._quantiles, quantile), len(row) - 1)
        if above == 0:
            return row[0]
        low, high = self._quantiles[above - 1], self._quantiles[above]
        share = (quantile - low) / (high - low)
        return row[above - 1] + (row[above] - row[above - 1]) * share
