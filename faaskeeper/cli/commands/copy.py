"""``cp`` and ``mv``: trees within a deployment."""

from __future__ import annotations

import click

from faaskeeper.cli import acls, output
from faaskeeper.cli.arguments import ZnodePath, text_of
from faaskeeper.cli.context import Context
from faaskeeper.cli.copying import Copy, check_apart, check_length, look, prepare
from faaskeeper.cli.errors import Failed
from faaskeeper.cli.moving import at_once, fits, in_steps, refuse_ephemerals
from faaskeeper.cli.options import as_json, command, dry_run_option
from faaskeeper.cli.progress import bar
from faaskeeper.cli.walks import Walk
from faaskeeper.core import paths

source_argument = click.argument("source", type=ZnodePath())
target_argument = click.argument("target", type=ZnodePath())
parents_option = click.option("-p", "--parents", is_flag=True, help="Create missing parents of TARGET.")


@command("cp")
@source_argument
@target_argument
@click.option("-r", "-R", "--recursive", is_flag=True, help="Copy all nodes below it, too.")
@click.option("-f", "--force", is_flag=True, help="Replace data and ACLs of nodes that exist at TARGET.")
@parents_option
@click.option("--acl", "acl", help="Give each copy this ACL: SCHEME:ID:PERMISSIONS[,...].")
@dry_run_option
@as_json
def cp(
    context: Context,
    source: str,
    target: str,
    recursive: bool,
    force: bool,
    parents: bool,
    acl: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Copy a node; with -r, all below it, too.

    TARGET is the path of the copy itself, and must not exist without -f. Copied are data, ACLs,
    containers and times to live; ephemerals are left out. Versions and times start anew. Sequence
    numbers at a copy go on above those in its children's names. Many nodes are created in each
    transaction, parents first; other clients may see a part of the copy.

    \b
    Examples:
      cp /app/config /app/config-old
      cp -r /app /backup/app --parents
    """
    given = None if acl is None else acls.parse(text_of(acl))
    if recursive:
        check_apart(source, target)
    elif source == target:
        raise Failed(f"{source} cannot be copied to itself", 2)
    found = look(context, source, recursive, as_json)
    check_length(found, source, target)
    if dry_run:
        _show(context, source, target, recursive, as_json)
        return
    prepare(context, target, parents=parents, existing=force)
    copy = Copy(context, source, target, recursive=recursive, acl=given, as_json=as_json)
    with bar("copying", found.nodes) as advance:
        copy.write(force=force, total=found.nodes, advance=advance)
    if as_json:
        context.print_json(
            {
                "from": source,
                "to": target,
                "nodes": copy.done,
                "ephemerals": copy.ephemerals,
                "renumbered": copy.renumbered,
            }
        )
    else:
        context.print_line(f"Copied {_nodes(copy.done)} to {target}")
        if found.children and not recursive:
            output.print_error(f"its children stay behind ({found.children}): -r copies them, too")
        _tell(copy)
    copy.walk.end()


def _nodes(number: int) -> str:
    return f"{number} node{'' if number == 1 else 's'}"


def _tell(copy: Copy) -> None:
    """Say what is not as it was at the source."""
    if copy.ephemerals:
        output.print_error(f"left out {len(copy.ephemerals)} ephemerals: {', '.join(copy.ephemerals[:5])}")
    if copy.renumbered:
        first = ", ".join(copy.renumbered[:5])
        output.print_error(f"sequence numbers restart below {len(copy.renumbered)} nodes: {first}")


def _show(context: Context, source: str, target: str, recursive: bool, as_json: bool) -> None:
    """Print what would be copied or moved."""
    copy = Copy(context, source, target)
    walk = Walk(context, depth=None if recursive else 0, as_json=as_json)
    for node, _ in walk.visits(source):
        if node.stat.ephemeralOwner:
            continue
        to = copy.at(node.path)
        context.say(as_json, {"from": node.path, "to": to}, f"{node.path} -> {to}")
    walk.end()


@command("mv")
@source_argument
@target_argument
@parents_option
@click.option("--resume", is_flag=True, help="Go on with a move that was cut off.")
@dry_run_option
@as_json
def mv(
    context: Context, source: str, target: str, parents: bool, resume: bool, dry_run: bool, as_json: bool
) -> None:
    """Move a node and all nodes below it.

    TARGET is its new path, and must not exist. Up to 100 nodes and 128 KB move in one transaction:
    other clients see all of them at the one path or at the other. A larger tree is copied first and
    then deleted, children before parents, each node only if it is as it was copied. If that is
    interrupted, nothing is lost, and the command with --resume goes on.

    Data, ACLs, containers, times to live and sequence numbers stay; versions and times start anew.
    A tree with ephemerals is refused: they belong to their sessions.

    \b
    Examples:
      mv /app /old/app --parents
      mv /app /old/app --resume
    """
    if source in paths.RESERVED:
        raise Failed(f"{source} cannot be moved: it is part of every tree", 2)
    check_apart(source, target)
    found = look(context, source, True, as_json)
    check_length(found, source, target)
    refuse_ephemerals(found)
    if dry_run:
        _show(context, source, target, True, as_json)
        return
    prepare(context, target, parents=parents, existing=resume)
    moved = None
    if fits(found) and not resume:
        moved = at_once(context, Copy(context, source, target, as_json=as_json), source)
    atomic = moved is not None
    copy = Copy(context, source, target, as_json=as_json)
    if moved is None:
        with bar("moving", 2 * found.nodes) as advance:
            moved = in_steps(context, copy, source, found.nodes, resume, advance)
    if as_json:
        shown = {"from": source, "to": target, "nodes": moved, "one_transaction": atomic}
        context.print_json({**shown, "renumbered": copy.renumbered})
        return
    how = "in one transaction" if atomic else "in steps"
    context.print_line(f"Moved {_nodes(moved)} to {target} {how}")
    _tell(copy)
