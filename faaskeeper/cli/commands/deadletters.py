"""``fk deadletters``: messages that the functions failed to process."""

from __future__ import annotations

from contextlib import closing
from datetime import datetime
from pathlib import Path

import click

from faaskeeper.cli import output
from faaskeeper.cli.deployments import ask, config_argument, load, provider_option, yes_option
from faaskeeper.deploy.providers import dead_letters_of, translated_errors


@click.command("deadletters")
@config_argument
@provider_option
@click.option("--redrive", "what", flag_value="redrive", help="Send the requests again, then delete them.")
@click.option("--drop", "what", flag_value="drop", help="Delete the messages.")
@yes_option
def deadletters(config: Path, provider: str | None, what: str | None, yes: bool) -> None:
    """List, resend or delete dead letters.

    A dead letter is a message that the functions failed to process too often.
    """
    loaded = load(config, provider)
    with translated_errors(), closing(dead_letters_of(loaded)) as letters:
        if what == "redrive":
            sent, left = letters.redrive()
            output.print_line(
                f"sent {sent} again" + (f", kept {left}: the log has what they announce" if left else "")
            )
        elif what == "drop":
            ask("Dropped requests are lost. Drop all dead letters?", yes)
            output.print_line(f"dropped {letters.drop()}")
        else:
            seen = letters.show()
            for each in seen:
                sent_at = datetime.fromtimestamp(each.sent / 1000).astimezone().isoformat(timespec="seconds")
                output.print_line(f"{each.queue}  {sent_at}  {each.received} deliveries  {each.summary()}")
            if not seen:
                output.print_line("No dead letters.")
