"""``fk health``: whether a server answers, for containers and supervisors."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import click

from faaskeeper.cli import output
from faaskeeper.cli.arguments import Amount, File
from faaskeeper.cli.errors import Failed
from faaskeeper.cli.options import as_json

_MOST_BYTES = 64 * 1024


@click.command("health")
@click.argument("address", default="127.0.0.1:2181")
@click.option("--timeout", type=Amount(3600), default=5, show_default=True, help="Seconds to wait at most.")
@click.option("--tls", is_flag=True, help="Use TLS; without --tls-ca, whoever answers.")
@click.option("--tls-ca", type=File(), help="Certificates that the server's must be signed by (PEM).")
@click.option("--tls-cert", type=File(), help="This client's certificate (PEM), if the server wants one.")
@click.option("--tls-key", type=File(), help="Its key.")
@as_json
def health(
    address: str,
    timeout: float,
    tls: bool,
    tls_ca: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    as_json: bool,
) -> None:
    """Check that a server serves.

    ADDRESS is the HOST:PORT of 'fk serve', or of a ZooKeeper server. It asks the server for its
    state, which needs the deployment, and opens no session. Exit status 0: it serves; 1: it does
    not, or does not answer in time.

    \b
    Examples:
      fk health
      fk health 10.0.0.5:2181 --timeout 2
    """
    host, _, port = address.rpartition(":")
    if not (port.isascii() and port.isdecimal() and 0 < int(port) <= 65_535):
        raise click.UsageError(f"{address[:60]!r} is not an address: write HOST:PORT, such as 127.0.0.1:2181")
    where = (host.strip("[]") or "127.0.0.1", int(port))
    context = _context(tls_ca, tls_cert, tls_key) if tls or tls_ca or tls_cert else None
    try:
        answer = _ask(where, b"srvr", timeout, context)
        if "whitelist" in answer:
            answer = _ask(where, b"ruok", timeout, context)
    except TimeoutError as error:
        raise Failed(f"{address} does not answer within {timeout:g} s", 1) from error
    except OSError as error:
        raise Failed(f"{address}: {error.strerror or error}", 1) from error
    mode = next((line[6:] for line in answer.splitlines() if line.startswith("Mode: ")), "")
    if not mode and answer.strip() != "imok":
        raise Failed(f"{address} does not serve: {answer.strip()[:200] or 'it ended the connection'}", 1)
    value = {"address": address, "serves": True, "mode": mode or None}
    output.print_line(output.json_line(value) if as_json else f"{address} serves")


def _context(ca: Path | None, cert: Path | None, key: Path | None) -> ssl.SSLContext:
    """Raises OSError, also for a file that is no certificate."""
    made = ssl.create_default_context(cafile=None if ca is None else str(ca))
    if ca is None:
        made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    if cert is not None:
        made.load_cert_chain(str(cert), None if key is None else str(key))
    return made


def _ask(where: tuple[str, int], word: bytes, timeout: float, context: ssl.SSLContext | None) -> str:
    """The answer to a four-letter word. Raises OSError."""
    with socket.create_connection(where, timeout) as plain:
        opened = plain if context is None else context.wrap_socket(plain, server_hostname=where[0])
        opened.sendall(word)
        answer = b""
        while len(answer) < _MOST_BYTES and (piece := opened.recv(4096)):
            answer += piece
        return answer.decode(errors="replace")
