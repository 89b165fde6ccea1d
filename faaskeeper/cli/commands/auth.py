"""``addauth``, ``digest``: credentials for ACLs."""

from __future__ import annotations

import sys

import click

from faaskeeper.cli.arguments import text_of
from faaskeeper.cli.context import Context
from faaskeeper.cli.options import command
from faaskeeper.core.acl import digest as digest_of


@command("addauth")
@click.argument("scheme")
@click.argument("credential", required=False)
def addauth(context: Context, scheme: str, credential: str | None) -> None:
    """Show a credential with every later command: addauth digest USER:PASSWORD.

    The password is asked for where it is not given. Outside of the shell use --auth.
    """
    if context.one_shot:
        raise click.UsageError(
            "there is no later command outside of the shell: fk --auth USER:PASSWORD COMMAND"
        )
    if scheme != "digest":
        raise click.UsageError(f"{scheme!r} is no scheme to authenticate by; there is 'digest'")
    context.client.add_auth(scheme, _credential(context, credential))


@command("digest")
@click.argument("credential", required=False)
def digest(context: Context, credential: str | None) -> None:
    """Print the id of USER:PASSWORD for an ACL of the scheme digest, or for "super-digest".

    Without, it is asked for at a terminal, or read from standard input.
    """
    context.print_line(digest_of(_credential(context, credential)))


def _credential(context: Context, given: str | None) -> str:
    """USER:PASSWORD as it was given, or asked for at a terminal, or from standard input."""
    if given is None and not sys.stdin.isatty():
        if not context.one_shot:
            raise click.UsageError("Missing argument 'CREDENTIAL': it is asked for at a terminal only.")
        given = sys.stdin.readline().rstrip("\n")
    if given is None:
        given = click.prompt("user:password", hide_input=True, err=True)
    credential = text_of(str(given))
    if not credential.partition(":")[0] or ":" not in credential:
        raise click.UsageError("the credential is USER:PASSWORD")
    return credential
