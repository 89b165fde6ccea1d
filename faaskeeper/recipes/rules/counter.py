"""A counter that many clients change."""

from __future__ import annotations

from faaskeeper.exceptions import BadVersionError, FaaSKeeperException
from faaskeeper.recipes.rules.port import Port
from faaskeeper.recipes.rules.waiting import ensure


class CounterRules:
    """An integer in a node."""

    def __init__(self, port: Port, path: str, default: int) -> None:
        self._port = port
        self._path = path
        self._default = default

    async def read(self) -> tuple[int, int]:
        """The number, and the node's version."""
        await ensure(self._port, self._path)
        node = await self._port.get_data(self._path)
        if not node.data:
            return self._default, node.stat.version
        try:
            return int(node.data), node.stat.version
        except ValueError as error:
            raise FaaSKeeperException(f"{self._path} does not hold an integer: {node.data!r}") from error

    async def value(self) -> int:
        """The present number."""
        return (await self.read())[0]

    async def add(self, amount: int) -> int:
        """Add an amount; returns the resulting number."""
        while True:
            value, version = await self.read()
            try:
                await self._port.set_data(self._path, b"%d" % (value + amount), version)
            except BadVersionError:
                continue  # another client was faster: add to its number
            return value + amount
