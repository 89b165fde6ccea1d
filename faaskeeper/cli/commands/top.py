"""``fk top``: what a deployment does now, in a table that is renewed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Any

import click

from faaskeeper.cli import output
from faaskeeper.cli.arguments import Address, Amount
from faaskeeper.cli.context import Context
from faaskeeper.cli.measuring import Meter, last_rows
from faaskeeper.cli.options import as_json, command, optional_config
from faaskeeper.zookeeper import address

if TYPE_CHECKING:
    from rich.table import Table

Look = Callable[[], dict[str, Any]]
Shown = Callable[[dict[str, Any]], Iterator[tuple[str, str]]]


@command("top")
@optional_config
@click.option("--server", type=Address(), multiple=True, help="Ask this 'fk serve' too (--commands mntr).")
@click.option("--interval", type=Amount(3600), default=2.0, show_default=True, help="Seconds between looks.")
@click.option(
    "--window", type=Amount(86_400), default=60.0, show_default=True, help="Seconds that count as now."
)
@click.option("--once", is_flag=True, help="Print one look, and exit.")
@as_json
def top(
    context: Context,
    config: Path | None,
    server: tuple[tuple[str, int], ...],
    interval: float,
    window: float,
    once: bool,
    as_json: bool,
) -> None:
    """Show writes, sessions, paths with most writes, lag, and the month's cost so far.

    Without a terminal, and with --once, print one look; --json prints an object for each look. Of a
    ZooKeeper server (zk://) it shows what the servers tell.
    """
    context.choose(config)
    live = output.at_terminal() and not once and not as_json
    look, shown = _meter(context, server, max(window, 0.1), live or (as_json and not once))
    try:
        if live:
            _live(context, look, shown, interval)
            return
        while True:
            found = context.call(look)
            if as_json:
                context.print_json(found)
            else:
                for name, value in shown(found):
                    output.print_line(f"{name:14} {output.escaped(value)}")
            if once or not as_json:
                return
            sleep(interval)
    except KeyboardInterrupt:
        return  # the way to end it


def _meter(
    context: Context, servers: tuple[tuple[str, int], ...], window: float, on: bool
) -> tuple[Look, Shown]:
    """What looks at the deployment, and what shows that. ``on``: there will be more than one look."""
    if context.config.provider_name != address.PROVIDER:
        return Meter(context.client, context.config, servers, window).look, rows
    from faaskeeper.cli import ensemble

    where = address.of(context.config.provider_config)
    more = tuple(each for each in servers if each not in where.servers)
    where = where._replace(servers=(*where.servers, *more))
    return ensemble.Ensemble(context.client, where, window, on).look, ensemble.rows


def _live(context: Context, look: Look, shown: Shown, interval: float) -> None:
    from rich.live import Live

    with Live(_table(shown(context.call(look))), auto_refresh=False, screen=True) as live:
        while True:
            sleep(max(interval, 0.1))
            live.update(_table(shown(context.call(look))), refresh=True)


def _table(lines: Iterable[tuple[str, str]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in lines:
        table.add_row(Text(name, style="bold"), Text(output.escaped(value)))
    return table


def rows(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """A look as lines of a table."""
    window = f"in the last {found['window_s']:g} s"
    yield "transaction", f"{found['transaction']}, lag {found['lag']}"
    yield (
        "writes",
        (
            f"{found['writes_per_s']:g}/s in {found['transactions_per_s']:g} transactions/s, "
            f"{_bytes(found['bytes_per_s'])}/s, {found['batch']:g} in a batch, {window}"
        ),
    )
    if found["sessions"] is not None:
        through = found["through_servers"]
        yield "sessions", f"{found['sessions']}" + (f", {through} of them through servers" if through else "")
    if found["znodes"] is not None:
        size = _bytes(found["data_bytes"])
        yield "znodes", f"{found['znodes']:,}, {found['ephemerals']:,} of them ephemeral, {size}"
    month = found["month"]
    if month is not None:
        parts = ", ".join(f"{name} ${price:,.2f}" for name, price in month["parts"].items() if price >= 0.005)
        yield "this month", f"${month['dollars']:,.2f} so far for {month['writes']:,} writes ({parts})"
    yield from last_rows(found, _server)


def _server(each: dict[str, Any]) -> str:
    rate = "" if each["requests_per_s"] is None else f"{each['requests_per_s']:g} requests/s, "
    return (
        f"{rate}{each['requests']:,} requests, {each['latency_ms']:g} ms, {each['waiting']} waiting, "
        f"{each['connections']} connections, {each['sessions']} sessions, {each['watches']} watches, "
        f"lag {each['lag']}"
    )


def _bytes(number: float) -> str:
    for unit in ("B", "KB", "MB"):
        if number < 1024:
            return f"{number:.4g} {unit}"
        number /= 1024
    return f"{number:.4g} GB"
