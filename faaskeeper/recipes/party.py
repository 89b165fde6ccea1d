"""A party: who is there."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.core import paths
from faaskeeper.recipes.waiting import Own


class Party:
    """Members by ephemeral nodes: who dies is not a member any more when its session has ended."""

    def __init__(self, client: FaaSKeeperClient, path: str, identifier: str = "") -> None:
        self._client = client
        self._path = path
        self._identifier = identifier
        self._own = Own(client)
        self._changing = threading.Lock()

    @property
    def joined(self) -> bool:
        """Whether this one is a member."""
        return self._own.there()

    def join(self) -> None:
        """Become a member; again where the session was lost since."""
        with self._changing:
            if not self._own.there():
                self._own.make_numbered(f"{self._path}/member-", self._identifier.encode())

    def leave(self) -> None:
        """Be a member no more; where the service is out of reach, as soon as that is reached."""
        with self._changing:
            self._own.remove()

    def __iter__(self) -> Iterator[str]:
        """Identifiers of the members, in the order in which they joined."""
        if self._client.exists(self._path) is None:
            return iter(())
        nodes = self._client.get_children(self._path, include_data=True)
        nodes.sort(key=lambda node: paths.name(node.path)[-10:])
        return iter([node.data.decode(errors="backslashreplace") for node in nodes])

    def __len__(self) -> int:
        node = self._client.exists(self._path)
        return 0 if node is None else node.stat.numChildren
