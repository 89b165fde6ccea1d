"""``tree``: a node and its descendants."""

from __future__ import annotations

from typing import Any

import click

from faaskeeper.cli import output
from faaskeeper.cli.context import Context
from faaskeeper.cli.options import as_json, command, path_or_root
from faaskeeper.core import paths
from faaskeeper.exceptions import NodeDoesntExistException


@command("tree")
@path_or_root
@click.option("--data", "data", is_flag=True, help="Print the data too.")
@as_json
def tree(context: Context, path: str, data: bool, as_json: bool) -> None:
    """Print a node and all nodes below it as a tree."""
    if as_json:
        context.print_json(_as_dictionary(context, path))
        return
    context.print_line(_label(context, path, data))
    _branches(context, path, data, "")


def _label(context: Context, path: str, data: bool) -> str:
    name = paths.name(path) or "/"
    if not data:
        return name
    return f"{name}: {output.escaped_data(context.call(context.client.get_data, path).data)}"


def _branches(context: Context, path: str, data: bool, indent: str) -> None:
    """Print the descendants of a node, each as soon as it is read, without truncation."""
    corner, fork, line = output.guides()
    children = context.call(context.client.get_children, path)
    for number, child in enumerate(children, 1):
        try:
            label = _label(context, child.path, data)
            last = number == len(children)
            context.print_line(f"{indent}{corner if last else fork}{label}")
            _branches(context, child.path, data, indent + ("    " if last else line))
        except NodeDoesntExistException:
            continue  # deleted during the walk


def _as_dictionary(context: Context, path: str) -> dict[str, Any]:
    node = context.call(context.client.get_data, path)
    children = []
    for child in context.call(context.client.get_children, path):
        try:
            children.append(_as_dictionary(context, child.path))
        except NodeDoesntExistException:
            continue  # deleted during the walk
    return {**node.serialize(), "children": children}
