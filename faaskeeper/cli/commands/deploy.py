"""``fk deploy``: creates, updates and removes a deployment on a cloud."""

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
    """Create, update or remove a deployment on a cloud."""


@deploy.command("service")
@out_argument
@provider_option
@click.option(
    "--config",
    "path",
    required=True,
    type=File(),
    help="The configuration to deploy; config/user_config.json is an example.",
)
@click.option("--clean", is_flag=True, help="Remove the deployment and all data that it stores.")
@click.option("--dry-run", is_flag=True, help="Show the changes and the estimated costs; change nothing.")
@yes_option
def service(out: Path, provider: str | None, path: Path, clean: bool, dry_run: bool, yes: bool) -> None:
    """Create, update or remove a deployment; write its client configuration to OUT.

    \b
    Examples:
      fk deploy service client.json --config config.json --dry-run
      fk deploy service client.json --config config.json
      fk deploy service client.json --config config.json --clean
    """
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
        replacing(out) as file,  # opened first: if this fails, nothing is deployed
        progress(f"deploying {deployment.config.deployment_name}") as report,
    ):
        clients = deployment.deploy(report)
        file.write(json.dumps(clients, indent=2) + "\n")
    output.print_line(f"deployed {deployment.config.deployment_name}; the client configuration is {out}")


def _dry_run(deployment: Deployment) -> None:
    for line in deployment.changes() or ["No changes."]:
        output.print_line(line)
    costs = costs_of(deployment.config)
    if costs is not None:
        output.print_line(costs.summary())


def _clean(deployment: Deployment, out: Path, dry_run: bool, yes: bool) -> None:
    holdings = deployment.holdings()
    if not holdings:
        output.print_line(f"No resources found for deployment {deployment.config.deployment_name}.")
        return
    output.print_line(f"{'Would' if dry_run else 'Will'} remove, with all znodes and sessions:")
    for line in holdings:
        output.print_line(f"  {line}")
    if dry_run:
        return
    if not yes:
        click.confirm("All znodes and sessions will be lost. Remove the deployment?", abort=True)
    with progress(f"removing {deployment.config.deployment_name}") as report:
        deployment.clean(report)
    out.unlink(missing_ok=True)
    output.print_line(f"removed {deployment.config.deployment_name}")


@deploy.command("functions")
@out_argument
@provider_option
@click.option("--config", "path", type=File(), help="Use this configuration instead of OUT.")
def functions(out: Path, provider: str | None, path: Path | None) -> None:
    """Update only the code of a deployment's functions."""
    with (
        opened(load(path or out, provider)) as deployment,
        progress("updating functions") as report,
    ):
        deployment.update_code(report)
    output.print_line(f"updated the functions of {deployment.config.deployment_name}")


def _refuse_other_file(out: Path, config: Config) -> None:
    """Raise unless OUT is absent or holds a configuration of this deployment."""
    if not out.exists():
        return
    try:
        name = strict_json(out.read_bytes()).get("deployment-name")
    except (OSError, ValueError, AttributeError):
        name = None
    if name != config.deployment_name:
        raise click.UsageError(
            f"{out} exists and is not a configuration of {config.deployment_name}: choose another file"
        )
