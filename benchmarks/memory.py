"""``fk serve`` in front of a cloud: gets from storage and from memory.

Both servers are processes of their own, on stores in their memory whose reads take as long as
DynamoDB's did when they were measured (``benchmarks/data/latencies.json``); the rest is real: the
sockets, the threads, the log that is followed. The load comes from a program in C
(:mod:`benchmarks.saturation`). Writes do not wait and are not measured. The servers take turns.

Run it with ``python -m benchmarks.memory``.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.aws import AWS
from benchmarks.saturation import Measured, Side, compiled, measure
from faaskeeper.config import Config
from faaskeeper.core.connection import Connection
from faaskeeper.gateway.following import Following
from faaskeeper.gateway.server import Gateway, Settings
from faaskeeper.providers.local import connect

ROWS = (("get", 1, 1), ("get", 8, 32), ("get", 200, 1), ("exists", 8, 32))
"""Operation, connections, requests under way by each."""
_SIDES = ("memory", "storage")


class Far:
    """An object whose methods take as long as a read of DynamoDB."""

    def __init__(self, inner: Any, wait: Callable[[], None]) -> None:
        self._inner = inner
        self._wait = wait

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)

        def call(*args: Any, **more: Any) -> Any:
            self._wait()
            return method(*args, **more)

        return call


def far(connection: Connection) -> Connection:
    """The same deployment, as if it were on AWS: what a server reads."""
    latencies = AWS.latencies(Random(1))

    def wait() -> None:
        time.sleep(latencies.draw("dynamodb.read", 1024) / 1000)

    def applied() -> int:
        wait()
        return connection.applied()

    records: Any = Far(connection.records, wait)
    log: Any = Far(connection.log, wait)
    return replace(connection, within=None, records=records, log=log, applied=applied)


async def serve(directory: str, reads: str) -> None:
    """Serve until SIGTERM; prints the port."""
    config = Config.local(directory)
    following = Following() if reads == "memory" else None
    settings = Settings(listen=(("127.0.0.1", 0),), following=following)
    gateway = Gateway(far(connect(config, -1)), config, settings)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, gateway.stop)
    await gateway.start()
    print(gateway.addresses[0][1], flush=True)
    await gateway.run()


def start(directory: str, reads: str) -> tuple[subprocess.Popen[str], Side]:
    """A server in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.memory", "--serve", reads, "--directory", directory]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent)
    if process.stdout is None:
        raise AssertionError("its output is a pipe")
    return process, Side(f"reads from {reads}", process.pid, int(process.stdout.readline()))


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each turn")
    parser.add_argument("--directory", help="where the servers' files are; /dev/shm by default")
    parser.add_argument("--serve", choices=_SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.directory, options.serve))
        return
    parent = tempfile.mkdtemp(prefix="memory-", dir=options.directory or "/dev/shm")
    program = compiled(parent)
    if program is None:
        sys.exit("there is no C compiler")
    started = [start(os.path.join(parent, reads), reads) for reads in _SIDES]
    table = Table(title=f"1 KB; medians of {options.turns} turns of {options.seconds:g} s")
    table.add_column("connections x depth")
    for _, side in started:
        for figure in (f"{side.title}: a second", "p50, ms", "p99, ms", "CPU, µs"):
            table.add_column(figure, justify="right")
    try:
        for row in ROWS:
            taken: list[list[Measured]] = [[] for _ in started]
            for _ in range(options.turns):
                for some, (_, side) in zip(taken, started, strict=True):
                    some.append(measure(program, side, row, options.seconds))
            shown = [
                figure
                for some in taken
                for figure in (
                    f"{statistics.median(each.rate for each in some):,.0f}",
                    f"{statistics.median(each.median_ms for each in some):.2f}",
                    f"{statistics.median(each.p99_ms for each in some):.2f}",
                    f"{statistics.median(each.cpu_us for each in some):.0f}",
                )
            ]
            table.add_row(f"{row[0]} {row[1]}x{row[2]}", *shown)
    finally:
        for process, _ in started:
            process.terminate()
            process.wait()
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
