"""``fk doctor``: checks a deployment from the client's side."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import click

from faaskeeper.cli.context import Context
from faaskeeper.cli.deployments import provider_option
from faaskeeper.cli.options import as_json, optional_config
from faaskeeper.deploy.providers import doctor_of, translated_errors
from faaskeeper.exceptions import ProviderException


@click.command("doctor")
@optional_config
@provider_option
@as_json
@click.pass_obj
def doctor(context: Context, config: Path | None, provider: str | None, as_json: bool) -> None:
    """Check a deployment and suggest repairs.

    The checks run with the client's credentials and network; without CONFIG, on the embedded
    service, whether or not a process serves it. Exit status 1: a check failed. --json prints a line
    for each check.

    \b
    Examples:
      fk doctor
      fk doctor OUT.json
    """
    context.choose(config)
    name = context.config.provider_name
    if provider is not None and name != provider:
        raise click.UsageError(f"the configuration is for {name!r}, not for {provider!r}")
    bad = 0
    with translated_errors(), closing(doctor_of(context.config)) as checks:
        for finding in checks.findings():
            mark = {True: "ok  ", False: "FAIL", None: "?   "}[finding.good]
            value = {"check": finding.check, "good": finding.good, "message": finding.message}
            context.say(as_json, value, f"{mark} {finding.check}: {finding.message}")
            bad += finding.good is False
    if bad:
        raise ProviderException(f"{bad} check{'s' if bad > 1 else ''} failed")
