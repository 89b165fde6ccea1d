"""``fk deadletters``: messages that the functions gave up."""

from __future__ import annotations

from contextlib import closing
from datetime import datetime
from pathlib import Path

import click

from faaskeeper.cli import output
from faaskeeper.cli.deployments import config_argument, load, provider_option, yes_option
from faaskeeper.deploy.providers import dead_letters_of, translated_errors


@click.command("deadletters")
@config_argument
@provider_option
@click.option("--redrive", "what", flag_value="redrive", help="Send requests again, and remove them here.")
@click.option("--drop", "what", flag_value="drop", help="Remove them.")
@yes_option
def deadletters(config: Path, provider: str | None, what: str | None, yes: bool) -> None:
    """Show what the functions gave up; send it again, or drop it."""
    loaded = load(config, provider)
    with translated_errors(), closing(dead_letters_of(loaded)) as letters:
        if what == "redrive":
            sent, left = letters.redrive()
            output.print_line(
                f"sent {sent} again" + (f", left {left}: the log has what they rang for" if left else "")
            )
        elif what == "drop":
            if not yes:
                click.confirm("Requests that are in none of the queues are lost. Drop them?", abort=True)
            output.print_line(f"dropped {letters.drop()}")
        else:
            seen = letters.show()
            for each in seen:
                sent_at = datetime.fromtimestamp(each.sent / 1000).astimezone().isoformat(timespec="seconds")
                output.print_line(f"{each.queue}  {sent_at}  tried {each.received} times  {each.summary()}")
            if not seen:
                output.print_line("There are none.")
