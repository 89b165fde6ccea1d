"""Commands that show what happened to nodes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import click

from faaskeeper.cli import differences, output
from faaskeeper.cli.arguments import Whole, ZnodePath
from faaskeeper.cli.context import Context
from faaskeeper.cli.differences import ABSENT, Blamed
from faaskeeper.cli.errors import Failed
from faaskeeper.cli.moments import Moment, MomentType, check_known, rows_of, when, who
from faaskeeper.cli.options import as_json, command, path
from faaskeeper.core.log import Log
from faaskeeper.exceptions import BeforeHistoryException, NodeDoesntExistException
from faaskeeper.session.history import Revision, ms_of


@command("history")
@click.argument("path", type=ZnodePath(), required=False)
@click.option("-r", "--recursive", is_flag=True, help="The nodes below it, too.")
@click.option("--since", type=MomentType(), help="After this transaction, or from this time on: 42, 2h.")
@click.option("--until", type=MomentType(), help="Up to this transaction or time.")
@click.option("--session", metavar="ID", help="What this session did.")
@click.option("--reverse", is_flag=True, help="Oldest first.")
@click.option("-n", "--number", type=Whole(1, 10**9), help="At most so many.")
@as_json
def history(
    context: Context,
    path: str | None,
    recursive: bool,
    since: Moment | None,
    until: Moment | None,
    session: str | None,
    reverse: bool,
    number: int | None,
    as_json: bool,
) -> None:
    """Print what happened to a node, or without PATH to all; newest first.

    It goes back as far as the log is retained (seven days, if not configured otherwise), and leaves
    out what you may not read, then or now. A line has the transaction, the time, what happened, the
    path, the versions before and after, the size of the data, the session, and its identities.

    \b
    Examples:
      history /app/config
      history --since 2h
      history /app -r --session 0000002a --json
    """
    more = {"since": since, "until": until, "session": session, "newest_first": not reverse}
    client, below = context.client, recursive or path is None
    found: Iterator[Revision] = client.history(path or "/", below, **more)  # type: ignore[arg-type]
    shown = 0
    for row in islice(rows_of(context, found), number):
        shown += 1
        if as_json:
            context.print_json(_as_json(row))
        else:
            context.print_line(_line(row))
    if not shown and path is not None and not recursive and (since, until, session) == (None, None, None):
        check_known(context, path)
    if since is not None and (shown != number or reverse):
        note = context.call(_missed, client.connection.log, since)
        if note:
            output.print_error(f"fk: {note}")


def _missed(log: Log, since: Moment) -> str:
    """A note if the log does not have everything since a moment; empty if it has. Raises DriverError."""
    from faaskeeper.cli.measuring import first_entry

    before, time = first_entry(log, 0)
    if not before or time is None or (since >= before if isinstance(since, int) else ms_of(since) >= time):
        return ""
    return f"what happened before transaction {before + 1} ({when(time)}) is before the retained history"


def _as_json(row: Revision) -> dict[str, Any]:
    shown = row._asdict()
    del shown["data"]
    return {**shown, "by": None if row.by is None else list(row.by)}


def _line(row: Revision) -> str:
    before = "-" if row.replaced is None else str(row.replaced)
    after = "-" if row.version is None else str(row.version)
    size = "" if row.size is None else f", {row.size} bytes"
    return (
        f"0x{row.txid:x}  {when(row.time)}  {row.kind:<7}  {row.path}  {before} -> {after}{size}  {who(row)}"
    )


@command("blame")
@path
@click.option("--text", "text", is_flag=True, help="Line by line, also where the data is JSON.")
@as_json
def blame(context: Context, path: str, text: bool, as_json: bool) -> None:
    """Print who last changed each line of a node's data, or each value of JSON.

    A line that begins with ^ was there before the retained history begins.

    \b
    Examples:
      blame /app/config
      blame /app/config --text
    """
    client = context.client
    now = context.call(client.get_data, path)
    by_value = not text and differences.parsed(now.data) is not ABSENT
    if not by_value and differences.lines_of(now.data) is None:
        raise Failed(
            f"the data of {path} is neither text nor JSON: 'fk history {path}' shows its versions", 2
        )
    blamed: Blamed[Revision | None] = Blamed(by_value)
    known = False
    for row in rows_of(context, client.history(path, until=now.stat.mzxid, newest_first=False)):
        if row.kind not in ("created", "set", "deleted"):
            continue
        if not known and row.kind == "set":
            blamed.take(_data(context, path, row.txid - 1), None)
        known = True
        data = b"" if row.kind == "deleted" else row.data
        blamed.take(_data(context, path, row.txid) if data is None else data, row)
    if not known:
        blamed.take(now.data, None)
    for pointer, content, last in blamed.parts:
        if as_json:
            place = {"pointer": pointer} if by_value else {}
            context.print_json({**place, "text": content, "revision": last and _as_json(last)})
        else:
            origin = "^" if last is None else f"0x{last.txid:x} {when(last.time)} {who(last)}"
            context.print_line(f"{origin}) {pointer + ': ' if by_value else ''}{content}")


def _data(context: Context, path: str, txid: int) -> bytes:
    try:
        return context.call(context.client.get_data, path, at=txid).data
    except (BeforeHistoryException, NodeDoesntExistException):
        return b""
