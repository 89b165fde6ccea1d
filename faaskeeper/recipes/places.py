"""Which contenders of a path hold and which wait, by the names of their nodes. Pure.

Knows the names of this package's recipes, of kazoo's (2.11) and of Curator's (5.x): each recipe of
these makes sequential ephemerals whose order decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

HOLDS = "holds"
WAITS = "waits"
MEMBER = "member"
UNKNOWN = "unknown"
"""A contender of a semaphore of which only its users know how many hold it."""

_CURATOR = r"_c_[0-9a-f-]{36}-"
_KINDS = (
    (r"lock-[0-9a-f]{8}-\d{10}", "Lock"),
    (r"read-[0-9a-f]{8}-\d{10}", "ReadLock"),
    (r"write-[0-9a-f]{8}-\d{10}", "WriteLock"),
    (r"lease-[0-9a-f]{8}-\d{10}", "Semaphore"),
    (r"member-[0-9a-f]{8}-\d{10}", "Party"),
    (r"p-[0-9a-f]{8}-\d{10}", "DoubleBarrier"),
    (r"[0-9a-f]{32}__lock__\d{10}", "kazoo Lock"),
    (r"[0-9a-f]{32}__rlock__\d{10}", "kazoo ReadLock"),
    (r"[0-9a-f]{32}__party__", "kazoo Party"),
    (r"[0-9a-f]{32}", "kazoo Semaphore or DoubleBarrier"),
    (_CURATOR + r"lock-\d{10}", "Curator InterProcessMutex"),
    (_CURATOR + r"__READ__\d{10}", "Curator read lock"),
    (_CURATOR + r"__WRIT__\d{10}", "Curator write lock"),
    (_CURATOR + r"latch-\d{10}", "Curator LeaderLatch"),
    (_CURATOR + r"lease-\d{10}", "Curator lease"),
)
_PATTERNS = tuple((re.compile(pattern), recipe) for pattern, recipe in _KINDS)
_READERS = frozenset({"ReadLock", "kazoo ReadLock", "Curator read lock"})
_MEMBERS = frozenset({"Party", "DoubleBarrier", "kazoo Party"})
_HOLDERS = frozenset({"kazoo Semaphore or DoubleBarrier", "Curator lease"})
"""Whose nodes exist only while they hold."""


class Place(NamedTuple):
    """A contender: the name of its node, its recipe, and whether it holds or waits."""

    name: str
    recipe: str
    role: str


def recipe_of(name: str) -> str | None:
    """The recipe that makes nodes of such a name; None if none is known."""
    return next((recipe for pattern, recipe in _PATTERNS if pattern.fullmatch(name)), None)


def places(names: Iterable[str], leases: int | None = None) -> list[Place]:
    """The contenders among a path's children, in the order in which they came.

    ``leases``: how many hold a semaphore. Other children are left out.
    """
    known = [(name, recipe) for name in names if (recipe := recipe_of(name)) is not None]
    known.sort(key=lambda each: (_number(each[0]), each[0]))
    found: list[Place] = []
    before = writers = 0
    for name, recipe in known:
        if recipe in _MEMBERS:
            found.append(Place(name, recipe, MEMBER))
            continue
        if recipe in _HOLDERS:
            found.append(Place(name, recipe, HOLDS))
            continue
        first = writers == 0 if recipe in _READERS else before == 0
        role = HOLDS if first else WAITS
        if recipe == "Semaphore":
            role = UNKNOWN if leases is None and before else HOLDS if before < (leases or 1) else WAITS
        found.append(Place(name, recipe, role))
        before += 1
        writers += recipe not in _READERS
    return found


def _number(name: str) -> str:
    """A sequential node's number, as text that sorts like it; empty if it has none."""
    digits = name[-10:]
    return digits if digits.isdecimal() and len(digits) == 10 else ""
