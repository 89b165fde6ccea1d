"""Latencies and throughput of a modelled cloud: tables and a figure."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks.model import Cloud, Setting, Virtual
from faaskeeper.client import FaaSKeeperClient

SIZES = (4, 1024, 64 * 1024, 250 * 1024)
OPERATIONS = ("set", "create", "delete", "get", "watch")
QUANTILES = (0.5, 0.95, 0.99)


@dataclass(frozen=True)
class Report:
    """What to run.

    ``targets``: p50 of set with 1 KB, ms; ``published``: published figures, by setting.
    """

    cloud: Cloud
    settings: tuple[Setting, ...]
    targets: Mapping[str, float] = field(default_factory=dict)
    published: Mapping[str, str] = field(default_factory=dict)


def quantile(values: Sequence[float], which: float) -> float:
    """A quantile of measured values."""
    return sorted(values)[min(int(which * len(values)), len(values) - 1)]


def latencies(cloud: Cloud, setting: Setting, size: int, turns: int) -> dict[str, list[float]]:
    """Latencies in ms by operation: one client, one request at a time, warm functions."""
    world = Virtual(setting, cloud)
    took: dict[str, list[float]] = {each: [] for each in OPERATIONS}
    data = b"x" * size
    # Until the function is idle, and an object of Cloud Storage may be written again.
    pause_ms = 1000 if (cloud.objects, setting.user_storage) == ("cloud_storage", "persistent") else 100

    def measured(operation: str, act: Callable[[], object]) -> None:
        began = world.scheduler.now
        act()
        took[operation].append(world.scheduler.now - began)
        world.scheduler.sleep(pause_ms)

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
    """The time from sending a change until the watch of another client fires."""
    fired: list[float] = []
    watcher.get_data("/w", lambda event: fired.append(world.scheduler.now))
    began = world.scheduler.now
    client.set_data("/w", b"")
    while not fired:
        world.scheduler.sleep(1)
    took.append(fired[0] - began)
    world.scheduler.sleep(100)


class Rate(NamedTuple):
    """Sets per second, the limit that was used most (what for, share, calls that waited for it)."""

    sets: float
    limit: str
    name: str
    share: float
    waited: int


def throughput(
    cloud: Cloud, setting: Setting, clients: int, seconds: float, window: int = 32, paths: int = 0
) -> Rate:
    """Sets of 1 KB, for several clients with ``window`` outstanding requests each.

    ``paths``: how many znodes they share; 0: each has its own.
    """
    world = Virtual(setting, cloud)
    done = ready = 0
    began = 0.0

    def one(number: int) -> None:
        nonlocal began, done, ready
        client = world.client()
        client.start()
        path = f"/n{number % paths if paths else number}"
        if number < (paths or clients):
            client.create(path, b"")
        ready += 1
        while ready < clients:
            world.scheduler.sleep(100)
        if not began:
            world.caps.used.clear()
            began = world.scheduler.now
        until = world.scheduler.now + seconds * 1000
        under_way: list[Any] = []
        while world.scheduler.now < until:
            under_way.append(client.set_data_async(path, b"x" * 1024))
            if len(under_way) >= window:
                under_way.pop(0).get(3600)
                done += world.scheduler.now < until

    world.run(*((lambda number=number: one(number)) for number in range(clients)))  # type: ignore[misc]
    world.close()
    return Rate(done / seconds, *world.caps.nearest((world.scheduler.now - began) / 1000))


def published(world: Virtual, operation: str, name: str, size: int) -> str:
    """The published system's median for this size, if there is one."""
    row = world.latencies.published.get(f"{operation}.{name}", {})
    at = row.get(str(size)) if isinstance(row, dict) else None
    return f"{at[world.latencies._quantiles.index(0.5)]:.1f}" if at else ""


def main(report: Report, description: str | None) -> None:
    """Print the tables of a report; exit status 1: a median exceeds its budget."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--turns", type=int, default=400, help="operations of each kind")
    parser.add_argument("--seconds", type=float, default=30.0, help="virtual seconds of each throughput")
    parser.add_argument("--draw", type=Path, help="draw the medians of set into this file (svg, png)")
    options = parser.parse_args()
    console = Console(width=220)
    medians: dict[str, list[float]] = {}
    missed: list[str] = []
    world = Virtual(report.settings[0], report.cloud)
    for size in SIZES:
        table = Table(title=f"{size} bytes: p50 / p95 / p99 in ms", title_justify="left")
        table.add_column("configuration")
        for operation in OPERATIONS:
            table.add_column(operation, justify="right")
        table.add_column("published set, get", justify="right")
        for setting in report.settings:
            took = latencies(report.cloud, setting, size, options.turns)
            cells = [" / ".join(f"{quantile(took[each], q):.1f}" for q in QUANTILES) for each in OPERATIONS]
            name = report.published.get(setting.name, "")
            known = [published(world, f"{each}_data", name, size) for each in ("set", "get")] if name else []
            table.add_row(setting.name, *cells, ", ".join(filter(None, known)))
            median = quantile(took["set"], 0.5)
            medians.setdefault(setting.name, []).append(median)
            if size == 1024 and median > report.targets.get(setting.name, median):
                missed.append(
                    f"{setting.name}: {median:.1f} ms, the budget is {report.targets[setting.name]} ms"
                )
        console.print(table)
    table = Table(title="sets of 1 KB per second on one shard, 32 under way per client", title_justify="left")
    table.add_column("configuration")
    for clients in (1, 10, 100):
        table.add_column(f"{clients} clients", justify="right")
    table.add_column("limit used most by 100: share, calls that waited")
    for setting in report.settings[:6]:
        rates = [throughput(report.cloud, setting, clients, options.seconds) for clients in (1, 10, 100)]
        last = rates[-1]
        bound = f"{last.limit} of {last.name}: {last.share:.0%}, {last.waited}" if last.limit else "none"
        table.add_row(setting.name, *(f"{rate.sets:,.0f}" for rate in rates), bound)
    console.print(table)
    if options.draw:
        draw(options.draw, medians, world, report)
    for line in missed:
        console.print(f"[red]over the budget: {line}")
    if missed:
        raise SystemExit(1)


def draw(path: Path, medians: dict[str, list[float]], world: Virtual, report: Report) -> None:
    """Draw medians of set by size, with the published ones."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 5.5))
    for name, values in medians.items():
        axes.plot(SIZES, values, marker="o", label=name)
    for name in sorted(set(report.published.values())):
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
