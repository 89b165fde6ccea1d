"""What a process inherits when it is forked, and must not touch.

A forked child has its parent's files and sockets, but none of its threads; locks may be held by threads that
are not there. So who holds such things registers them here, and in every child they are called before any of
its own code runs: from then on they refuse what they are asked for, wait for nobody and touch nothing.
"""

from __future__ import annotations

import logging
import os
import weakref
from contextlib import suppress
from typing import Any

_log = logging.getLogger(__name__)


class Inherited:
    """Something that a forked child must not use; made known by :func:`register`."""

    def fork_begins(self) -> None:
        """In the parent, just before a fork: come to where a child can be without the other threads."""

    def fork_ends(self) -> None:
        """In the parent, after it."""

    def forked(self, why: str) -> None:
        """In the child: refuse everything from now on, for this reason."""


class _Forks:
    """All that is registered, as long as somebody else holds it."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._known: dict[int, weakref.ref[Inherited]] = {}
        self._begun: list[Inherited] = []
        self.kept: list[Any] = []

    def add(self, thing: Inherited) -> None:
        key = id(thing)
        self._known[key] = weakref.ref(thing, lambda _: self._known.pop(key, None))

    def _all(self) -> list[Inherited]:
        return [thing for each in list(self._known.values()) if (thing := each()) is not None]

    def begin(self) -> None:
        self._begun = self._all()
        for each in self._begun:
            each.fork_begins()

    def end(self) -> None:
        begun, self._begun = self._begun, []
        for each in begun:
            each.fork_ends()

    def in_child(self) -> None:
        parent, self._process = self._process, os.getpid()
        inherited = self._all()
        self._known.clear()
        self._begun = []
        why = (
            f"this was opened by process {parent}, of which process {self._process} is a fork: "
            "open another in this process"
        )
        for each in inherited:
            try:
                each.forked(why)
            except Exception:
                _log.exception("%r is not safe to use in this process, which is a fork", each)


_forks = _Forks()
register = _forks.add
os.register_at_fork(before=_forks.begin, after_in_parent=_forks.end, after_in_child=_forks.in_child)


def keep(thing: Any) -> None:
    """Never destroy an object, nor what it refers to, not even when the process ends.

    For what does something when it is destroyed: SQLite's connections fold their log into the database.
    """
    _forks.kept.append(thing)
    with suppress(ImportError, AttributeError):  # CPython's own end would empty that list
        import ctypes

        ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
