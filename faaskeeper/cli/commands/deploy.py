"""``fk deploy``: creates a deployment on a cloud, updates it, and removes it."""

from __future__ import annotations

import json
from pathlib import Path

import click

from faaskeeper.cli import output
from faaskeeper.cli.arguments import File
from faaskeeper.cli.deployments import load, opened, progress, provider_option, yes_option
from faaskeeper.cli.files import replacing
from faaskeeper.config import Config, strict_json
from faaskeeper.deploy.deployment import Deployment
from faaskeeper.deploy.providers import costs_of

out_argument = click.argument("out", type=File())


@click.group("deploy")
def deploy() -> None:
    """Make, update or remove a deployment on a cloud."""


@deploy.command("service")
@out_argument
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
    _refuse_other_file(out, config)
    with opened(config) as deployment:
        if clean:
            _clean(deployment, out, dry_run, yes)
        elif dry_run:
            _dry_run(deployment)
        else:
            _apply(deployment, out)


def _apply(deployment: Deployment, out: Path) -> None:
    with (
        replacing(out) as file,  # which fails before anything is deployed, if it fails
        progress(f"deploying {deployment.config.deployment_name}") as report,
    ):
        clients = deployment.deploy(report)
        file.write(json.dumps(clients, indent=2) + "\n")
    output.print_line(f"{deployment.config.deployment_name} is deployed; its clients' configuration is {out}")


def _dry_run(deployment: Deployment) -> None:
    for line in deployment.changes() or ["Nothing would change."]:
        output.print_line(line)
    costs = costs_of(deployment.config)
    if costs is not None:
        output.print_line(costs.summary())


def _clean(deployment: Deployment, out: Path, dry_run: bool, yes: bool) -> None:
    holdings = deployment.holdings()
    if not holdings:
        output.print_line(f"There is nothing of {deployment.config.deployment_name}.")
        return
    output.print_line("This would be removed, with every znode and session:" if dry_run else "To be removed:")
    for line in holdings:
        output.print_line(f"  {line}")
    if dry_run:
        return
    if not yes:
        click.confirm("Every znode and session is lost. Remove it all?", abort=True)
    with progress(f"removing {deployment.config.deployment_name}") as report:
        deployment.clean(report)
    out.unlink(missing_ok=True)
    output.print_line(f"{deployment.config.deployment_name} is removed.")


@deploy.command("functions")
@out_argument
@provider_option
@click.option("--config", "path", type=File(), help="Another configuration than OUT.")
def functions(out: Path, provider: str | None, path: Path | None) -> None:
    """Give the functions of a deployment this version's code, and nothing else."""
    with (
        opened(load(path or out, provider)) as deployment,
        progress("updating functions") as report,
    ):
        deployment.update_code(report)
    output.print_line(f"{deployment.config.deployment_name} has the code of this version.")


def _refuse_other_file(out: Path, config: Config) -> None:
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
