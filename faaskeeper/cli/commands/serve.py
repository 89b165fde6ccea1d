"""``fk serve``: a gateway that speaks ZooKeeper's wire protocol in front of a deployment."""

from __future__ import annotations

import logging
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import click

from faaskeeper.cli import output
from faaskeeper.cli.arguments import Address, File, Size, Whole
from faaskeeper.cli.context import Context
from faaskeeper.cli.errors import Failed
from faaskeeper.cli.options import as_json, optional_config
from faaskeeper.cli.supervision import notify
from faaskeeper.core.deployment import MAX_TIMEOUT_MS, MIN_TIMEOUT_MS


class _Words(click.ParamType[Any]):
    """Four-letter words separated by commas, or *."""

    name = "WORDS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> frozenset[str]:
        from faaskeeper.gateway.admin import NAMES_OF_COMMANDS

        words = frozenset(each.strip() for each in str(value).split(",") if each.strip())
        if words == {"*"}:
            return frozenset(NAMES_OF_COMMANDS)
        for word in sorted(words - set(NAMES_OF_COMMANDS)):
            self.fail(f"{word!r} is unknown: use {', '.join(NAMES_OF_COMMANDS)} or *", param, ctx)
        return words


_YOUNG = 20_000
"""New objects after which Python's garbage collector looks for cycles, instead of 700: a batch of
writes makes thousands that live until it is committed, and none of them is part of a cycle."""


def _run(main: Coroutine[Any, Any, None]) -> None:
    """Run in uvloop's event loop if it is installed (extra ``gateway``): it halves the CPU time."""
    import asyncio
    import gc

    gc.freeze()
    gc.set_threshold(_YOUNG, *gc.get_threshold()[1:])
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
    type=Address(),
    multiple=True,
    default=["127.0.0.1:2181"],
    show_default=True,
    help="Address to listen on; [HOST]:PORT for IPv6. Repeat it for several.",
)
@click.option("--metrics", type=Address(), help="Serve Prometheus metrics here (needs the extra 'gateway').")
@click.option(
    "--commands",
    type=_Words(),
    default="ruok,srvr,isro",
    show_default=True,
    help="Four-letter words to answer; * for all.",
)
@click.option("--tls-cert", type=File(), help="Server certificate (PEM); enables TLS.")
@click.option("--tls-key", type=File(), help="Private key of the certificate (PEM).")
@click.option(
    "--tls-ca",
    type=File(),
    help="CAs for client certificates (PEM); enables the auth scheme x509.",
)
@click.option("--max-connections", type=Whole(1, 10**9), help="Default: derived from 'ulimit -n'.")
@click.option(
    "--max-buffer",
    type=Whole(1024, 64 * 1024 * 1024),
    default=0xFFFFF,
    show_default=True,
    help="Maximum bytes of a request (jute.maxbuffer).",
)
@click.option(
    "--min-session-timeout",
    type=Whole(MIN_TIMEOUT_MS, MAX_TIMEOUT_MS),
    default=MIN_TIMEOUT_MS,
    show_default=True,
    help="Shortest session timeout, in ms.",
)
@click.option(
    "--max-session-timeout",
    type=Whole(MIN_TIMEOUT_MS, MAX_TIMEOUT_MS),
    default=MAX_TIMEOUT_MS,
    show_default=True,
    help="Longest session timeout, in ms.",
)
@click.option(
    "--through-queue",
    is_flag=True,
    help="Send writes through the deployment's queue instead of committing them in this process.",
)
@click.option(
    "--reads",
    type=click.Choice(["storage", "memory"]),
    default="storage",
    show_default=True,
    help="On a cloud, answer reads from its storage, or from memory like a follower of ZooKeeper's.",
)
@click.option(
    "--follow",
    type=Whole(10, 10_000),
    help="With --reads memory: ms between two looks at the log. Reads are behind by as much.  [default: 200]",
)
@click.option(
    "--cache",
    type=Size(1 << 40),
    help="Memory for records, such as 64MB: of an embedded service, or with --reads memory.  [default: 32MB]",
)
@as_json
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
    reads: str,
    follow: int | None,
    cache: int | None,
    as_json: bool,
) -> None:
    """Serve ZooKeeper clients such as kazoo and zkCli.sh.

    CONFIG is the client configuration of a deployment; the default is an embedded service. A cloud
    deployment can have any number of gateways. SIGTERM or SIGINT stops the gateway; clients
    continue their sessions at another one.

    \b
    Examples:
      fk serve
      fk serve client.json --listen 0.0.0.0:2181
      fk serve client.json --reads memory --follow 100 --cache 256MB
    """
    from faaskeeper.client.connect import connect
    from faaskeeper.gateway.errors import ServerError
    from faaskeeper.gateway.following import FOLLOW_MS, Following
    from faaskeeper.gateway.memory import MEMORY_BYTES
    from faaskeeper.gateway.server import Gateway, Settings, written
    from faaskeeper.gateway.server import serve as run
    from faaskeeper.gateway.sessions import Bounds

    if bool(tls_cert) != bool(tls_key):
        raise click.UsageError("--tls-cert and --tls-key must be given together")
    if tls_ca and not tls_cert:
        raise click.UsageError("--tls-ca requires --tls-cert and --tls-key")
    if min_session_timeout > max_session_timeout:
        raise click.UsageError("--min-session-timeout must not exceed --max-session-timeout")
    context.choose(config)
    chosen = context.config
    if not through_queue:
        chosen = chosen.written_directly()
    embedded = chosen.provider_name == "local"
    if follow is not None and reads == "storage":
        raise click.UsageError("--follow requires --reads memory")
    if follow is not None and embedded:
        raise click.UsageError(
            "--follow is for a cloud; an embedded service reads from memory without following anything"
        )
    if cache is not None and embedded:
        chosen = chosen.caching(cache)
    elif cache is not None and reads == "storage":
        raise click.UsageError("--cache requires an embedded service or --reads memory")
    following = None
    if reads == "memory" and not embedded:
        following = Following((follow or FOLLOW_MS) / 1000, MEMORY_BYTES if cache is None else cache)
    settings = Settings(
        listen=listen,
        metrics=metrics,
        commands=commands,
        max_buffer=max_buffer,
        max_connections=max_connections or 0,
        bounds=Bounds(min_session_timeout, max_session_timeout),
        tls=(str(tls_cert), str(tls_key)) if tls_cert and tls_key else None,
        tls_ca=str(tls_ca or ""),
        following=following,
    )
    logging.basicConfig(
        level=logging.INFO if context.verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    # It tells of each place without credentials; that there are none anywhere is said once, by fk.
    logging.getLogger("google.auth._default").setLevel(logging.ERROR)

    def ready(gateway: Gateway) -> None:
        addresses = [written(each) for each in gateway.addresses]
        where = chosen.directory or chosen.deployment_name
        if as_json:
            value = {"provider": chosen.provider_name, "deployment": where, "addresses": addresses}
            output.print_line(output.json_line(value))
        else:
            click.echo(f"serving {chosen.provider_name} {where} on {', '.join(addresses)}", err=True)
            if following is not None:
                every = following.every * 1000
                click.echo(f"reads are from memory, every {every:.0f} ms from the log", err=True)
        notify("READY=1")

    async def main() -> None:
        await run(connect(chosen), chosen, settings, ready)

    try:
        _run(main())
    except ServerError as error:
        raise Failed(str(error), 1) from error
