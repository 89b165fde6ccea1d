"""What operations take on AWS: the real code in virtual time, on latencies measured there.

Beside them stands what was published for these operations.

Not a measurement of a cloud: no processor, no cold start and no neighbour is in it. ``--draw FILE`` makes a
picture. Run by ``make bench-aws``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.model import Setting, Virtual
from faaskeeper.client import FaaSKeeperClient

SQS, STANDARD, STREAM = (f"{each}.send_to_function" for each in ("sqs_fifo", "sqs", "dynamodb_stream"))
SETTINGS = (
    Setting("key-value, direct", "key-value", "", tell=""),
    Setting("hybrid (default)", "hybrid", SQS),
    Setting("key-value", "key-value", SQS),
    Setting("persistent", "persistent", SQS),
    Setting("key-value, distributor behind sqs", "key-value", SQS, SQS),
    Setting("key-value, client channel sqs", "key-value", SQS, answer=STANDARD),
    Setting("key-value, watch inline", "key-value", SQS, tell=""),
    Setting("key-value, worker queue sqs-unordered", "key-value", STANDARD),
    Setting("key-value, worker queue dynamodb", "key-value", STREAM, batch=100),
)
SIZES = (4, 1024, 64 * 1024, 250 * 1024)
OPERATIONS = ("set", "create", "delete", "get", "watch")
TARGETS = {
    "key-value, direct": 12,
    "key-value": 40,
    "persistent": 62,
    "key-value, distributor behind sqs": 65,
}
"""p50 of set_data with 1 KB, ms."""
QUANTILES = (0.5, 0.95, 0.99)
_PUBLISHED = {"key-value": "aws.key-value", "persistent": "aws.persistent"}


def quantile(values: Sequence[float], which: float) -> float:
    """A quantile of measured values."""
    return sorted(values)[min(int(which * len(values)), len(values) - 1)]


def latencies(setting: Setting, size: int, turns: int) -> dict[str, list[float]]:
    """Times in ms by operation, one client, one operation at a time, every function warm."""
    world = Virtual(setting, "aws", "dynamodb", "s3")
    took: dict[str, list[float]] = {each: [] for each in OPERATIONS}
    data = b"x" * size

    def measured(operation: str, act: Callable[[], object]) -> None:
        began = world.scheduler.now
        act()
        took[operation].append(world.scheduler.now - began)
        world.scheduler.sleep(100)  # until the function rests

    def run() -> None:
        client = world.client()
        watcher = world.client()
        client.start()
        watcher.start()
        client.create("/a", data)
        client.create("/w", b"")
        for number in range(turns):
            measured("set", lambda: client.set_data("/a", data))
            measured("create", lambda number=number: client.create(f"/c{number}", data))  # type: ignore[misc]
            measured("get", lambda: client.get_data("/a"))
            measured("delete", lambda number=number: client.delete(f"/c{number}"))  # type: ignore[misc]
            _watch(world, client, watcher, took["watch"])

    world.run(run)
    world.close()
    return took


def _watch(world: Virtual, client: FaaSKeeperClient, watcher: FaaSKeeperClient, took: list[float]) -> None:
    """From sending a change until another client's watch has fired."""
    fired: list[float] = []
    watcher.get_data("/w", lambda event: fired.append(world.scheduler.now))
    began = world.scheduler.now
    client.set_data("/w", b"")
    while not fired:
        world.scheduler.sleep(1)
    took.append(fired[0] - began)
    world.scheduler.sleep(100)


def throughput(setting: Setting, clients: int, seconds: float, window: int = 32) -> float:
    """Sets of 1 KB per second, by so many clients with so many requests under way each."""
    world = Virtual(setting, "aws", "dynamodb", "s3")
    done = 0
    began = 0.0

    def one(number: int) -> None:
        nonlocal done
        client = world.client()
        client.start()
        client.create(f"/n{number}", b"")
        until = began + seconds * 1000
        under_way: list[Any] = []
        while world.scheduler.now < until:
            under_way.append(client.set_data_async(f"/n{number}", b"x" * 1024))
            if len(under_way) >= window:
                under_way.pop(0).get(3600)
                done += 1

    began = world.scheduler.now
    world.run(*((lambda number=number: one(number)) for number in range(clients)))  # type: ignore[misc]
    world.close()
    return done / seconds


def published(world: Virtual, operation: str, name: str, size: int) -> str:
    """The published system's median, where there is one of this size."""
    row = world.latencies.published.get(f"{operation}.{name}", {})
    at = row.get(str(size)) if isinstance(row, dict) else None
    return f"{at[world.latencies._quantiles.index(0.5)]:.1f}" if at else ""


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=400, help="operations of each kind")
    parser.add_argument("--seconds", type=float, default=10.0, help="virtual seconds of each throughput")
    parser.add_argument("--draw", type=Path, help="draw the medians of set into this file (svg, png)")
    options = parser.parse_args()
    console = Console(width=190)
    medians: dict[str, list[float]] = {}
    missed: list[str] = []
    world = Virtual(SETTINGS[0], "aws", "dynamodb", "s3")
    for size in SIZES:
        table = Table(title=f"{size} bytes: p50 / p95 / p99 in ms", title_justify="left")
        table.add_column("configuration")
        for operation in OPERATIONS:
            table.add_column(operation, justify="right")
        table.add_column("published set, get", justify="right")
        for setting in SETTINGS:
            took = latencies(setting, size, options.turns)
            cells = [" / ".join(f"{quantile(took[each], q):.1f}" for q in QUANTILES) for each in OPERATIONS]
            name = _PUBLISHED.get(setting.name, "")
            known = [published(world, f"{each}_data", name, size) for each in ("set", "get")] if name else []
            table.add_row(setting.name, *cells, ", ".join(filter(None, known)))
            median = quantile(took["set"], 0.5)
            medians.setdefault(setting.name, []).append(median)
            if size == 1024 and median > TARGETS.get(setting.name, median):
                missed.append(f"{setting.name}: {median:.1f} ms, the budget is {TARGETS[setting.name]} ms")
        console.print(table)
    table = Table(title="sets of 1 KB per second on one shard, 32 under way per client", title_justify="left")
    table.add_column("configuration")
    for clients in (1, 10, 100):
        table.add_column(f"{clients} clients", justify="right")
    for setting in SETTINGS[:5]:
        rates = [throughput(setting, clients, options.seconds) for clients in (1, 10, 100)]
        table.add_row(setting.name, *(f"{rate:,.0f}" for rate in rates))
    console.print(table)
    if options.draw:
        draw(options.draw, medians, world)
    for line in missed:
        console.print(f"[red]over the budget: {line}")
    if missed:
        raise SystemExit(1)


def draw(path: Path, medians: dict[str, list[float]], world: Virtual) -> None:
    """Medians of set by size, beside the published ones."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 5.5))
    for name, values in medians.items():
        axes.plot(SIZES, values, marker="o", label=name)
    for name in ("aws.key-value", "aws.persistent"):
        rows = world.latencies.published[f"set_data.{name}"]
        middle = world.latencies._quantiles.index(0.5)
        points = sorted((int(size), row[middle]) for size, row in rows.items())
        axes.plot(
            *zip(*points, strict=True), linestyle="--", color="grey", marker="x", label=f"published, {name}"
        )
    axes.set(xscale="log", yscale="log", xlabel="data, bytes", ylabel="set_data, p50, ms (modelled)")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path)


if __name__ == "__main__":
    main()
