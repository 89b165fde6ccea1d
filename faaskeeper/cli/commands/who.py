"""``fk who``: who holds a lock, and who waits for it."""

from __future__ import annotations

from collections.abc import Iterator
from time import time
from typing import Any

import click

from faaskeeper.cli import output
from faaskeeper.cli.arguments import Address, Whole
from faaskeeper.cli.contenders import contenders, duration
from faaskeeper.cli.context import Context
from faaskeeper.cli.errors import Failed
from faaskeeper.cli.options import as_json, command, path
from faaskeeper.recipes.places import UNKNOWN


@command("who")
@path
@click.option("--semaphore", "leases", type=Whole(1, 10**6), metavar="N", help="N hold the semaphore.")
@click.option("--server", type=Address(), multiple=True, help="Ask this 'fk serve' for clients' addresses.")
@as_json
def who(
    context: Context, path: str, leases: int | None, server: tuple[tuple[str, int], ...], as_json: bool
) -> None:
    """Show who holds a lock, leads, or is a member, and who waits, in order.

    Recognizes the recipes of this library, of kazoo and of Curator by the names of their nodes. Exit
    status 1: nobody.
    """
    client = context.client
    rows = context.call(contenders, client, path, leases)
    if server:
        _add_peers(rows, server)
    if as_json:
        context.print_json(rows)
    else:
        for line in _table(rows):
            output.print_line(line)
    if not as_json and any(row["role"] == UNKNOWN for row in rows):
        output.print_error("fk: how many hold a semaphore is known to its users only: --semaphore N")
    if not rows:
        raise Failed(f"nobody holds {path} or waits for it", 1)


def _add_peers(rows: list[dict[str, Any]], servers: tuple[tuple[str, int], ...]) -> None:
    from faaskeeper.cli.servers import peers

    known: dict[int, str] = {}
    for each in servers:
        known.update(peers(each))
    for row in rows:
        if row["session"] is not None:
            row["address"] = known.get(int(row["session"], 16), row["address"])


_COLUMNS = ("role", "for", "identifier", "session", "identities", "address", "token", "recipe")


def _table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Lines of a table; '-' where the deployment does not know."""
    if not rows:
        return
    now = time() * 1000
    shown = [dict.fromkeys(_COLUMNS, "")]
    shown[0].update({each: each.upper() for each in _COLUMNS})
    for row in rows:
        cells = {key: str(row.get(key) or "-") for key in _COLUMNS}
        cells["for"] = duration(now - row["since"])
        cells["identities"] = ",".join(row["identities"]) or "-"
        shown.append({key: output.escaped(value) for key, value in cells.items()})
    widths = {key: max(len(cells[key]) for cells in shown) for key in _COLUMNS}
    for cells in shown:
        yield "  ".join(cells[key].ljust(widths[key]) for key in _COLUMNS).rstrip()
