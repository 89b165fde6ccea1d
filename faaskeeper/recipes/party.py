"""A party: who is there."""

from __future__ import annotations

from collections.abc import Iterator

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.exceptions import NodeDoesntExistException
from faaskeeper.node import Node
from faaskeeper.recipes.waiting import create_own


class Party:
    """Members by ephemeral nodes: who dies is not a member any more when its session has ended."""

    def __init__(self, client: FaaSKeeperClient, path: str, identifier: str = "") -> None:
        self._client = client
        self._path = path
        self._identifier = identifier
        self._node: Node | None = None

    @property
    def joined(self) -> bool:
        """Whether this one is a member."""
        return self._node is not None and self._client.exists(self._node.path) is not None

    def join(self) -> None:
        """Become a member; again where the session was lost since."""
        if not self.joined:
            data = self._identifier.encode()
            self._node = create_own(self._client, f"{self._path}/member-", data)

    def leave(self) -> None:
        """Be a member no more."""
        node, self._node = self._node, None
        if node is not None:
            try:
                self._client.delete(node.path)
            except NodeDoesntExistException:
                return  # it went with its session

    def __iter__(self) -> Iterator[str]:
        """Identifiers of the members, in the order in which they joined."""
        if self._client.exists(self._path) is None:
            return iter(())
        nodes = self._client.get_children(self._path, include_data=True)
        return iter([node.data.decode(errors="backslashreplace") for node in nodes])

    def __len__(self) -> int:
        node = self._client.exists(self._path)
        return 0 if node is None else node.stat.numChildren
