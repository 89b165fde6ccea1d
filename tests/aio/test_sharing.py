"""The asyncio client shares an embedded service with other processes."""

from __future__ import annotations

import asyncio
from pathlib import Path

from faaskeeper.aio import AsyncClient
from faaskeeper.config import Config
from faaskeeper.session.states import SessionState
from faaskeeper.testing.patience import PATIENCE_S
from tests.providers.members import Member


async def test_a_joined_client_goes_on_when_the_owner_is_killed(tmp_path: Path) -> None:
    owner = await asyncio.to_thread(Member, tmp_path)
    other = None
    try:
        owner.do("client.create('/a', b'0').path")
        states: list[SessionState] = []
        events: asyncio.Queue[str] = asyncio.Queue()
        async with AsyncClient(Config.local(tmp_path)) as client:
            client.add_listener(states.append)
            await client.create("/e", ephemeral=True)
            await client.get_data("/a", watch=lambda event: events.put_nowait(event.path))
            other = await asyncio.to_thread(Member, tmp_path)
            writes = [asyncio.ensure_future(client.set_data("/e", b"x" * 500)) for _ in range(1_000)]
            await asyncio.sleep(0)
            owner.kill()
            versions = [node.stat.version for node in await asyncio.gather(*writes)]
            assert versions == list(range(1, 1_001))
            other.do("client.set_data('/a', b'1').path")
            assert await asyncio.wait_for(events.get(), PATIENCE_S) == "/a"
            assert (await client.get_data("/a")).data == b"1"
            assert other.do("client.exists('/e') is not None")
            assert states in ([], [SessionState.CONNECTED])
        assert other.do("client.exists('/e')") is None
    finally:
        owner.kill()
        if other is not None:
            other.kill()
