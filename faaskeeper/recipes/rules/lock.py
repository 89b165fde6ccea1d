"""Locks, semaphores and elections: a contender's place, and the properties that show it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from faaskeeper.exceptions import FaaSKeeperException
from faaskeeper.recipes.rules.contender import Blocks, Contender
from faaskeeper.recipes.rules.port import Port
from faaskeeper.recipes.rules.waiting import identifiers


class LockLost(FaaSKeeperException):
    """The lock is no longer held: the session was suspended or lost since it was acquired."""


class Kind(NamedTuple):
    """Determines which contenders of a path come first."""

    prefix: str
    """The prefix of their nodes' names."""
    blocks: Blocks
    """Whether an earlier contender, given its node's name, blocks."""
    places: int = 1
    """How many of the contenders that block each other come first."""


EXCLUSIVE = Kind("lock-", lambda name: True)
WRITE = Kind("write-", lambda name: True)
READ = Kind("read-", lambda name: not name.startswith("read-"))
"""Waits for all but readers, so a plain lock of the same path excludes readers, too."""


def leases(number: int) -> Kind:
    """A semaphore's kind: ``number`` contenders hold it at a time. Raises ValueError below 1."""
    if number < 1:
        raise ValueError(f"a semaphore needs at least one lease, not {number}")
    return Kind("lease-", lambda name: True, number)


class LockRules:
    """A lock of a kind."""

    def __init__(
        self, port: Port, path: str, identifier: str, on_loss: Callable[[], None] | None, kind: Kind
    ) -> None:
        self._port = port
        self.path = path
        self.place = Contender(
            port,
            path,
            kind.prefix,
            identifier.encode(),
            kind.blocks,
            on_loss or (lambda: None),
            kind.places,
        )

    async def acquire(self, timeout: float | None) -> bool:
        """Wait for the lock; returns whether it is held."""
        return await self.place.wait(timeout)

    async def release(self) -> None:
        """Release the lock."""
        await self.place.leave()

    @property
    def token(self) -> int:
        """The fencing token. Raises LockLost."""
        try:
            return self.place.token
        except ValueError:
            raise self.lost() from None

    def lost(self) -> LockLost:
        """The error for a lock that must be held and is not."""
        return LockLost(f"the lock {self.path} is no longer held")

    async def contenders(self) -> list[str]:
        """The identifiers of the contenders that hold the lock or wait for it, in their order."""
        return await identifiers(self._port, self.path)


class Held:
    """The properties of a lock that need no request to the service."""

    _rules: LockRules

    @property
    def held(self) -> bool:
        """Whether the lock is held, as far as the client knows."""
        return self._rules.place.first

    def check(self) -> None:
        """Raise LockLost unless the lock is held."""
        if not self.held:
            raise self._rules.lost()

    @property
    def token(self) -> int:
        """The fencing token: higher than that of any earlier holder. Raises LockLost."""
        return self._rules.token

    @property
    def path(self) -> str:
        """The path below which the contenders' nodes are."""
        return self._rules.path

    @property
    def node(self) -> str | None:
        """The path of this contender's node, whether it holds the lock or waits; None without one."""
        return self._rules.place.node
