"""``find``: nodes of a tree that fulfil conditions."""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import click

from faaskeeper.cli import acls, output
from faaskeeper.cli.arguments import Size, text_of
from faaskeeper.cli.context import Context
from faaskeeper.cli.errors import Failed
from faaskeeper.cli.kinds import KINDS, kind_of
from faaskeeper.cli.options import as_json, command, depth_option, path_or_root, unsorted_option
from faaskeeper.cli.times import Moment
from faaskeeper.cli.walks import Walk
from faaskeeper.core import paths
from faaskeeper.core.znode import Acl
from faaskeeper.exceptions import NoAuthException, NodeDoesntExistException
from faaskeeper.node import Node
from faaskeeper.zookeeper.address import PROVIDER


class Glob(click.ParamType[str]):
    """A pattern with ``*``, ``?`` and ``[...]``, as the shell's."""

    name = "GLOB"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return text_of(str(value))


class SessionId(click.ParamType[int]):
    """A session's id in hexadecimal, as ``fk`` shows it."""

    name = "SESSION"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if not re.fullmatch("(0[xX])?[0-9a-fA-F]{1,16}", str(value)):
            self.fail(f"{str(value)[:40]!r} is not a session's id, such as 0000002a or 0x2a.", param, ctx)
        return int(str(value), 16)


class _Wanted(NamedTuple):
    """Conditions, all of which a node must fulfil; None: any node does."""

    name: str | None
    path: str | None
    kinds: tuple[str, ...]
    larger: int | None
    smaller: int | None
    older: int | None
    newer: int | None
    owner: int | None

    def met(self, node: Node) -> bool:
        """Whether a node fulfils them. Needs no further reads."""
        stat = node.stat
        conditions: tuple[tuple[Any, Callable[[Any], bool]], ...] = (
            (self.name, lambda glob: fnmatchcase(paths.name(node.path), glob)),
            (self.path, lambda glob: fnmatchcase(node.path, glob)),
            (self.kinds or None, lambda kinds: kind_of(node) in kinds),
            (self.larger, lambda size: stat.dataLength > size),
            (self.smaller, lambda size: stat.dataLength < size),
            (self.older, lambda moment: stat.mtime < moment),
            (self.newer, lambda moment: stat.mtime > moment),
            (self.owner, lambda session: stat.ephemeralOwner == session),
        )
        return all(given is None or holds(given) for given, holds in conditions)


@command("find")
@path_or_root
@click.option("--name", type=Glob(), help="The last part of the path matches.")
@click.option("--path", "glob", type=Glob(), help="The whole path matches; * matches / too.")
@click.option("--type", "kinds", type=click.Choice(KINDS), multiple=True, help="Of this kind. Repeatable.")
@click.option("--larger", type=Size(1 << 40), help="More data than this, such as 64KB.")
@click.option("--smaller", type=Size(1 << 40), help="Less data than this.")
@click.option("--older", type=Moment(), metavar="TIME", help="Data last set before: 90s, 15m, 2h, 3d ago.")
@click.option("--newer", type=Moment(), metavar="TIME", help="Data last set after.")
@click.option("--acl", type=Glob(), help="An entry of the ACL matches, in the form SCHEME:ID:PERMISSIONS.")
@click.option("--owner", type=SessionId(), help="Ephemeral of this session.")
@depth_option
@unsorted_option
@click.option("-0", "--print0", is_flag=True, help="End each path with a NUL instead of a newline.")
@as_json
def find(
    context: Context,
    path: str,
    name: str | None,
    glob: str | None,
    kinds: tuple[str, ...],
    larger: int | None,
    smaller: int | None,
    older: int | None,
    newer: int | None,
    acl: str | None,
    owner: int | None,
    depth: int | None,
    unsorted: bool,
    print0: bool,
    as_json: bool,
) -> None:
    """Print the paths of nodes that meet conditions.

    It looks at PATH and all below it, for nodes that meet all conditions that are given. A node is
    printed before those below it, children in the order of their names. --json prints a line for
    each node. Nodes that are deleted meanwhile or may not be read are reported; then the exit
    status is not 0.

    \b
    Examples:
      find /app --name 'lock-*'
      find / --type ephemeral --owner 0000002a
      find / --larger 64KB --older 30d
      find / --acl 'world:anyone:*w*'
    """
    if print0 and as_json:
        raise click.UsageError("--print0 prints only paths: omit --json")
    if context.config.provider_name == PROVIDER and {"container", "ttl"} & set(kinds):
        raise Failed("a ZooKeeper server does not tell containers and times to live", 2)
    wanted = _Wanted(name, glob, kinds, larger, smaller, older, newer, owner)
    walk = Walk(context, depth=depth, unsorted=unsorted, as_json=as_json)
    for node, _ in walk.visits(path):
        if not wanted.met(node):
            continue
        entries: list[Acl] = []
        if acl is not None:
            try:
                entries = context.call(context.client.get_acls, node.path)[0]
            except (NodeDoesntExistException, NoAuthException) as error:
                walk.problem(node.path, error)
                continue
            if not any(fnmatchcase(acls.show(entry), acl) for entry in entries):
                continue
        if as_json:
            found = {**node.serialize(), "kind": kind_of(node)}
            context.print_json({**found, "acl": [list(each) for each in entries]} if entries else found)
        elif print0:
            output.raw(node.path.encode() + b"\0")
        else:
            context.print_line(node.path)
    walk.end()
