"""``fk deploy``: creates, updates and removes a deployment on a cloud."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click

from faaskeeper.cli import output
from faaskeeper.cli.arguments import ConfigSource, File
from faaskeeper.cli.deployments import ask, can_ask, load, opened, progress, provider_option, yes_option
from faaskeeper.cli.estimates import estimate
from faaskeeper.cli.files import check_writable, replacing
from faaskeeper.config import Config, strict_json
from faaskeeper.deploy.deployment import Deployment, Plan
from faaskeeper.exceptions import ProviderException

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
    type=ConfigSource(),
    help="The configuration to deploy; 'fk init' writes one.",
)
@click.option("--clean", is_flag=True, help="Remove the deployment and all data that it stores.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Show the changes and the estimated costs; change nothing. "
    "Without credentials: what the template holds, and the rights that deploying needs.",
)
@yes_option
def service(out: Path, provider: str | None, path: Path, clean: bool, dry_run: bool, yes: bool) -> None:
    """Create, update or remove a deployment; write its client configuration to OUT.

    Shows what changes and what it costs, and asks. If it is interrupted or fails, the same command
    goes on from there.

    \b
    Examples:
      fk init aws config.json
      fk deploy service client.json --config config.json --dry-run
      fk deploy service client.json --config config.json
      fk deploy service client.json --config config.json --clean
    """
    config = load(path, provider)
    _refuse_other_file(out, config)
    if not dry_run:
        can_ask(yes)
    with opened(config) as deployment:
        if clean:
            _clean(deployment, out, dry_run, yes)
        elif dry_run:
            _dry_run(deployment)
        else:
            _apply(deployment, out, yes)


def _apply(deployment: Deployment, out: Path, yes: bool) -> None:
    name = deployment.config.deployment_name
    check_writable(out)  # before a cloud is asked
    with progress(f"planning {name}") as report:
        deployment.prepare(report)
        plan = deployment.changes()
    _show(deployment, plan)
    if plan.refused:
        raise ProviderException(plan.refused)
    if plan.changes:
        ask("Deploy this?", yes)
    # written first: if this fails, nothing is deployed; and what is killed leaves a file to go on with
    _write(out, out.read_text("utf-8") if out.exists() else _text(deployment.preliminary()))
    with _resumable(), progress(f"deploying {name}") as report:
        clients = deployment.deploy(report)
    _write(out, _text(clients))
    output.print_line(f"deployed {name}; the client configuration is {out}")


@contextmanager
def _resumable() -> Iterator[None]:
    """Say, where the command ends early, that it may be repeated."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        interrupt.add_note(
            "What was begun in the cloud goes on; the same command waits for it and completes it"
        )
        raise


def _show(deployment: Deployment, plan: Plan) -> None:
    _list(plan)
    for line in estimate(deployment.config):
        output.print_line(line)


def _list(plan: Plan) -> None:
    for line in plan.changes:
        output.print_line(line)
    for line in plan.notes:
        output.print_line(line)
    if plan == Plan():
        output.print_line("No changes.")


def _dry_run(deployment: Deployment) -> None:
    missing = deployment.no_credentials()
    if not missing:
        plan = deployment.changes()
        _show(deployment, plan)
        if plan.refused:
            output.print_line(f"Refused: {plan.refused}")
        return
    output.print_error(f"{missing}. What follows is from the template alone.")
    _show(deployment, Plan(tuple(deployment.outline())))
    output.print_line("Deploying needs the rights to:")
    for line in deployment.rights():
        output.print_line(f"  {line}")


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
    ask("All znodes and sessions will be lost. Remove the deployment?", yes)
    with _resumable(), progress(f"removing {deployment.config.deployment_name}") as report:
        deployment.clean(report)
    out.unlink(missing_ok=True)
    output.print_line(f"removed {deployment.config.deployment_name}")


@deploy.command("functions")
@out_argument
@provider_option
@click.option("--config", "path", type=ConfigSource(), help="Use this configuration instead of OUT.")
@click.option("--rollback", is_flag=True, help="Go back to the code from before the last update.")
@click.option("--dry-run", is_flag=True, help="Show the changes; change nothing.")
@yes_option
def functions(
    out: Path, provider: str | None, path: Path | None, rollback: bool, dry_run: bool, yes: bool
) -> None:
    """Update only the code of a deployment's functions; all else stays as it was deployed.

    Shows what changes, and asks. The costs stay as they are.

    \b
    Examples:
      fk deploy functions client.json --dry-run
      fk deploy functions client.json
      fk deploy functions client.json --rollback
    """
    config = load(path or out, provider)
    if not dry_run:
        can_ask(yes)
    with opened(config) as deployment:
        with progress(f"planning the functions of {config.deployment_name}") as report:
            plan = deployment.code_changes(report, back=rollback)
        _list(plan)
        if dry_run:
            if plan.refused:
                output.print_line(f"Refused: {plan.refused}")
            return
        if plan.refused:
            raise ProviderException(plan.refused)
        if plan.changes:
            ask("Go back to this code?" if rollback else "Deploy this?", yes)
        with (
            _resumable(),
            progress("rolling back functions" if rollback else "updating functions") as report,
        ):
            if rollback:
                deployment.roll_back(report)
            else:
                deployment.update_code(report)
    done = "rolled back" if rollback else "updated"
    output.print_line(f"{done} the functions of {config.deployment_name}")


def _text(clients: Mapping[str, object]) -> str:
    return json.dumps(clients, indent=2) + "\n"


def _write(out: Path, text: str) -> None:
    with replacing(out) as file:
        file.write(text)


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
