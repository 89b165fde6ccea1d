"""A party: a group whose members remain as long as their sessions live."""

from __future__ import annotations

from collections.abc import Iterator

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.recipes.rules.party import PartyRules
from faaskeeper.recipes.threads import ThreadPort, run


class Party:
    """Members are ephemeral nodes: one that dies is a member until its session has ended."""

    def __init__(self, client: FaaSKeeperClient, path: str, identifier: str = "") -> None:
        self._rules = PartyRules(ThreadPort(client), path, identifier)

    @property
    def joined(self) -> bool:
        """Whether this object is a member."""
        return run(self._rules.joined())

    def join(self) -> None:
        """Become a member; joins again if the session was lost meanwhile."""
        run(self._rules.join())

    def leave(self) -> None:
        """End the membership; if the service is unreachable, as soon as it is reachable."""
        run(self._rules.leave())

    def __iter__(self) -> Iterator[str]:
        """The identifiers of the members, in the order in which they joined."""
        return iter(run(self._rules.members()))

    def __len__(self) -> int:
        return run(self._rules.size())
