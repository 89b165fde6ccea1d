"""``du``: how much data a tree has, and where."""

from __future__ import annotations

import click

from faaskeeper.cli.context import Context
from faaskeeper.cli.options import as_json, command, depth_option, path_or_root
from faaskeeper.cli.walks import Walk
from faaskeeper.node import Node


class _Sum:
    """What was counted of a node and of those below it."""

    def __init__(self, node: Node) -> None:
        self.path = node.path
        self.inner = node.stat.numChildren > 0
        self.size = node.stat.dataLength
        self.nodes = 1

    def add(self, below: _Sum) -> None:
        self.size += below.size
        self.nodes += below.nodes


@command("du")
@path_or_root
@click.option("-s", "--summarize", is_flag=True, help="Print only the total.")
@click.option("-a", "--all", "every", is_flag=True, help="Print nodes without children, too.")
@click.option("--nodes", "count", is_flag=True, help="Count nodes instead of bytes.")
@click.option("--human", is_flag=True, help="Print sizes like 1.5K and 2.3M.")
@depth_option
@as_json
def du(
    context: Context,
    path: str,
    summarize: bool,
    every: bool,
    count: bool,
    human: bool,
    depth: int | None,
    as_json: bool,
) -> None:
    """Print how much data each tree has.

    It prints the bytes of each node that has children, with all below it. What is below a node is
    printed before it, as by du for files. --depth limits what is printed, not what is counted.
    --json prints a line for each, with bytes and nodes.

    \b
    Examples:
      du /app
      du -s --human /
      du --nodes --depth 1 /
    """
    most = 0 if summarize else depth
    walk = Walk(context, as_json=as_json)
    open_: list[_Sum] = []

    def close() -> None:
        done = open_.pop()
        if open_:
            open_[-1].add(done)
        if (most is None or len(open_) <= most) and (done.inner or every or not open_):
            shown = str(done.nodes) if count else _human(done.size) if human else str(done.size)
            value = {"path": done.path, "bytes": done.size, "nodes": done.nodes}
            context.say(as_json, value, f"{shown}\t{done.path}")

    for node, level in walk.visits(path):
        while len(open_) > level:
            close()
        open_.append(_Sum(node))
    while open_:
        close()
    walk.end()


def _human(number: float) -> str:
    for unit in ("", "K", "M", "G", "T"):
        if number < 1024 or unit == "T":
            break
        number /= 1024
    return f"{number:.0f}" if not unit else f"{number:.1f}{unit}"
