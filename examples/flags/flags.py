"""Feature flags that follow their nodes: the part that a program would import."""

from __future__ import annotations

import asyncio
from zlib import crc32

from faaskeeper.aio import AsyncClient
from faaskeeper.config import Config
from faaskeeper.exceptions import (
    FaaSKeeperException,
    NodeDoesntExistException,
    NodeExistsException,
)

ROOT = "/flags"
AGAIN_S = 1


class Flags:
    """The flags below ``/flags``: the data of each is a share of the users, in percent.

    A look at a flag takes no request. What is known stays in use while the service is not reached, and a
    value that is not understood changes nothing.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._shares: dict[str, int] = {}
        self.loaded = asyncio.Event()

    def on(self, flag: str, user: str) -> bool:
        """Whether a flag is on for a user: always the same users, and more of them as the share grows."""
        return crc32(f"{flag}:{user}".encode()) % 100 < self._shares.get(flag, 0)

    async def follow(self) -> None:
        """Keep the flags up to date, until it is cancelled."""
        while True:
            try:
                async with AsyncClient(self._config) as client:
                    await self._follow(client)
            except FaaSKeeperException as error:
                print(f"flags stay as they are: {error}", flush=True)
                await asyncio.sleep(AGAIN_S)

    async def _follow(self, client: AsyncClient) -> None:
        try:
            await client.create(ROOT)
        except NodeExistsException:
            pass
        async with client.watch(ROOT, recursive=True) as events:  # before the first look: none is missed
            names = {child.path.rpartition("/")[2] for child in await client.get_children(ROOT)}
            for gone in self._shares.keys() - names:
                del self._shares[gone]
            for name in sorted(names):
                await self._load(client, name)
            self.loaded.set()
            async for event in events:
                if event.path.startswith(f"{ROOT}/"):
                    await self._load(client, event.path.removeprefix(f"{ROOT}/"))

    async def _load(self, client: AsyncClient, name: str) -> None:
        try:
            data = (await client.get_data(f"{ROOT}/{name}")).data
        except NodeDoesntExistException:
            if self._shares.pop(name, None) is not None:
                print(f"{name} is gone", flush=True)
            return
        try:
            share = int((data or b"").decode())
            if not 0 <= share <= 100:
                raise ValueError(f"{share} is not from 0 to 100")
        except ValueError as error:
            print(f"{name} stays at {self._shares.get(name, 0)} %: {error}", flush=True)
            return
        if self._shares.get(name) != share:
            self._shares[name] = share
            print(f"{name} is on for {share} %", flush=True)
