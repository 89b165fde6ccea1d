"""``fk doctor``: checks a deployment from the client's side."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import click

from faaskeeper.cli import output
from faaskeeper.cli.deployments import config_argument, load, provider_option
from faaskeeper.deploy.providers import doctor_of, translated_errors
from faaskeeper.exceptions import ProviderException


@click.command("doctor")
@config_argument
@provider_option
def doctor(config: Path, provider: str | None) -> None:
    """Check a deployment and suggest repairs.

    The checks run with the client's credentials and network. Exit status 1: a check failed.
    """
    loaded = load(config, provider)
    bad = 0
    with translated_errors(), closing(doctor_of(loaded)) as checks:
        for finding in checks.findings():
            mark = {True: "ok  ", False: "FAIL", None: "?   "}[finding.good]
            output.print_line(f"{mark} {finding.check}: {finding.message}")
            bad += finding.good is False
    if bad:
        raise ProviderException(f"{bad} check{'s' if bad > 1 else ''} failed")
