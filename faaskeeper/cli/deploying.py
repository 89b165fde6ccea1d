"""``fk deploy``: to make a deployment on a cloud, change it, and remove it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import click

from faaskeeper import registry
from faaskeeper.cli import output
from faaskeeper.cli.arguments import Amount, File
from faaskeeper.cli.files import whole
from faaskeeper.config import Config, strict_json
from faaskeeper.deploy.deployment import Deployment, Progress
from faaskeeper.deploy.providers import costs_of, deployment_of, translated_errors

PROVIDERS = click.Choice(registry.deployable())
file_argument = click.argument("out", type=File())
provider_option = click.option("--provider", type=PROVIDERS, help="The cloud; as in the configuration.")
yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask.")


def load(path: Path, provider: str | None) -> Config:
    """A configuration, for the cloud that was named."""
    config = Config.load(path)
    if provider is not None and config.provider_name != provider:
        raise click.UsageError(f"{path} is for {config.provider_name!r}, not for {provider!r}")
    if config.provider_name not in PROVIDERS.choices:
        known = ", ".join(repr(each) for each in PROVIDERS.choices)
        raise click.UsageError(f"{path} is for {config.provider_name!r}; what can be deployed is {known}")
    return config


@contextmanager
def opened(config: Config) -> Iterator[Deployment]:
    """The deployment of a configuration."""
    with translated_errors(), closing(deployment_of(config, _pause())) as deployment:
        yield deployment


def _pause() -> Callable[[float], None]:
    import time

    given = os.environ.get("FK_POLL_FACTOR", "1")  # emulators are quicker than clouds
    try:
        factor = Amount(1000).convert(given, None, None)
    except click.BadParameter as error:
        raise click.UsageError(f"FK_POLL_FACTOR: {error.message}") from error
    return lambda seconds: time.sleep(seconds * factor)


def _mine(out: Path, config: Config) -> None:
    """Raise unless a file may be overwritten with the configuration of this deployment."""
    if not out.exists():
        return
    try:
        name = strict_json(out.read_bytes()).get("deployment-name")
    except (OSError, ValueError, AttributeError):
        name = None
    if name != config.deployment_name:
        raise click.UsageError(
            f"{out} exists and is not the configuration of {config.deployment_name}: it stays as it is"
        )


@click.group("deploy")
def deploy() -> None:
    """Make, update or remove a deployment on a cloud."""


@deploy.command("service")
@file_argument
@provider_option
@click.option(
    "--config",
    "path",
    required=True,
    type=File(),
    help="What to deploy, as config/user_config.json shows.",
)
@click.option("--clean", is_flag=True, help="Remove everything, what is stored included.")
@click.option(
    "--dry-run", is_flag=True, help="Show what would change and what it would cost; change nothing."
)
@yes_option
def service(out: Path, provider: str | None, path: Path, clean: bool, dry_run: bool, yes: bool) -> None:
    """Create or update the deployment; OUT becomes the configuration that clients use."""
    config = load(path, provider)
    _mine(out, config)
    with opened(config) as deployment:
        if clean:
            _clean(deployment, out, dry_run, yes)
        elif dry_run:
            _dry_run(deployment)
        else:
            _apply(deployment, out)


def _apply(deployment: Deployment, out: Path) -> None:
    with (
        whole(out) as file,  # which fails before anything is deployed, if it fails
        _progress(f"deploying {deployment.config.deployment_name}") as progress,
    ):
        told = deployment.deploy(progress)
        file.write(json.dumps(told, indent=2) + "\n")
    output.say(f"{deployment.config.deployment_name} is deployed; its clients' configuration is {out}")


def _dry_run(deployment: Deployment) -> None:
    for line in deployment.changes() or ["Nothing would change."]:
        output.say(line)
    costs = costs_of(deployment.config)
    if costs is not None:
        output.say(costs.summary())


def _clean(deployment: Deployment, out: Path, dry_run: bool, yes: bool) -> None:
    holdings = deployment.holdings()
    if not holdings:
        output.say(f"There is nothing of {deployment.config.deployment_name}.")
        return
    output.say("This would be removed, with every znode and session:" if dry_run else "To be removed:")
    for line in holdings:
        output.say(f"  {line}")
    if dry_run:
        return
    if not yes:
        click.confirm("Every znode and session is lost. Remove it all?", abort=True)
    with _progress(f"removing {deployment.config.deployment_name}") as progress:
        deployment.clean(progress)
    out.unlink(missing_ok=True)
    output.say(f"{deployment.config.deployment_name} is removed.")


@deploy.command("functions")
@file_argument
@provider_option
@click.option("--config", "path", type=File(), help="Another configuration than OUT.")
def functions(out: Path, provider: str | None, path: Path | None) -> None:
    """Give the functions of a deployment this version's code, and nothing else."""
    with (
        opened(load(path or out, provider)) as deployment,
        _progress("updating functions") as progress,
    ):
        deployment.update_code(progress)
    output.say(f"{deployment.config.deployment_name} has the code of this version.")


@contextmanager
def _progress(what: str) -> Iterator[Progress]:
    """Says what happens, a line each; on a terminal with something that moves."""
    if not sys.stderr.isatty():
        yield output.tell
        return
    from rich.console import Console

    console = Console(stderr=True)
    with console.status(f"[bold]{what} ..."):
        yield lambda line: console.print(output.shown(line, "\n"), highlight=False, markup=False)
