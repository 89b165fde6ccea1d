"""Resources that a forked process inherits and must not use.

A forked child has its parent's files and sockets, but none of its threads; locks may be held by
threads that it does not have. So an object with such resources registers here. In every child,
before any other code runs, the object is called, and from then on refuses all requests, waits for
nothing and touches none of the resources.
"""

from __future__ import annotations

import os
import weakref
from contextlib import suppress
from typing import Any

from faaskeeper.core import logs

_log = logs.logger(__name__)


class Inherited:
    """An object that a forked child must not use; registered by :func:`register`."""

    def fork_begins(self) -> None:
        """In the parent, just before a fork: reach a state in which a child needs no thread."""

    def fork_ends(self) -> None:
        """In the parent, after the fork."""

    def forked(self, why: str) -> None:
        """In the child: refuse everything from now on; ``why``: the reason to give."""


class _Forks:
    """All registered objects, held by weak references."""

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
                _log.exception("%r is not safe to use in this forked process", each)


_forks = _Forks()
register = _forks.add
os.register_at_fork(before=_forks.begin, after_in_parent=_forks.end, after_in_child=_forks.in_child)


def keep(thing: Any) -> None:
    """Never destroy an object or anything it refers to, even when the process ends.

    For objects with side effects on destruction: SQLite's connections checkpoint their log into the
    database.
    """
    _forks.kept.append(thing)
    with suppress(ImportError, AttributeError):  # CPython's finalization would empty that list
        import ctypes

        ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
