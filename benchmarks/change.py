"""Compares two commits in one run, alternating for each row.

The machine's speed varies over time, so results of two runs are not comparable. Here each row
measures both commits in turn, in alternating order. A row's ratio is the median of the ratios of
the turns; above 1, the change is faster. The embedded client and ``fk serve`` of each commit run in
processes of their own; this process drives the latter with kazoo.

Run it with ``make bench-change BASE=main~1``; ``python -m benchmarks.change main~1 --turns 11``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import gateway
from benchmarks.gateway import GatewayServer, clients_of

_ROOT = Path(__file__).parent.parent
_CHILD = """
import sys
from benchmarks.embedded import measure_faaskeeper
from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
with FaaSKeeperClient(Config.local(sys.argv[1])) as client:
    for turn in sys.stdin:
        rates = measure_faaskeeper(client, int(turn))
        print("\\t".join(f"{name}={rate}" for name, rate in rates.items()), flush=True)
"""
Measure = Callable[[int], dict[str, float]]


@contextmanager
def tree_of(revision: str, parent: str) -> Iterator[Path]:
    """The files of a commit, in a temporary directory."""
    tree = Path(tempfile.mkdtemp(prefix="tree-", dir=parent))
    try:
        archive = subprocess.run(
            ["git", "archive", revision], cwd=_ROOT, check=True, stdout=subprocess.PIPE
        ).stdout
        subprocess.run(["tar", "x"], cwd=tree, input=archive, check=True)
        yield tree
    finally:
        shutil.rmtree(tree, ignore_errors=True)


@contextmanager
def embedded(tree: Path, parent: str) -> Iterator[Measure]:
    """Measures one turn of a tree's embedded client."""
    directory = tempfile.mkdtemp(prefix="embedded-", dir=parent)
    process = subprocess.Popen(
        [sys.executable, "-c", _CHILD, directory],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    if process.stdin is None or process.stdout is None:
        raise AssertionError("pipes")
    asked, answers = process.stdin, process.stdout

    def measure(turn: int) -> dict[str, float]:
        print(turn, file=asked, flush=True)
        rows = (each.split("=") for each in answers.readline().strip().split("\t"))
        return {name: float(rate) for name, rate in rows}

    try:
        yield measure
    finally:
        asked.close()
        process.wait(60)
        answers.close()
        shutil.rmtree(directory, ignore_errors=True)


Results = list[dict[str, list[float]]]


def embedded_turns(trees: list[Path], turns: int, parent: str) -> Results:
    """Rates of each tree's embedded client, by row."""
    results: Results = [defaultdict(list) for _ in trees]
    with ExitStack() as stack:
        sides = [stack.enter_context(embedded(tree, parent)) for tree in trees]
        for turn in range(turns + 1):
            order = list(zip(sides, results, strict=True))
            for measure, rates in order if turn % 2 else reversed(order):
                for name, rate in measure(turn).items():
                    if turn:  # the first run of each is a warm-up
                        rates[name].append(rate)
    return results


def served_turns(trees: list[Path], turns: int, parent: str) -> Results:
    """Rates of each tree's ``fk serve``, by row."""
    results: Results = [defaultdict(list) for _ in trees]
    with ExitStack() as stack:
        sides = []
        for tree in trees:
            server = GatewayServer(parent, tree=tree)
            stack.callback(server.stop)
            sides.append(stack.enter_context(clients_of(server.port)))
        for turn in range(turns + 1):
            measured = [partial(gateway.measures, side, turn)() for side in sides]
            for name in measured[0]:
                order = list(zip(measured, results, strict=True))
                for rows, rates in order if turn % 2 else reversed(order):
                    rate = rows[name]()
                    if turn:
                        rates[name].append(1 / rate if name.endswith("ms") else rate)
    return results


def show(title: str, results: Results, console: Console) -> None:
    """Print a table of the results."""
    before, after = results
    console.print(title)
    table = Table()
    for column in ("", "before", "after", "ratio"):
        table.add_column(column, justify="left" if not column else "right")
    for name in before:
        ratio = statistics.median(b / a for a, b in zip(before[name], after[name], strict=True))
        shown = [statistics.median(each[name]) for each in results]
        figures = [f"{1 / each:,.2f}" if name.endswith("ms") else f"{each:,.0f}" for each in shown]
        table.add_row(name, *figures, f"{ratio:.2f}")
    console.print(table)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("base", help="the commit to compare with")
    parser.add_argument("--head", default="HEAD", help="the commit to measure (its committed files)")
    parser.add_argument("--turns", type=int, default=11)
    parser.add_argument("--directory", default=tempfile.gettempdir())
    parser.add_argument("--only", choices=("embedded", "serve"))
    options = parser.parse_args()
    console = Console(width=100)
    with tree_of(options.base, options.directory) as old, tree_of(options.head, options.directory) as new:
        trees = [old, new]
        if options.only != "serve":
            results = embedded_turns(trees, options.turns, options.directory)
            show(f"Embedded, operations per second; medians of {options.turns} turns", results, console)
        if options.only != "embedded":
            results = served_turns(trees, options.turns, options.directory)
            show(f"fk serve, operations per second; medians of {options.turns} turns", results, console)
    console.print("A ratio above 1: the change is faster.")


if __name__ == "__main__":
    main()
