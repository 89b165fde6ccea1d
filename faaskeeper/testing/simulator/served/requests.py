"""What clients ask for, at random."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from faaskeeper.core.requests import Check, Create, Delete, Multi, SetData, inline
from faaskeeper.core.znode import CONTAINER
from faaskeeper.testing.simulator.served import wire
from faaskeeper.testing.simulator.served.plan import ServedPlan
from faaskeeper.testing.simulator.served.wire import Part
from faaskeeper.testing.simulator.world import World

PATHS = ("/a", "/a", "/b", "/a/x", "/a/x", "/a/y", "/b/x", "/a/x/1")
_EPHEMERALS = ("/e", "/a/e", "/b/e")


class Requests:
    """Requests of one client, called ``name``. ``ask`` sends a type and a record; it may raise Gone."""

    def __init__(self, world: World, plan: ServedPlan, name: str, ask: Callable[..., None]) -> None:
        self.world = world
        self._plan = plan
        self._name = name
        self._ask = ask
        self._values = 0

    def any(self) -> None:
        """Ask for something."""
        operation: Callable[[], None] = self.world.random.choice(
            (
                self.create,
                self.create,
                self.create,
                self.set,
                self.set,
                self.set,
                self.delete,
                self.ephemeral,
                self.passing,
                self.multi,
                self.get,
                self.get,
                self.get,
                self.exists,
                self.exists,
                self.children,
                self.children,
                self.multi_read,
                self.ephemerals,
                self.sync,
                self.add_watch,
                self.remove_watches,
                self.check_watches,
            )
        )
        operation()

    def _value(self) -> bytes:
        """A value that nobody else writes."""
        self._values += 1
        value = f"{self._name}-{self._values}".encode()
        if self._plan.inline_bytes < 100 and self.world.random.random() < 0.4:
            value *= 5
        return value

    def _path(self) -> str:
        return self.world.random.choice(PATHS)

    def create(self) -> None:
        """Create a znode."""
        path, value = self._path(), self._value()
        sequential = self.world.random.random() < 0.2
        flags = 2 if sequential else 0
        self._ask(
            wire.CREATE2,
            wire.create(path, value, flags),
            path=path,
            operation=Create(path, inline(value), False, sequential),
        )

    def ephemeral(self) -> None:
        """Create an ephemeral."""
        path, value = self.world.random.choice(_EPHEMERALS), self._value()
        operation = Create(path, inline(value), True)
        self._ask(wire.CREATE2, wire.create(path, value, 1), path=path, operation=operation)

    def passing(self) -> None:
        """Create a container, or a znode with a time to live: heartbeat removes it."""
        random = self.world.random
        path, value = self._path(), self._value()
        if random.random() < 0.3:
            operation = Create(path, inline(value), ttl=CONTAINER)
            self._ask(wire.CONTAINER, wire.create(path, value, 4), path=path, operation=operation)
        else:
            ttl = random.choice((1, 1, 700, 3_000))
            record = wire.create(path, value, 5) + struct.pack(">q", ttl)
            self._ask(wire.TTL, record, path=path, operation=Create(path, inline(value), ttl=ttl))

    def set(self) -> None:
        """Set data."""
        path, value = self.world.random.choice((*PATHS, "/e")), self._value()
        version = self.world.random.choice((-1, -1, -1, 0, 1))
        record = wire.string(path) + wire.string(value) + wire.number(version)
        self._ask(wire.SET, record, path=path, operation=SetData(path, inline(value), version))

    def delete(self) -> None:
        """Delete a znode."""
        path = self.world.random.choice((*PATHS, *_EPHEMERALS))
        version = self.world.random.choice((-1, -1, 0))
        record = wire.string(path) + wire.number(version)
        self._ask(wire.DELETE, record, path=path, operation=Delete(path, version))

    def multi(self) -> None:
        """Do several writes in one transaction."""
        random = self.world.random
        parts: list[tuple[int, bytes]] = []
        operations: list[Any] = []
        for _ in range(random.randint(1, 3)):
            path, kind = self._path(), random.random()
            if kind < 0.4:
                value = self._value()
                parts.append((1, wire.create(path, value)))
                operations.append(Create(path, inline(value)))
            elif kind < 0.7:
                value = self._value()
                parts.append((wire.SET, wire.string(path) + wire.string(value) + wire.number(-1)))
                operations.append(SetData(path, inline(value)))
            elif kind < 0.9:
                parts.append((wire.DELETE, wire.string(path) + wire.number(-1)))
                operations.append(Delete(path))
            else:
                parts.append((wire.CHECK, wire.string(path) + wire.number(0)))
                operations.append(Check(path, 0))
        self._ask(wire.MULTI, wire.several(parts), operation=Multi(tuple(operations)))

    def _one(self, kind: int, path: str, watched: str) -> None:
        watch = self.world.random.random() < 0.35
        record = wire.string(path) + bytes([watch])
        self._ask(kind, record, path=path, watch=watched if watch else "")

    def get(self) -> None:
        """Read data."""
        self._one(wire.GET, self.world.random.choice((*PATHS, "/", "/e")), "data")

    def exists(self) -> None:
        """Read a Stat."""
        self._one(wire.EXISTS, self.world.random.choice((*PATHS, "/e")), "exists")

    def children(self) -> None:
        """Read names of children."""
        kind = self.world.random.choice((wire.CHILDREN, wire.CHILDREN2))
        self._one(kind, self.world.random.choice(("/", "/a", "/b", "/a/x")), "children")

    def multi_read(self) -> None:
        """Read several znodes as of one transaction."""
        random = self.world.random
        parts = [
            Part(random.choice((wire.GET, wire.CHILDREN)), self._path()) for _ in range(random.randint(1, 4))
        ]
        body = wire.several([(each.kind, wire.string(each.path) + b"\0") for each in parts])
        self._ask(wire.MULTI_READ, body, parts=tuple(parts))

    def ephemerals(self) -> None:
        """Read the session's ephemerals."""
        self._ask(wire.EPHEMERALS, wire.string("/"))

    def sync(self) -> None:
        """Sync."""
        self._ask(wire.SYNC, wire.string("/a"), path="/a")

    def add_watch(self) -> None:
        """Add a watch that stays."""
        path = self.world.random.choice(("/a", "/b", "/", "/a/x"))
        recursive = self.world.random.random() < 0.5
        record = wire.string(path) + wire.number(int(recursive))
        self._ask(wire.ADD_WATCH, record, path=path, watch="recursive" if recursive else "persistent")

    def remove_watches(self) -> None:
        """Remove watches of a path."""
        path, kind = (
            self.world.random.choice(("/a", "/b", "/", "/a/x")),
            self.world.random.choice((1, 2, 3, 4, 5)),
        )
        record = wire.string(path) + wire.number(kind)
        self._ask(wire.REMOVE_WATCHES, record, path=path, watch=str(kind))

    def check_watches(self) -> None:
        """Ask whether watches are set."""
        path, kind = (
            self.world.random.choice(("/a", "/b", "/", "/a/x")),
            self.world.random.choice((1, 2, 3, 4, 5)),
        )
        record = wire.string(path) + wire.number(kind)
        self._ask(wire.CHECK_WATCHES, record, path=path, watch=str(kind))
