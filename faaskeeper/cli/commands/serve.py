"""``fk serve``: ZooKeeper's protocol in front of a deployment."""

from __future__ import annotations

import logging
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import click

from faaskeeper.cli.arguments import File, Whole
from faaskeeper.cli.context import Context
from faaskeeper.cli.options import optional_config
from faaskeeper.core.deployment import MAX_TIMEOUT_MS, MIN_TIMEOUT_MS


class _Address(click.ParamType[Any]):
    """HOST:PORT, or a PORT of this machine."""

    name = "HOST:PORT"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        if isinstance(value, tuple):
            return value
        host, _, port = str(value).rpartition(":")
        if not (port.isascii() and port.isdecimal() and len(port) <= 5) or int(port) > 65_535:
            self.fail(f"{value!r} is no address: HOST:PORT, as 127.0.0.1:2181", param, ctx)
        return host.strip("[]") or "127.0.0.1", int(port)


class _Words(click.ParamType[Any]):
    """Four-letter words, with commas between them, or *."""

    name = "WORDS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> frozenset[str]:
        from faaskeeper.gateway.admin import NAMES_OF_COMMANDS

        words = frozenset(each.strip() for each in str(value).split(",") if each.strip())
        if words == {"*"}:
            return frozenset(NAMES_OF_COMMANDS)
        for word in sorted(words - set(NAMES_OF_COMMANDS)):
            self.fail(f"{word!r} is unknown; there are {', '.join(NAMES_OF_COMMANDS)}, and *", param, ctx)
        return words


def _run(main: Coroutine[Any, Any, None]) -> None:
    """Run in uvloop's event loop where that is installed (the extra ``gateway``): it takes half the time."""
    import asyncio

    try:
        from uvloop import new_event_loop
    except ImportError:
        asyncio.run(main)
    else:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(main)


@click.command("serve")
@optional_config
@click.option(
    "--listen",
    type=_Address(),
    multiple=True,
    default=["127.0.0.1:2181"],
    show_default=True,
    help="Where clients connect; [HOST]:PORT for IPv6. May be given more than once.",
)
@click.option("--metrics", type=_Address(), help="Where Prometheus reads metrics (the extra 'gateway').")
@click.option(
    "--commands",
    type=_Words(),
    default="ruok,srvr,isro",
    show_default=True,
    help="Four-letter words that are answered; * for all.",
)
@click.option("--tls-cert", type=File(), help="Certificate (PEM): clients use TLS.")
@click.option("--tls-key", type=File(), help="Its private key (PEM).")
@click.option(
    "--tls-ca",
    type=File(),
    help="Authorities (PEM) of clients' certificates, which count as the scheme x509.",
)
@click.option("--max-connections", type=Whole(1, 10**9), help="Default: what 'ulimit -n' leaves.")
@click.option(
    "--max-buffer",
    type=Whole(1024, 64 * 1024 * 1024),
    default=0xFFFFF,
    show_default=True,
    help="Most bytes of a request (jute.maxbuffer).",
)
@click.option(
    "--min-session-timeout",
    type=Whole(MIN_TIMEOUT_MS, MAX_TIMEOUT_MS),
    default=MIN_TIMEOUT_MS,
    show_default=True,
    help="In ms.",
)
@click.option(
    "--max-session-timeout",
    type=Whole(MIN_TIMEOUT_MS, MAX_TIMEOUT_MS),
    default=MAX_TIMEOUT_MS,
    show_default=True,
    help="In ms.",
)
@click.option(
    "--through-queue",
    is_flag=True,
    help="Send writes through the deployment's queue, instead of writing in this process.",
)
@click.pass_obj
def serve(
    context: Context,
    config: Path | None,
    listen: tuple[tuple[str, int], ...],
    metrics: tuple[str, int] | None,
    commands: frozenset[str],
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_ca: Path | None,
    max_connections: int | None,
    max_buffer: int,
    min_session_timeout: int,
    max_session_timeout: int,
    through_queue: bool,
) -> None:
    """Serve ZooKeeper's clients: kazoo, zkCli.sh, any.

    CONFIG is the deployment's; without one, an embedded service. Any number of servers of one deployment on
    a cloud may run at once. Ends by SIGTERM or SIGINT: clients go on with their sessions at another server.
    """
    from faaskeeper.client.connect import connect
    from faaskeeper.gateway.errors import ServerError
    from faaskeeper.gateway.server import Gateway, Settings, written
    from faaskeeper.gateway.server import serve as run
    from faaskeeper.gateway.sessions import Bounds

    if bool(tls_cert) != bool(tls_key):
        raise click.UsageError("--tls-cert and --tls-key go together")
    if tls_ca and not tls_cert:
        raise click.UsageError("--tls-ca needs --tls-cert and --tls-key")
    if min_session_timeout > max_session_timeout:
        raise click.UsageError("--min-session-timeout is above --max-session-timeout")
    context.choose(config)
    chosen = context.config
    if not through_queue:
        chosen = chosen.written_directly()
    settings = Settings(
        listen=listen,
        metrics=metrics,
        commands=commands,
        max_buffer=max_buffer,
        max_connections=max_connections or 0,
        bounds=Bounds(min_session_timeout, max_session_timeout),
        tls=(str(tls_cert), str(tls_key)) if tls_cert and tls_key else None,
        tls_ca=str(tls_ca or ""),
    )
    logging.basicConfig(
        level=logging.INFO if context.verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )

    def ready(gateway: Gateway) -> None:
        addresses = ", ".join(written(each) for each in gateway.addresses)
        where = chosen.directory or chosen.deployment_name
        click.echo(f"serving {chosen.provider_name} {where} on {addresses}", err=True)

    async def main() -> None:
        await run(connect(chosen), chosen, settings, ready)

    try:
        _run(main())
    except ServerError as error:
        click.echo(f"fk: {error}", err=True)
        sys.exit(1)
