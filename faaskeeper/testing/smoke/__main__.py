"""``python -m faaskeeper.testing.smoke``: the gate's commands."""

from __future__ import annotations

import argparse
import json
import secrets
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from types import FrameType
from typing import Any

from faaskeeper import registry
from faaskeeper.config import ConfigurationException
from faaskeeper.deploy.providers import translated_errors
from faaskeeper.exceptions import FaaSKeeperException
from faaskeeper.testing.smoke.bill import compare
from faaskeeper.testing.smoke.gate import Gate, Options, configuration
from faaskeeper.testing.smoke.report import Report, write_whole
from faaskeeper.testing.smoke.stage import Failed, Files, Stage

_STAGES = {
    "aws": "faaskeeper.testing.smoke.aws:AwsStage",
    "gcp": "faaskeeper.testing.smoke.gcp:GcpStage",
}


def say(line: str) -> None:
    """A line of progress."""
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    made = argparse.ArgumentParser(prog="python -m faaskeeper.testing.smoke", description=__doc__)
    commands = made.add_subparsers(dest="command", required=True)
    for cloud in _STAGES:
        run = commands.add_parser(cloud, help=f"deploy to {cloud}, try everything, remove it")
        run.add_argument("config", type=Path, help="the configuration to deploy, under another name")
        run.add_argument("--directory", type=Path, help="where the report goes (default: smoke-NAME)")
        run.add_argument("--share", type=int, default=Options().share, metavar="N",
                         help="one of N recorded scenarios")  # fmt: skip
        run.add_argument("--turns", type=int, default=Options().turns, metavar="N",
                         help="operations of each kind that are timed")  # fmt: skip
        run.add_argument("--wait", type=float, default=Options().wait_s, metavar="SECONDS",
                         help="how long to wait for the services' counts at most")  # fmt: skip
    clean = commands.add_parser("clean", help="remove what a run that was killed has left")
    clean.add_argument("directory", type=Path)
    cost = commands.add_parser("cost", help="compare a report with the bill, a day or two later")
    cost.add_argument("directory", type=Path)
    cost.add_argument("--export", default="", metavar="PROJECT.DATASET.TABLE",
                      help="Google Cloud: the table that billing data is exported to")  # fmt: skip
    return made


def stage_of(cloud: str, files: Files, data: dict[str, Any]) -> Stage:
    """The stage of a cloud. Raises ProviderException if a package is missing."""
    with translated_errors():
        made: Stage = registry.load(_STAGES[cloud])(files, data, say)
    return made


def run(options: argparse.Namespace) -> bool:
    """Deploy, try and remove."""
    name = f"smoke-{secrets.token_hex(4)}"
    data = configuration(options.config, name)
    if data["cloud-provider"] != options.command:
        raise ConfigurationException(
            f"{options.config} is for {data['cloud-provider']!r}, not for {options.command!r}"
        )
    files = Files((options.directory or Path(name)).resolve())
    files.directory.mkdir(parents=True, exist_ok=True)
    if files.config.exists():
        raise Failed(f"{files.directory} has a run already: choose another --directory")
    write_whole(files.config, json.dumps(data, indent=2))  # it may have a super user's digest
    with closing(stage_of(options.command, files, data)) as stage:
        gate = Gate(stage, Options(max(options.share, 1), max(options.turns, 1), options.wait), say)
        return gate.run()


def clean(directory: Path) -> bool:
    """Remove what a run has left."""
    files = Files(directory.resolve())
    data = configuration_of(files)
    with closing(stage_of(data["cloud-provider"], files, data)) as stage:
        gate = Gate(stage, Options(), say)
        gate.clean()
        return gate.report.passed


def cost(directory: Path, export: str) -> bool:
    """Compare a report with the bill."""
    files = Files(directory.resolve())
    try:
        report = Report.load(files.directory)
    except (OSError, ValueError) as error:
        raise Failed(f"{files.directory} has no report: {error}") from error
    with translated_errors():
        return compare(report, configuration_of(files), export, print)


def configuration_of(files: Files) -> dict[str, Any]:
    """What a run has deployed. Raises Failed if the directory has no run."""
    try:
        found: dict[str, Any] = json.loads(files.config.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise Failed(f"{files.directory} has no run: {error}") from error
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    options = parser().parse_args(arguments)

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):  # as Ctrl-C: what was made is removed
        signal.signal(number, interrupt)
    try:
        if options.command == "clean":
            right = clean(options.directory)
        elif options.command == "cost":
            right = cost(options.directory, options.export)
        else:
            right = run(options)
    except (Failed, FaaSKeeperException) as error:
        print(error, file=sys.stderr)
        return 2
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
