"""``fk deploy``: creates, updates and removes a deployment on a cloud."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from faaskeeper.cli import output
from faaskeeper.cli.arguments import ConfigSource, File
from faaskeeper.cli.deployments import ask, can_ask, load, opened, progress, provider_option, yes_option
from faaskeeper.cli.estimates import estimate
from faaskeeper.cli.files import check_writable, replacing
from faaskeeper.cli.options import as_json
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
@as_json
def service(
    out: Path, provider: str | None, path: Path, clean: bool, dry_run: bool, yes: bool, as_json: bool
) -> None:
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
    told = _Told(as_json, dry_run or yes, deployment=config.deployment_name, file=str(out))
    with opened(config) as deployment:
        if clean:
            _clean(deployment, out, dry_run, yes, told)
        elif dry_run:
            _dry_run(deployment, told)
        else:
            _apply(deployment, out, yes, told)
    told.end()


class _Told:
    """What a command tells: line by line, or one JSON object at its end.

    ``quiet``: it asks nothing. ``head``: what the object has in any case.
    """

    def __init__(self, as_json: bool, quiet: bool, **head: object) -> None:
        if as_json and not quiet:
            raise click.UsageError("with --json nothing is asked: add --yes or --dry-run")
        self._as_json = as_json
        self._value = head

    def lines(self, key: str, lines: Sequence[str], before: str = "", indent: str = "") -> None:
        """Lines, and their key in the object. ``before``: a line above them, for people."""
        self._value[key] = list(lines)
        if not self._as_json:
            for line in [before] * bool(before) + [f"{indent}{line}" for line in lines]:
                output.print_line(line)

    def plan(self, plan: Plan) -> None:
        """What would change."""
        self.lines("changes", plan.changes)
        self.lines("notes", plan.notes)
        if plan == Plan():
            self.say("No changes.")

    def say(self, text: str, **value: object) -> None:
        """A line, and what the object has of it."""
        self._value.update(value)
        if not self._as_json:
            output.print_line(text)

    def end(self) -> None:
        """Write the object."""
        if self._as_json:
            output.print_line(output.json_line(self._value))


def _apply(deployment: Deployment, out: Path, yes: bool, told: _Told) -> None:
    name = deployment.config.deployment_name
    check_writable(out)  # before a cloud is asked
    with progress(f"planning {name}") as report:
        deployment.prepare(report)
        plan = deployment.changes()
    _show(deployment, plan, told)
    if plan.refused:
        raise ProviderException(plan.refused)
    if plan.changes:
        ask("Deploy this?", yes)
    # written first: if this fails, nothing is deployed; and what is killed leaves a file to go on with
    _write(out, out.read_text("utf-8") if out.exists() else _text(deployment.preliminary()))
    with _resumable(), progress(f"deploying {name}") as report:
        clients = deployment.deploy(report)
    _write(out, _text(clients))
    told.say(f"deployed {name}; the client configuration is {out}", deployed=True)


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


def _show(deployment: Deployment, plan: Plan, told: _Told) -> None:
    told.plan(plan)
    told.lines("costs", estimate(deployment.config))


def _dry_run(deployment: Deployment, told: _Told) -> None:
    missing = deployment.no_credentials()
    if not missing:
        plan = deployment.changes()
        _show(deployment, plan, told)
        if plan.refused:
            told.say(f"Refused: {plan.refused}", refused=plan.refused)
        return
    output.print_error(f"{missing}. What follows is from the template alone.")
    _show(deployment, Plan(tuple(deployment.outline())), told)
    told.lines("rights", deployment.rights(), "Deploying needs the rights to:", "  ")


def _clean(deployment: Deployment, out: Path, dry_run: bool, yes: bool, told: _Told) -> None:
    holdings = deployment.holdings()
    if not holdings:
        told.say(f"No resources found for deployment {deployment.config.deployment_name}.", removes=[])
        return
    would = "Would" if dry_run else "Will"
    told.lines("removes", holdings, f"{would} remove, with all znodes and sessions:", "  ")
    if dry_run:
        return
    ask("All znodes and sessions will be lost. Remove the deployment?", yes)
    with _resumable(), progress(f"removing {deployment.config.deployment_name}") as report:
        deployment.clean(report)
    out.unlink(missing_ok=True)
    told.say(f"removed {deployment.config.deployment_name}", removed=True)


@deploy.command("functions")
@out_argument
@provider_option
@click.option("--config", "path", type=ConfigSource(), help="Use this configuration instead of OUT.")
@click.option("--rollback", is_flag=True, help="Go back to the code from before the last update.")
@click.option("--dry-run", is_flag=True, help="Show the changes; change nothing.")
@yes_option
@as_json
def functions(
    out: Path,
    provider: str | None,
    path: Path | None,
    rollback: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
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
    told = _Told(as_json, dry_run or yes, deployment=config.deployment_name)
    with opened(config) as deployment:
        with progress(f"planning the functions of {config.deployment_name}") as report:
            plan = deployment.code_changes(report, back=rollback)
        told.plan(plan)
        if dry_run:
            if plan.refused:
                told.say(f"Refused: {plan.refused}", refused=plan.refused)
            told.end()
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
    told.say(f"{done} the functions of {config.deployment_name}", done=done)
    told.end()


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
