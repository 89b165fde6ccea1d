"""Locks, semaphores and elections: a contender's place, and what its object shows of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from faaskeeper.exceptions import FaaSKeeperException
from faaskeeper.recipes.rules.contender import Blocks, Contender
from faaskeeper.recipes.rules.port import Port
from faaskeeper.recipes.rules.waiting import identifiers


class LockLost(FaaSKeeperException):
    """The lock is not held any more: the session was suspended or lost since it was acquired."""


class Kind(NamedTuple):
    """Which contenders of a path come first."""

    prefix: str
    """How their nodes' names begin."""
    blocks: Blocks
    """Whether an earlier one, by its node's name, is in the way."""
    places: int = 1
    """How many of those that are in each other's way come first."""


EXCLUSIVE = Kind("lock-", lambda name: True)
WRITE = Kind("write-", lambda name: True)
READ = Kind("read-", lambda name: name.startswith(WRITE.prefix))


def leases(number: int) -> Kind:
    """So many hold it at a time. Raises ValueError below 1."""
    if number < 1:
        raise ValueError(f"a semaphore has at least one lease, not {number}")
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
        """Wait for the lock; whether it is held."""
        return await self.place.wait(timeout)

    async def release(self) -> None:
        """Give the lock back."""
        await self.place.leave()

    @property
    def token(self) -> int:
        """The fencing token. Raises LockLost."""
        try:
            return self.place.token
        except ValueError:
            raise self.lost() from None

    def lost(self) -> LockLost:
        """What is raised where the lock has to be held and is not."""
        return LockLost(f"the lock {self.path} is not held any more")

    async def contenders(self) -> list[str]:
        """Identifiers of those who hold the lock or wait for it, in their order."""
        return await identifiers(self._port, self.path)


class Held:
    """What a lock shows without asking the service."""

    _rules: LockRules

    @property
    def held(self) -> bool:
        """Whether the lock is held, as far as is known here."""
        return self._rules.place.first

    def check(self) -> None:
        """Raise LockLost unless the lock is held."""
        if not self.held:
            raise self._rules.lost()

    @property
    def token(self) -> int:
        """The fencing token: higher than that of any holder before. Raises LockLost."""
        return self._rules.token
