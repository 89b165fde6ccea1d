"""``fk doctor`` and ``fk deadletters``: to look after a deployment."""

from __future__ import annotations

from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from faaskeeper.cli import output
from faaskeeper.cli.arguments import File
from faaskeeper.cli.deploying import failures, load, provider_option
from faaskeeper.exceptions import ProviderException

if TYPE_CHECKING:
    from faaskeeper.config import Config
    from faaskeeper.deploy.deadletters import Letters
    from faaskeeper.deploy.doctor import Doctor
    from faaskeeper.providers.cloud.calls import Calls

file_argument = click.argument("config", type=File())


@click.command("doctor")
@file_argument
@provider_option
def doctor(config: Path, provider: str | None) -> None:
    """Check a deployment from the client's side, and say what to do. Exit status 1: something is wrong."""
    loaded = load(config, provider)
    bad = 0
    with failures(), closing(_doctor(loaded)) as made:
        for finding in made.findings():
            mark = {True: "ok  ", False: "BAD ", None: "?   "}[finding.good]
            output.say(f"{mark} {finding.what}: {finding.said}")
            bad += finding.good is False
    if bad:
        raise ProviderException(f"{bad} of these are wrong")


def _doctor(config: Config) -> Doctor:
    if config.provider_name == "gcp":
        from faaskeeper.deploy.gcp.doctor import Doctor as OnGcp

        return OnGcp(config)
    from faaskeeper.deploy.aws.doctor import Doctor as OnAws

    return OnAws(config)


def _letters(config: Config) -> tuple[Letters, Calls]:
    if config.provider_name == "gcp":
        from faaskeeper.deploy.gcp.deadletters import DeadLetters as OnGcp
        from faaskeeper.providers.gcp.service import GcpService

        gcp = GcpService(config)
        return OnGcp(gcp), gcp.calls
    from faaskeeper.deploy.aws.deadletters import DeadLetters as OnAws
    from faaskeeper.providers.aws.service import AwsService

    aws = AwsService(config)
    return OnAws(aws), aws.calls


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

    with failures(), ExitStack() as stack:
        letters, calls = _letters(loaded)
        stack.enter_context(closing(calls))
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
                output.say(f"{each.queue}  {sent_at}  tried {each.received} times  {each.about()}")
            if not seen:
                output.say("There are none.")
