"""Random programs of which every state is remembered: what the past must be found to be."""

from __future__ import annotations

import random
from typing import Any

import pytest

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.exceptions import BeforeHistoryException, FaaSKeeperException, NodeDoesntExistException

PATHS = ("/a", "/b", "/a/x", "/a/y", "/b/x", "/a/x/z")


def state(client: FaaSKeeperClient, path: str, **at: Any) -> Any:
    """A path's data and Stat; None: it does not exist."""
    try:
        node = client.get_data(path, **at)
    except NodeDoesntExistException:
        return None
    return node.data, tuple(node.stat)


class Remembered:
    """Random writes, and every state that they lead to. ``larger``: bytes of some data."""

    def __init__(self, client: FaaSKeeperClient, seed: int, larger: int = 0) -> None:
        self.client = client
        self.random = random.Random(seed)
        self.larger = larger
        self.states: dict[int, dict[str, Any]] = {}
        self.remember()

    def remember(self) -> None:
        session: Any = self.client.session
        self.client.sync()
        txid = session.rules.seen
        now = {path: state(self.client, path) for path in (*PATHS, "/")}
        self.states[txid] = now

    def write(self) -> None:
        """One transaction, or an attempt that fails."""
        kind, path = self.random.choice("ccccsssssddma"), self.random.choice(PATHS)
        data = bytes(self.random.randrange(97, 123) for _ in range(self.random.choice((0, 3, 3, 40))))
        client = self.client
        if self.larger and self.random.random() < 0.3:
            data = self.random.randbytes(self.larger)
        try:
            if kind == "c":
                client.create(path, data, ephemeral=self.random.random() < 0.1)
            elif kind == "s":
                client.set_data(path, data)
            elif kind == "d":
                client.delete(path)
            elif kind == "a":
                client.set_acls(path, [(31, "world", "anyone"), (self.random.randrange(1, 31), "ip", "::1")])
            else:
                with client.transaction() as t:
                    t.set_data(path, data)
                    t.delete(path)
                    t.create(path, data * 2)
                    t.set_data(self.random.choice(PATHS), data)
        except FaaSKeeperException:
            pass
        self.remember()

    def agree(self, oldest: int) -> int:
        """Whether the past is as remembered; returns at how many transactions."""
        compared = 0
        for txid, states in self.states.items():
            if txid < oldest:
                with pytest.raises(BeforeHistoryException) as caught:
                    self.client.get_data("/", at=txid)
                assert caught.value.oldest == oldest
                continue
            compared += 1
            for path, then in states.items():
                assert state(self.client, path, at=txid) == then, (path, txid)
        return compared
