"""Barriers: wait until one is removed, or until a number of participants have entered."""

from __future__ import annotations

from faaskeeper.core import paths
from faaskeeper.exceptions import NodeDoesntExistException, NodeExistsException, SessionExpiredException
from faaskeeper.recipes.rules.port import Alone, Port
from faaskeeper.recipes.rules.waiting import Own, Waiting, raise_of


class BarrierRules:
    """A node that blocks callers while it exists."""

    def __init__(self, port: Port, path: str) -> None:
        self._port = port
        self._path = path

    async def create(self) -> bool:
        """Create the barrier; returns whether it did not exist before."""
        try:
            await self._port.create(self._path, makepath=True)
        except NodeExistsException:
            return False
        return True

    async def remove(self) -> bool:
        """Remove the barrier; returns whether it existed."""
        try:
            await self._port.delete(self._path)
        except NodeDoesntExistException:
            return False
        return True

    async def wait(self, timeout: float | None) -> bool:
        """Wait until no barrier exists; returns whether none does."""
        waiting = Waiting(self._port, timeout)
        try:
            while await self._port.exists(self._path, waiting.wake) is not None:
                if not await waiting.more():
                    return False
            return True
        finally:
            waiting.end()


class DoubleBarrierRules:
    """A participant. One node, the sign, names the participants of the last round that began."""

    _READY = "ready"

    def __init__(self, port: Port, path: str, number: int, identifier: str) -> None:
        if number < 1:
            raise ValueError(f"a double barrier needs at least one participant, not {number}")
        self._port = port
        self._path = path
        self._number = number
        self._identifier = identifier
        self._own = Own(port)
        self._alone = Alone(
            port,
            f"another {port.worker} enters or leaves {path} with this object, which is for one "
            f"participant: create one for each {port.worker}",
        )
        self._fellows: set[str] = set()

    async def enter(self, timeout: float | None) -> bool:
        """Enter, and wait until all have; returns whether they have. One that gives up has not."""
        with self._alone():
            if self._own.current:
                raise ValueError("this participant has already entered")
            waiting = Waiting(self._port, timeout)
            try:
                data = self._identifier.encode()
                come = await self._own.make_numbered(f"{self._path}/p-", data, waiting.deadline)
                while come and not await self._opened(waiting):
                    come = await waiting.more()
                if not come:
                    await self._own.remove()
                return come
            except BaseException as error:
                await self._own.remove_after(error)
                raise
            finally:
                waiting.end()

    async def _opened(self, waiting: Waiting) -> bool:
        """Whether the sign of this round exists: it names this participant among others."""
        sign = f"{self._path}/{self._READY}"
        node = self._own.node
        if node is None or not self._own.current:
            raise SessionExpiredException("the session has ended, and this participant's node with it")
        own = paths.name(node.path)
        while True:
            there = await self._port.exists(sign, waiting.wake) is not None
            if there:
                names = (await self._port.get_data(sign)).data.decode().split()
                if own in names:
                    self._fellows = set(names)
                    return True
            names = await self._participants(waiting)
            if len(names) < self._number:
                return False
            transaction = self._port.transaction()
            if there:  # of an earlier round, or of participants that were here before
                transaction.delete(sign)
            transaction.create(sign, " ".join(names).encode())
            results = await self._port.commit(transaction)
            # Another participant may have changed the sign first: read it again.
            raise_of(results, NodeExistsException, NodeDoesntExistException)

    async def _participants(self, waiting: Waiting) -> list[str]:
        children = await self._port.get_children(self._path, watch=waiting.wake)
        return [name for name in (paths.name(node.path) for node in children) if name != self._READY]

    async def leave(self, timeout: float | None) -> bool:
        """Leave, and wait until all have; returns whether they have."""
        with self._alone():
            if self._own.node is None:
                raise ValueError("this participant has not entered")
            waiting = Waiting(self._port, timeout)
            try:
                await self._own.remove()
                while not self._fellows.isdisjoint(await self._participants(waiting)):
                    if not await waiting.more():
                        return False
                return True
            finally:
                waiting.end()
