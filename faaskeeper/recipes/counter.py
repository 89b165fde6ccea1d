"""A counter that many clients change."""

from __future__ import annotations

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.exceptions import BadVersionError, FaaSKeeperException
from faaskeeper.recipes.contender import ensure


class Counter:
    """A whole number kept in a node; every change counts, whoever makes it."""

    def __init__(self, client: FaaSKeeperClient, path: str, default: int = 0) -> None:
        self._client = client
        self._path = path
        self._default = default

    @property
    def value(self) -> int:
        """The number now."""
        return self._read()[0]

    def _read(self) -> tuple[int, int]:
        ensure(self._client, self._path)
        node = self._client.get_data(self._path)
        if not node.data:
            return self._default, node.stat.version
        try:
            return int(node.data), node.stat.version
        except ValueError as error:
            raise FaaSKeeperException(f"{self._path} holds no whole number: {node.data!r}") from error

    def add(self, amount: int = 1) -> int:
        """Add an amount; returns the number that this made."""
        while True:
            value, version = self._read()
            try:
                self._client.set_data(self._path, b"%d" % (value + amount), version)
            except BadVersionError:
                continue  # somebody else was faster: on top of that
            return value + amount
