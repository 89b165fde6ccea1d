"""The asyncio client beside the threaded one: embedded service, same machine, same disk, one run.

Both sync every write. The clients take turns, so that what else the machine does meets each; a row's figures
are medians over the turns, its ratio is the median of the turns' ratios. The longest pause is the largest gap
between two ticks of a task that sleeps for 1 ms, beyond that millisecond: what other tasks of a program would
wait for the loop.

Run by ``make bench-aio``; ``python -m benchmarks.aio --turns 5 --directory /where/the/disk/is``.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.embedded import DATA, PIPELINE, measure_faaskeeper
from faaskeeper.aio import AsyncClient
from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config

MEASURES = ("set", "create", "get", "set, pipelined")
LOADS = ("nothing", "sets, one at a time", "sets, 100 at a time", "gets without end")
TICK_S = 0.001
PAUSE_S = 2.0
"""How long each load lasts."""

Loops = dict[str, Callable[[], asyncio.AbstractEventLoop]]


def loops() -> Loops:
    """Names of the loops that are here, and how each is made."""
    found: Loops = {"asyncio": asyncio.new_event_loop}
    try:
        import uvloop
    except ImportError:
        return found
    return {**found, "uvloop": uvloop.new_event_loop}


async def rate(operations: int, once: Callable[[int], Awaitable[object]]) -> float:
    """Operations per second, one at a time."""
    began = time.perf_counter()
    for number in range(operations):
        await once(number)
    return operations / (time.perf_counter() - began)


async def together(operations: int, once: Callable[[int], Awaitable[object]]) -> float:
    """Operations per second, asked for without waiting."""
    began = time.perf_counter()
    await asyncio.gather(*map(once, range(operations)))
    return operations / (time.perf_counter() - began)


async def measure(client: AsyncClient, root: str) -> dict[str, float]:
    """One turn, the same as the threaded client's."""
    await client.create(root)
    for number in range(100):
        await client.create(f"{root}/n{number}", DATA)
    return {
        "set": await rate(1_000, lambda number: client.set_data(f"{root}/n{number % 100}", DATA)),
        "create": await rate(1_000, lambda number: client.create(f"{root}/n{number % 100}/{number}", DATA)),
        "get": await rate(5_000, lambda number: client.get_data(f"{root}/n{number % 100}")),
        "set, pipelined": await together(
            PIPELINE, lambda number: client.set_data(f"{root}/n{number % 100}", DATA)
        ),
    }


async def pauses(client: AsyncClient, path: str) -> dict[str, float]:
    """The loop's longest pause under each load, in ms."""

    async def sets(tasks: int) -> None:
        async def one() -> None:
            while True:
                await client.set_data(path, DATA)

        await asyncio.gather(*(one() for _ in range(tasks)))

    async def gets() -> None:
        while True:
            await client.get_data(path)

    await client.create(path, DATA)
    loads = zip(LOADS, (asyncio.sleep(PAUSE_S), sets(1), sets(100), gets()), strict=True)
    return {name: await longest_pause(load) * 1000 for name, load in loads}


async def longest_pause(load: Any) -> float:
    """The largest gap between two ticks beside a load, beyond the tick itself, in s."""
    task = asyncio.ensure_future(load)
    most, last = 0.0, time.perf_counter()
    end = last + PAUSE_S
    while last < end:
        await asyncio.sleep(TICK_S)
        now = time.perf_counter()
        most, last = max(most, now - last - TICK_S), now
    task.cancel()
    await asyncio.wait((task,))
    return most


class InLoop:
    """An asyncio client in a loop in a thread of its own, so that clients can take turns."""

    def __init__(self, config: Config, factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self._client = AsyncClient(config)
        self._loop = factory()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.run(lambda client: client.start())

    def run(self, ask: Callable[[AsyncClient], Any]) -> Any:
        """Await what is made of the client."""
        return asyncio.run_coroutine_threadsafe(ask(self._client), self._loop).result()

    def stop(self) -> None:
        """Stop client and loop."""
        self.run(lambda client: client.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def compare(turns: int, parent: str, console: Console) -> None:
    """Print rates of all kinds of client, and the pauses of those in loops."""
    directory = tempfile.mkdtemp(prefix="faaskeeper-", dir=parent)
    config = Config.local(directory)
    threaded = FaaSKeeperClient(config)
    threaded.start()
    clients = {name: InLoop(config, factory) for name, factory in loops().items()}
    rates: dict[str, list[dict[str, float]]] = {name: [] for name in ("threads", *clients)}
    gaps: dict[str, list[dict[str, float]]] = {name: [] for name in clients}
    try:
        for turn in range(-1, turns):  # each has run once before it counts
            measured: dict[str, dict[str, float]] = {}
            for name in list(rates)[:: 1 if turn % 2 else -1]:
                if name == "threads":
                    measured[name] = measure_faaskeeper(threaded, turn)
                else:
                    ask = partial(measure, root=f"/{name}{turn}")
                    measured[name] = clients[name].run(ask)
            for name, each in measured.items() if turn >= 0 else ():
                rates[name].append(each)
        for turn in range(turns):
            for name, client in clients.items():
                gaps[name].append(client.run(partial(pauses, path=f"/{name}-pauses{turn}")))
    finally:
        for client in clients.values():
            client.stop()
        threaded.stop()
        shutil.rmtree(directory, ignore_errors=True)
    console.print(table(f"Operations per second, 1 KB, synced; medians of {turns} turns", MEASURES, rates))
    console.print(table("The loop's longest pause in 2 s, ms; medians", LOADS, gaps, ratios=False))


def table(
    title: str, rows: Sequence[str], figures: dict[str, list[dict[str, float]]], ratios: bool = True
) -> Table:
    """Medians, and their ratios to the first column's."""
    shown = Table(title=title)
    first, *others = figures
    for column in ("", *figures, *(f"{name} / {first}" for name in others if ratios)):
        shown.add_column(column, justify="left" if not column else "right")
    for row in rows:
        base = [each[row] for each in figures[first]]
        medians = [statistics.median(each[row] for each in some) for some in figures.values()]
        cells = [f"{value:,.0f}" if ratios else f"{value:.1f}" for value in medians]
        for name in others if ratios else ():
            pairs = zip(figures[name], base, strict=True)
            cells.append(f"{statistics.median(each[row] / one for each, one in pairs):.2f}")
        shown.add_row(row, *cells)
    return shown


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--directory", default=".", help="a directory on the disk to measure")
    options = parser.parse_args()
    console = Console(width=110)
    cores = len(os.sched_getaffinity(0))
    console.print(f"Python {platform.python_version()}, {cores} cores, {platform.machine()}")
    compare(options.turns, options.directory, console)


if __name__ == "__main__":
    main()
