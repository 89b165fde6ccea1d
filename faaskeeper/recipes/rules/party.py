"""A party: its members are ephemeral nodes."""

from __future__ import annotations

from faaskeeper.recipes.rules.port import Port
from faaskeeper.recipes.rules.waiting import Own, identifiers, size


class PartyRules:
    """One member, and reads of all members."""

    def __init__(self, port: Port, path: str, identifier: str) -> None:
        self._port = port
        self._path = path
        self._identifier = identifier
        self._own = Own(port)
        self._changing = port.turns()

    async def joined(self) -> bool:
        """Whether this object is a member."""
        return await self._own.there()

    async def join(self) -> None:
        """Become a member; joins again if the session was lost meanwhile."""
        async with self._changing:
            if not await self._own.there():
                await self._own.make_numbered(f"{self._path}/member-", self._identifier.encode())

    async def leave(self) -> None:
        """End the membership."""
        async with self._changing:
            await self._own.remove()

    async def members(self) -> list[str]:
        """The identifiers of the members, in the order in which they joined."""
        return await identifiers(self._port, self._path)

    async def size(self) -> int:
        """The number of members."""
        return await size(self._port, self._path)
