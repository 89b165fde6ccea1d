"""A party: its members, as long as their sessions live."""

from __future__ import annotations

from collections.abc import Iterator

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.recipes.rules.party import PartyRules
from faaskeeper.recipes.threads import ThreadPort, run


class Party:
    """Members by ephemeral nodes: one that dies is a member until its session has ended."""

    def __init__(self, client: FaaSKeeperClient, path: str, identifier: str = "") -> None:
        self._rules = PartyRules(ThreadPort(client), path, identifier)

    @property
    def joined(self) -> bool:
        """Whether this one is a member."""
        return run(self._rules.joined())

    def join(self) -> None:
        """Become a member; again where the session was lost since."""
        run(self._rules.join())

    def leave(self) -> None:
        """Be a member no more; where the service is out of reach, as soon as that is reached."""
        run(self._rules.leave())

    def __iter__(self) -> Iterator[str]:
        """Identifiers of the members, in the order in which they joined."""
        return iter(run(self._rules.members()))

    def __len__(self) -> int:
        return run(self._rules.size())
