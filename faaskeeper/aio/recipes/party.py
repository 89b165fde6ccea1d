"""A party: a group whose members remain as long as their sessions live."""

from __future__ import annotations

from typing import Self

from faaskeeper.aio.client import AsyncClient
from faaskeeper.aio.recipes.port import AsyncPort
from faaskeeper.recipes.rules.party import PartyRules


class Party:
    """Members are ephemeral nodes: one that dies is a member until its session has ended.

    ``async with Party(client, "/party", "me") as party``: a member inside the block.
    """

    def __init__(self, client: AsyncClient, path: str, identifier: str = "") -> None:
        self._rules = PartyRules(AsyncPort(client), path, identifier)

    async def joined(self) -> bool:
        """Whether this object is a member."""
        return await self._rules.joined()

    async def join(self) -> None:
        """Become a member; joins again if the session was lost meanwhile."""
        await self._rules.join()

    async def leave(self) -> None:
        """End the membership; if the service is unreachable, as soon as it is reachable."""
        await self._rules.leave()

    async def members(self) -> list[str]:
        """The identifiers of the members, in the order in which they joined."""
        return await self._rules.members()

    async def size(self) -> int:
        """The number of members."""
        return await self._rules.size()

    async def __aenter__(self) -> Self:
        await self.join()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.leave()
