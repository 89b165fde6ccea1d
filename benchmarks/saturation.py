"""``fk serve`` and ZooKeeper under a load that does not wait: requests a second, CPU for each.

A client in Python is the bottleneck of a busy server. So this load comes from one thread of a C
program, ``load.c``, which is compiled when the benchmark begins. Servers take turns at each row, in
alternating order. A figure is the median of the turns, a ratio the median of the turns' ratios. CPU
counts all threads of the server's process.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

ROWS = (
    ("get", 8, 32),
    ("exists", 8, 32),
    ("set", 8, 32),
    ("create", 8, 32),
    ("mix", 8, 32),
    ("get", 200, 1),
    ("get", 1, 1),
    ("set", 1, 1),
)
"""Operation, connections, requests under way by each. mix: nine gets to one set."""
_SOURCE = Path(__file__).with_name("load.c")


class Measured(NamedTuple):
    """One turn: requests a second, µs of CPU for each, median and 99th percentile of the time to a reply."""

    rate: float
    cpu_us: float
    p99_ms: float
    median_ms: float


class Side(NamedTuple):
    """A server to measure: the title of its columns, its process, and its port."""

    title: str
    pid: int
    port: int


def compiled(parent: str) -> Path | None:
    """The load generator, in a new directory; None where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    program = Path(tempfile.mkdtemp(prefix="load-", dir=parent)) / "load"
    subprocess.run([compiler, "-O2", "-o", str(program), str(_SOURCE)], check=True)
    return program


def _cpu_s(pid: int) -> float:
    stat = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


def measure(program: Path, side: Side, row: tuple[str, int, int], seconds: float) -> Measured:
    """One turn of one server."""
    operation, connections, depth = row
    before = _cpu_s(side.pid)
    command = [str(program), str(side.port), operation, str(connections), str(depth), str(seconds)]
    ended = subprocess.run(command, capture_output=True, text=True)
    if ended.returncode:
        raise RuntimeError(f"{side.title}: {operation} failed: {ended.stderr.strip()}")
    said = json.loads(ended.stdout)
    used = _cpu_s(side.pid) - before
    if said["errors"]:
        raise RuntimeError(f"{side.title}: {operation} had {said['errors']} errors")
    return Measured(said["rate"], used * 1e6 / (said["rate"] * seconds), said["p99_ms"], said["median_ms"])


def compare(sides: Sequence[Side], turns: int, seconds: float, parent: str, console: Console) -> None:
    """Print rates and CPU of two servers, and the ratio of the first's rate to the other's."""
    program = compiled(parent)
    if program is None:
        console.print("No load from C: there is no C compiler.")
        return
    table = Table(
        title="Requests a second (µs of CPU for each) under load, 1 KB, synced; "
        f"medians of {turns} turns of {seconds:g} s"
    )
    for column in ("connections x depth", *(side.title for side in sides), "ratio"):
        table.add_column(column, justify="right" if table.columns else "left")
    try:
        for row in ROWS:
            taken: list[list[Measured]] = [[] for _ in sides]
            for turn in range(turns):
                order = list(range(len(sides)))
                for number in order if turn % 2 else reversed(order):
                    taken[number].append(measure(program, sides[number], row, seconds))
            ratio = statistics.median(ours.rate / theirs.rate for ours, theirs in zip(*taken, strict=True))
            shown = [
                f"{statistics.median(each.rate for each in some):,.0f} "
                f"({statistics.median(each.cpu_us for each in some):.1f})"
                for some in taken
            ]
            table.add_row(f"{row[0]} {row[1]}x{row[2]}", *shown, f"{ratio:.2f}")
    finally:
        shutil.rmtree(program.parent, ignore_errors=True)
    console.print(table)
