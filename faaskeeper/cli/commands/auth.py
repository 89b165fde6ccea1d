"""``addauth``, ``digest``: credentials for ACLs."""

from __future__ import annotations

import sys

import click

from faaskeeper.cli.arguments import text_of
from faaskeeper.cli.context import Context
from faaskeeper.cli.options import as_json, command
from faaskeeper.core.acl import digest as digest_of


@command("addauth")
@click.argument("scheme")
@click.argument("credential", required=False)
@as_json
def addauth(context: Context, scheme: str, credential: str | None, as_json: bool) -> None:
    """Authenticate the session: addauth digest USER:PASSWORD.

    The credentials apply to all later commands of the shell. If they are missing, the shell prompts
    for them. Outside the shell, use 'fk --auth USER:PASSWORD COMMAND'.
    """
    if context.one_shot:
        raise click.UsageError("addauth works in the shell only: use 'fk --auth USER:PASSWORD COMMAND'")
    if scheme != "digest":
        raise click.UsageError(f"unknown authentication scheme {scheme!r}: use 'digest'")
    context.client.add_auth(scheme, _credential(context, credential))
    if as_json:
        context.print_json({"scheme": scheme})


@command("digest")
@click.argument("credential", required=False)
@as_json
def digest(context: Context, credential: str | None, as_json: bool) -> None:
    """Print the digest id of USER:PASSWORD.

    Use the id in an ACL of the scheme digest, or as "super-digest" in a configuration. If
    CREDENTIAL is missing, the command prompts for it at a terminal, or reads it from standard
    input.
    """
    id = digest_of(_credential(context, credential))
    context.say(as_json, {"id": id}, id)


def _credential(context: Context, given: str | None) -> str:
    """USER:PASSWORD from the argument, a prompt at a terminal, or standard input."""
    if given is None and not sys.stdin.isatty():
        if not context.one_shot:
            raise click.UsageError("Missing argument 'CREDENTIAL': the prompt for it needs a terminal.")
        given = sys.stdin.readline().rstrip("\n")
    if given is None:
        given = click.prompt("user:password", hide_input=True, err=True)
    credential = text_of(str(given))
    if not credential.partition(":")[0] or ":" not in credential:
        raise click.UsageError("a credential has the form USER:PASSWORD")
    return credential
