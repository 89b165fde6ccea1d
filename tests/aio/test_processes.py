"""What a process pays for, inherits and leaves: imports, forks, ends."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from faaskeeper.aio import AsyncClient
from faaskeeper.config import Config
from faaskeeper.exceptions import ForkedException
from tests.client.test_fork import error_of, in_child
from tests.test_imports import loaded


def test_importing_it_loads_no_provider_and_the_threaded_client_s_no_asyncio() -> None:
    modules = loaded("import faaskeeper.aio")
    assert "asyncio" in modules
    assert not any(name.startswith(("faaskeeper.providers", "faaskeeper.cli.")) for name in modules)
    assert modules.isdisjoint({"sqlite3", "click", "rich", "boto3", "uvloop"})
    modules = loaded("import faaskeeper.client, faaskeeper.providers.local.service, faaskeeper.recipes")
    assert not any(name == "asyncio" or name.startswith("faaskeeper.aio") for name in modules)


def test_a_forked_child_is_told_whose_the_client_is_and_may_start_its_own(tmp_path: Path) -> None:
    config, own = Config.local(tmp_path / "service"), Config.local(tmp_path / "own")

    async def calls(client: AsyncClient) -> list[str]:
        errors = []
        for ask in (client.get_data("/n"), client.create("/m"), client.sync(), client.add_watch("/", print)):
            try:
                await ask
            except ForkedException as error:
                errors.append(str(error))
        await client.stop()
        client._config = own
        async with client:
            errors.append((await client.create("/child")).path)
        return errors

    async def parent() -> None:
        async with AsyncClient(config) as client:
            await client.create("/n", b"1")
            reading = asyncio.create_task(client.set_data("/n", b"2"))
            await asyncio.sleep(0)
            asyncio._set_running_loop(None)
            try:
                said = in_child(lambda: [error_of(lambda: client.ticket), *asyncio.run(calls(client))])
            finally:
                asyncio._set_running_loop(reading.get_loop())
            *errors, made = said
            assert len(errors) == 5
            assert all(f"opened by process {os.getpid()}" in error for error in errors), errors
            assert made == "/child"
            assert (await reading).stat.version == 1
            assert (await client.get_data("/n")).data == b"2"

    asyncio.run(parent())


def test_a_program_that_forgets_to_stop_ends_without_a_word(tmp_path: Path) -> None:
    script = f"""
        import asyncio
        from faaskeeper.aio import AsyncClient
        from faaskeeper.config import Config
        async def main():
            client = AsyncClient(Config.local({str(tmp_path)!r}))
            await client.start()
            await client.create("/n")
            asyncio.create_task(client.set_data("/n", b"1"))
            await client.get_data("/n", print)
            async for event in client.watch("/n"):
                break
        asyncio.run(main())
        print("done")
    """
    script = "\n".join(line[8:] for line in script.splitlines())
    script = script.replace(
        "async for event", "asyncio.create_task(client.set_data('/n'))\n    async for event"
    )
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout.splitlines()[-1], done.stderr) == (0, "done", "")
