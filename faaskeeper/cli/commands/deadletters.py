"""``fk deadletters``: messages that the functions failed to process."""

from __future__ import annotations

from contextlib import closing
from datetime import datetime
from pathlib import Path

import click

from faaskeeper.cli import output
from faaskeeper.cli.deployments import ask, config_argument, load, provider_option, yes_option
from faaskeeper.cli.options import as_json
from faaskeeper.deploy.providers import dead_letters_of, translated_errors


@click.command("deadletters")
@config_argument
@provider_option
@click.option("--redrive", "what", flag_value="redrive", help="Send the requests again, then delete them.")
@click.option("--drop", "what", flag_value="drop", help="Delete the messages.")
@yes_option
@as_json
def deadletters(config: Path, provider: str | None, what: str | None, yes: bool, as_json: bool) -> None:
    """List, resend or delete dead letters.

    A dead letter is a message that the functions failed to process too often.
    """
    loaded = load(config, provider)
    with translated_errors(), closing(dead_letters_of(loaded)) as letters:
        if what == "redrive":
            sent, left = letters.redrive()
            kept = f", kept {left}: the log has what they announce" if left else ""
            _say(as_json, {"sent": sent, "kept": left}, f"sent {sent} again{kept}")
        elif what == "drop":
            ask("Dropped requests are lost. Drop all dead letters?", yes)
            dropped = letters.drop()
            _say(as_json, {"dropped": dropped}, f"dropped {dropped}")
        else:
            seen = letters.show()
            for each in seen:
                sent_at = datetime.fromtimestamp(each.sent / 1000).astimezone().isoformat(timespec="seconds")
                value = {"queue": each.queue, "sent": each.sent, "deliveries": each.received}
                text = f"{each.queue}  {sent_at}  {each.received} deliveries  {each.summary()}"
                _say(as_json, {**value, "summary": each.summary()}, text)
            if not seen and not as_json:
                output.print_line("No dead letters.")


def _say(as_json: bool, value: object, text: str) -> None:
    output.print_line(output.json_line(value) if as_json else text)
