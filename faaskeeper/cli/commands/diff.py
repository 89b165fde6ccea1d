"""Commands that compare a node's past, and go back to it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any, NamedTuple

import click

from faaskeeper.cli import differences, output
from faaskeeper.cli.context import Context
from faaskeeper.cli.differences import ABSENT
from faaskeeper.cli.errors import Failed
from faaskeeper.cli.moments import Moment, MomentType, check_known, rows_of
from faaskeeper.cli.options import as_json, command, path, version_option
from faaskeeper.cli.reverting import reverted
from faaskeeper.exceptions import NodeDoesntExistException
from faaskeeper.node import Node


class _Side(NamedTuple):
    """What is compared. ``node`` None: it did not exist."""

    name: str
    node: Node | None

    @property
    def data(self) -> bytes | None:
        return None if self.node is None else self.node.data


def _side(context: Context, path: str, at: Moment | None) -> _Side:
    name = "now" if at is None else f"0x{at:x}" if isinstance(at, int) else at.isoformat(timespec="seconds")
    try:
        return _Side(name, context.call(context.client.get_data, path, at=at))
    except NodeDoesntExistException:
        return _Side(name, None)


@command("diff")
@path
@click.option("--at", "at", type=MomentType(), multiple=True, help="A transaction or time; twice: from, to.")
@click.option("--text", "text", is_flag=True, help="Line by line, also where both are JSON.")
@as_json
def diff(context: Context, path: str, at: Sequence[Moment], text: bool, as_json: bool) -> None:
    """Print how a node's data differs between two moments.

    With one --at, between that and now; without any, between the last version and the one before.
    JSON is compared value by value (~ changed, + added, - removed), text line by line.

    \b
    Examples:
      diff /app/config
      diff /app/config --at 2h
      diff /app/config --at 0x2a --at 0x30
    """
    if len(at) > 2:
        raise click.UsageError("--at was given more than twice: two moments can be compared")
    first = at[0] if at else _before_last(context, path)
    before, after = _side(context, path, first), _side(context, path, at[1] if len(at) > 1 else None)
    if before.node is None and after.node is None:
        raise NodeDoesntExistException(path)
    _print(context, path, before, after, text, as_json)


def _before_last(context: Context, path: str) -> Moment:
    """The moment before the last change of a node's data."""
    rows = rows_of(context, context.client.history(path))
    last = next(islice((row for row in rows if row.kind != "acl"), 1), None)
    if last is None:
        check_known(context, path)
        raise Failed(f"the retained history has no change of {path} that you may read: nothing to compare", 2)
    return last.txid - 1


def _print(context: Context, path: str, before: _Side, after: _Side, text: bool, as_json: bool) -> None:
    old, new = differences.parsed(before.data), differences.parsed(after.data)
    by_value = not text and (old, new) != (ABSENT, ABSENT) and _json(before, old) and _json(after, new)
    lines: list[str] = []
    found: list[dict[str, Any]] = []
    if by_value:
        for each in differences.differences(old, new):
            lines.append(differences.shown(each))
            sides = {"before": each.before, "after": each.after}
            found.append({"pointer": each.pointer, **{k: v for k, v in sides.items() if v is not ABSENT}})
    else:
        texts = differences.lines_of(before.data), differences.lines_of(after.data)
        if texts[0] is not None and texts[1] is not None:
            lines = list(differences.unified(texts[0], texts[1]))
        elif before.data != after.data:
            lines = [f"{_size(before)} of binary data before, {_size(after)} after"]
    if as_json:
        same = before.data == after.data
        shown = {"path": path, "from": _shown(before), "to": _shown(after), "same": same}
        context.print_json({**shown, **({"changes": found} if by_value else {"lines": lines})})
        return
    if before.data == after.data:
        context.print_line(f"{path} has the same data at {before.name} and at {after.name}")
        return
    context.print_line(f"--- {path} at {before.name}{_version(before)}")
    context.print_line(f"+++ {path} at {after.name}{_version(after)}")
    for line in lines or [f"only the {'format' if by_value else 'kind of line ends'} differs"]:
        context.print_line(line)


def _json(side: _Side, value: Any) -> bool:
    return side.node is None or value is not ABSENT


def _size(side: _Side) -> str:
    return "no node" if side.node is None else f"{len(side.node.data)} bytes"


def _version(side: _Side) -> str:
    return " (no node)" if side.node is None else f" (version {side.node.stat.version})"


def _shown(side: _Side) -> dict[str, Any]:
    node = side.node
    return {"at": side.name, "version": None if node is None else node.stat.version}


@command("revert")
@path
@click.option("--at", "at", type=MomentType(), required=True, help="The transaction or time to go back to.")
@version_option
@click.option("-y", "--yes", is_flag=True, help="Do it; without, only show what would change.")
@click.option("--text", "text", is_flag=True, help="Show it line by line, also where both are JSON.")
@as_json
def revert(
    context: Context, path: str, at: Moment, version: int | None, yes: bool, text: bool, as_json: bool
) -> None:
    """Give a node the data that it had: shows what would change, and does it with --yes.

    It changes nothing if the node was written since it was shown: --version, which the dry run
    names, makes that true from the dry run on. A node that was deleted since is created again, with
    its data and ACL, and one that did not exist then is deleted. Children stay as they are.

    \b
    Examples:
      revert /app/config --at 2h
      revert /app/config --at 2h --version 7 --yes
    """
    then, now = _side(context, path, at), _side(context, path, None)
    if then.node is None and now.node is None:
        raise NodeDoesntExistException(path)
    if version is not None and (now.node is None or now.node.stat.version != version):
        is_now = "does not exist any more" if now.node is None else f"has version {now.node.stat.version}"
        raise Failed(f"{path} {is_now}, not {version}: nothing was changed; look at it again", 6)
    if then.data == now.data and not as_json:
        context.print_line(f"{path} is as it was: nothing to do")
        return
    _print(context, path, now, then, text, as_json)
    if then.data == now.data:
        return
    if not yes:
        expected = "" if now.node is None else f" --version {now.node.stat.version}"
        output.print_error(f"Nothing was changed. To do it, add{expected} --yes.")
        return
    done = context.call(reverted, context.client, path, at, then.node, now.node)
    if as_json:
        context.print_json({"path": path, "did": done})
    else:
        context.print_line(done)
