"""``fk doctor`` and ``fk deadletters``: to look after a deployment."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import click

from faaskeeper.cli import output
from faaskeeper.cli.arguments import File
from faaskeeper.cli.deploying import load, provider_option
from faaskeeper.deploy.providers import dead_letters_of, doctor_of, translated_errors
from faaskeeper.exceptions import ProviderException

file_argument = click.argument("config", type=File())


@click.command("doctor")
@file_argument
@provider_option
def doctor(config: Path, provider: str | None) -> None:
    """Check a deployment from the client's side, and say what to do. Exit status 1: something is wrong."""
    loaded = load(config, provider)
    bad = 0
    with translated_errors(), closing(doctor_of(loaded)) as checks:
        for finding in checks.findings():
            mark = {True: "ok  ", False: "BAD ", None: "?   "}[finding.good]
            output.say(f"{mark} {finding.check}: {finding.message}")
            bad += finding.good is False
    if bad:
        raise ProviderException(f"{bad} of these are wrong")


@click.command("deadletters")
@file_argument
@provider_option
@click.option("--redrive", "what", flag_value="redrive", help="Send requests again, and remove them here.")
@click.option("--drop", "what", flag_value="drop", help="Remove them.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def deadletters(config: Path, provider: str | None, what: str | None, yes: bool) -> None:
    """Show what the functions gave up; send it again, or drop it."""
    loaded = load(config, provider)
    from datetime import datetime

    with translated_errors(), closing(dead_letters_of(loaded)) as letters:
        if what == "redrive":
            sent, left = letters.redrive()
            output.say(
                f"sent {sent} again" + (f", left {left}: the log has what they rang for" if left else "")
            )
        elif what == "drop":
            if not yes:
                click.confirm("Requests that are in none of the queues are lost. Drop them?", abort=True)
            output.say(f"dropped {letters.drop()}")
        else:
            seen = letters.show()
            for each in seen:
                sent_at = datetime.fromtimestamp(each.sent / 1000).astimezone().isoformat(timespec="seconds")
                output.say(f"{each.queue}  {sent_at}  tried {each.received} times  {each.summary()}")
            if not seen:
                output.say("There are none.")
