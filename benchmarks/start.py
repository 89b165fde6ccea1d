"""Compares in one run how long programs of two commits take to start, to do little, and to end.

A program is a process of its own, without what ``site`` adds to the interpreter, with compiled
modules. Programs of both commits take turns. CPU and wall-clock time, in ms; a ratio below 1: the
change is faster.

Run it with ``make bench-start BASE=main~1``; ``python -m benchmarks.start main~1 --turns 31``.
"""

from __future__ import annotations

import argparse
import os
import site
import statistics
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.change import tree_of

_SESSION = """
import sys
from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
with FaaSKeeperClient(Config.local(sys.argv[1])) as client:
    client.get_data("/a")
"""


class Side:
    """A tree's programs, on a deployment of its own."""

    def __init__(self, tree: Path, parent: str) -> None:
        directory = f"{tree}/deployment"
        fk = ["-m", "faaskeeper.cli", "-d", directory]
        self._environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("FK_", "PYTHON"))},
            "PYTHONPATH": os.pathsep.join([str(tree), *site.getsitepackages()]),
            "PYTHONPYCACHEPREFIX": f"{parent}/compiled",
        }
        self.programs = {
            "the interpreter": ["-c", "pass"],
            "import click": ["-c", "import click"],
            "from faaskeeper.client import FaaSKeeperClient": [
                "-c",
                "from faaskeeper.client import FaaSKeeperClient",
            ],
            "a session, a read": ["-c", _SESSION, directory],
            "fk --help": ["-m", "faaskeeper.cli", "--help"],
            "fk get /a": [*fk, "get", "/a"],
            "fk set /a x": [*fk, "set", "/a", "x"],
        }
        self.run([*fk, "create", "/a", "x" * 1000])

    def run(self, program: list[str]) -> tuple[float, float]:
        """CPU and wall-clock time of a program, in ms."""
        executable = os.path.realpath(sys.executable)
        nowhere = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
        began = time.perf_counter()
        process = os.posix_spawn(
            executable, [executable, "-S", "-P", *program], self._environment, file_actions=nowhere
        )
        _, status, used = os.wait4(process, 0)
        took = time.perf_counter() - began
        if status:
            raise RuntimeError(f"{program} failed")
        return (used.ru_utime + used.ru_stime) * 1000, took * 1000


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("base", help="the commit to compare with")
    parser.add_argument("--head", default="HEAD", help="the commit to measure (its committed files)")
    parser.add_argument("--turns", type=int, default=21)
    parser.add_argument("--directory", default=tempfile.gettempdir())
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(dir=options.directory) as parent,
        tree_of(options.base, parent) as old,
        tree_of(options.head, parent) as new,
    ):
        sides = [Side(old, parent), Side(new, parent)]
        table = Table("", "CPU before", "after", "ratio", "wall before", "after", "ratio")
        for name in sides[0].programs:
            runs: list[list[tuple[float, float]]] = [[], []]
            for turn in range(options.turns + 1):
                for side, times in zip(sides, runs, strict=True):
                    measured = side.run(side.programs[name])
                    if turn:  # the first run of each compiles
                        times.append(measured)
            cells: list[str] = []
            for kind in (0, 1):
                before, after = (statistics.median(each[kind] for each in times) for times in runs)
                cells += [f"{before:.1f}", f"{after:.1f}", f"{after / before:.2f}"]
            table.add_row(name, *cells)
        Console(width=120).print(table)


if __name__ == "__main__":
    main()
