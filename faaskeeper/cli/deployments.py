"""Shared by the commands on cloud deployments: their options, and opening a deployment."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import click

from faaskeeper import registry
from faaskeeper.cli import output
from faaskeeper.cli.arguments import Amount, ConfigSource
from faaskeeper.config import Config
from faaskeeper.deploy.deployment import Deployment, Progress
from faaskeeper.deploy.providers import deployment_of, translated_errors

PROVIDERS = click.Choice(registry.deployable())
config_argument = click.argument("config", type=ConfigSource())
provider_option = click.option("--provider", type=PROVIDERS, help="Require this provider.")
yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask for confirmation.")


def can_ask(yes: bool) -> None:
    """Raise unless :func:`ask` can put a question. A command that will ask calls this at once."""
    if not yes and not sys.stdin.isatty():
        raise click.UsageError("this command asks first, and there is no terminal: add --yes to go ahead")


def ask(question: str, yes: bool) -> None:
    """Go on if the answer is yes; ``yes``: it is, without the question. Otherwise raise click.Abort."""
    can_ask(yes)
    if not yes:
        click.confirm(question, abort=True)


def load(path: Path | str, provider: str | None) -> Config:
    """Load a configuration and check its provider."""
    config = Config.load(path)
    if provider is not None and config.provider_name != provider:
        raise click.UsageError(f"{path} is for {config.provider_name!r}, not for {provider!r}")
    if config.provider_name not in PROVIDERS.choices:
        known = ", ".join(repr(each) for each in PROVIDERS.choices)
        raise click.UsageError(f"{path} is for {config.provider_name!r}: deployable providers are {known}")
    return config


@contextmanager
def opened(config: Config) -> Iterator[Deployment]:
    """Open the deployment of a configuration."""
    with translated_errors(), closing(deployment_of(config, _pause())) as deployment:
        yield deployment


def _pause() -> Callable[[float], None]:
    import time

    given = os.environ.get("FK_POLL_FACTOR", "1")  # emulators need shorter pauses than clouds
    try:
        factor = Amount(1000).convert(given, None, None)
    except click.BadParameter as error:
        raise click.UsageError(f"FK_POLL_FACTOR: {error.message}") from error
    return lambda seconds: time.sleep(seconds * factor)


@contextmanager
def progress(title: str) -> Iterator[Progress]:
    """Print each step of a deployment to standard error; at a terminal, with a spinner."""
    if not sys.stderr.isatty():
        yield output.print_error
        return
    from rich.console import Console

    console = Console(stderr=True)
    with console.status(f"[bold]{title} ..."):
        yield lambda line: console.print(output.escaped(line, "\n"), highlight=False, markup=False)
