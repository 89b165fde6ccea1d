"""``fk ui``: a page in the browser on a deployment."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from faaskeeper.cli import output
from faaskeeper.cli.arguments import Address, File, ZnodePath
from faaskeeper.cli.context import Context
from faaskeeper.cli.options import as_json, command, optional_config
from faaskeeper.cli.supervision import notify

if TYPE_CHECKING:
    from faaskeeper.ui.settings import Settings

_TOKEN = "FK_UI_TOKEN"
_LEAST = 20
"""Characters of a token that somebody chose."""


class _Host(click.ParamType[str]):
    """A name as it stands in a URL, without scheme and port."""

    name = "NAME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value).strip("[]")
        if not text or "/" in text or text.count(":") == 1:
            self.fail(
                f"{str(value)[:80]!r} is not a name: give it without https:// and without a port", param, ctx
            )
        return text


@command("ui")
@optional_config
@click.option(
    "--listen",
    type=Address(),
    default="127.0.0.1:8080",
    show_default=True,
    help="Address to listen on; [HOST]:PORT for IPv6, port 0 for any free one.",
)
@click.option("--read-only", is_flag=True, help="Only look: the page has nothing that writes.")
@click.option("--token", "by_token", is_flag=True, help="Ask for a token on this machine, too.")
@click.option(
    "--login-node",
    "gate",
    type=ZnodePath(),
    metavar="PATH",
    help="Log in with ZooKeeper's digest credentials: whose ACL lets them read this node may.",
)
@click.option("--tls-cert", type=File(), help="Server certificate (PEM); enables TLS.")
@click.option("--tls-key", type=File(), help="Private key of the certificate (PEM).")
@click.option("--behind-proxy", is_flag=True, help="A proxy in front of it speaks TLS.")
@click.option(
    "--host", "hosts", type=_Host(), multiple=True, help="A name by which browsers reach it. Repeatable."
)
@click.option("--server", type=Address(), multiple=True, help="Ask this 'fk serve' too (--commands mntr).")
@as_json
def ui(
    context: Context,
    config: Path | None,
    listen: tuple[str, int],
    read_only: bool,
    by_token: bool,
    gate: str | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    behind_proxy: bool,
    hosts: tuple[str, ...],
    server: tuple[tuple[str, int], ...],
    as_json: bool,
) -> None:
    """Show a deployment in the browser: a live tree, its past, locks, the service.

    Only this machine reaches the page, unless --listen says otherwise: then it takes TLS (of this
    process or of a proxy) and a login. The token is printed when the page is ready; $FK_UI_TOKEN
    sets it. SIGTERM or SIGINT stops the page. Needs the extra 'ui'.

    \b
    Examples:
      fk ui
      fk ui client.json --read-only
      fk ui --listen 0.0.0.0:8443 --host fk.example.org --tls-cert cert.pem --tls-key key.pem
    """
    from faaskeeper.ui.server import listening, serve
    from faaskeeper.ui.settings import LOOPBACK, Settings, loopback

    context.choose(config)
    if bool(tls_cert) != bool(tls_key):
        raise click.UsageError("--tls-cert and --tls-key must be given together")
    near = loopback(listen[0])
    # A name of another kind is for a proxy on this machine: it lets others in, wherever this listens.
    reached = [*(() if near else (listen[0],)), *(each for each in hosts if not _of_this_machine(each))]
    if reached and not (tls_cert or behind_proxy):
        raise click.UsageError(
            f"others reach {reached[0]}: give --tls-cert and --tls-key, or --behind-proxy where a proxy "
            "speaks TLS"
        )
    names = (*hosts, *(LOOPBACK if near else ()), *_own(listen[0]))
    if not names or (behind_proxy and not hosts):
        raise click.UsageError("by which name do browsers reach the page? Give it with --host NAME")
    opened = listening(listen)
    settings = Settings(
        listen=(listen[0], opened.getsockname()[1]),
        hosts=names,
        https=bool(tls_cert) or behind_proxy,
        tls=(str(tls_cert), str(tls_key)) if tls_cert and tls_key else None,
        token="" if gate or not (reached or by_token or behind_proxy) else _token(),
        gate=gate or "",
        read_only=read_only,
        servers=server,
    )
    serve(context.config, context.auth, settings, opened, lambda: _ready(context, settings, as_json))


def _of_this_machine(name: str) -> bool:
    """Whether a name leads nowhere else: RFC 6761, section 6.3."""
    from faaskeeper.ui.settings import loopback

    return loopback(name) or name.lower().endswith(".localhost")


def _own(host: str) -> tuple[str, ...]:
    """The address as a name, unless it stands for all addresses."""
    return () if host in ("0.0.0.0", "::", "") else (host,)


def _token() -> str:
    given = os.environ.get(_TOKEN, "").strip()
    if given and len(given) < _LEAST:
        raise click.UsageError(f"{_TOKEN} must have at least {_LEAST} characters")
    return given or secrets.token_urlsafe(32)


def _ready(context: Context, settings: Settings, as_json: bool) -> None:
    host, port = settings.listen
    host = host if _own(host) else settings.hosts[0]
    shown = f"[{host}]" if ":" in host else host
    scheme = "https" if settings.tls else "http"
    address = f"{scheme}://{shown}:{port}/"
    chosen = context.config
    token = settings.token if settings.token and not os.environ.get(_TOKEN) else ""
    if as_json:
        context.print_json(
            {
                "provider": chosen.provider_name,
                "deployment": chosen.directory or chosen.deployment_name,
                "address": address,
                "login": settings.login,
                **({"token": token} if token else {}),
            }
        )
    else:
        where = chosen.directory or chosen.deployment_name
        output.print_error(f"showing {chosen.provider_name} {where} at {address}")
        if token:
            output.print_error(f"log in with the token {token}")
    notify("READY=1")
