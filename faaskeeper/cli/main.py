"""The command line: ``fk shell``, and each command of the shell as ``fk COMMAND``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from faaskeeper import __version__
from faaskeeper.cli import output
from faaskeeper.cli.arguments import ConfigSource, Directory, Whole, text_of
from faaskeeper.cli.commands import COMMANDS, DEPLOYMENT_COMMANDS
from faaskeeper.cli.context import Context
from faaskeeper.cli.errors import report, suggestion, wants_json
from faaskeeper.cli.groups import grouped
from faaskeeper.config import Config

if TYPE_CHECKING:
    from pathlib import Path

COMPLETE = "_FK_COMPLETE"
"""The variable by which the scripts of ``fk completion`` ask for completions."""
_DEEPEST = 5000
"""Recursion limit.

A path has at most 480 components; walking and encoding take a few frames for each.
"""


class _Group(click.Group):
    """Imports a command on first use, and none to list them. Suggests names for an unknown one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*COMMANDS, *DEPLOYMENT_COMMANDS])

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for heading, names in grouped(self.list_commands(ctx)):
            limit = formatter.width - 6 - max(map(len, names))
            with formatter.section(heading):
                formatter.write_dl([(name, _summary(name, limit)) for name in names])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return COMMANDS.get(cmd_name) or DEPLOYMENT_COMMANDS.get(cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            if sys.stderr.isatty():
                raise  # click ends the line of ^C
            raise click.Abort from error

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-") and not ctx.resilient_parsing:
            if name in ("help", "connect", "close", "quit", "exit"):
                raise click.UsageError(f"{name!r} is a command of the shell: run 'fk shell' first.", ctx)
            raise click.UsageError(
                f"No such command {name[:100]!r}.{suggestion(name, self.list_commands(ctx))}", ctx
            )
        return super().resolve_command(ctx, args)


def _summary(name: str, limit: int) -> str:
    """What a list says of a command, in this many characters."""
    commands = COMMANDS if name in COMMANDS else DEPLOYMENT_COMMANDS
    return click.Command(name, help=commands.summary(name)).get_short_help_str(limit)


def main(arguments: Sequence[str] | None = None, program: str = "fk") -> None:
    """Run ``fk`` and exit with its status."""
    output.prepare()
    sys.setrecursionlimit(_DEEPEST)
    words = list(sys.argv[1:] if arguments is None else arguments)
    if os.environ.get(COMPLETE):
        _complete(words)
    context: list[Context] = []
    try:
        status = fk.main(words, prog_name=program, standalone_mode=False, obj=context)
        status = status if isinstance(status, int) else 0
        status = status or sum(each.status for each in context)
        _flush()
    except (Exception, KeyboardInterrupt) as error:
        status = report(error, as_json=wants_json(words))
    sys.exit(status)


def _complete(words: Sequence[str]) -> None:
    """Answer a shell that completes a command line, and end the process.

    It does not wait for what a deployment has not answered in time, and reports no error: a prompt
    has no place for one.
    """
    status: object = 1
    try:
        fk.main(words, prog_name="fk", complete_var=COMPLETE, standalone_mode=False)
    except SystemExit as ended:
        status = ended.code
        _flush()
    except (Exception, KeyboardInterrupt):
        pass
    os._exit(status if isinstance(status, int) else 0)


def _flush() -> None:
    try:
        sys.stdout.flush()
    except OSError as error:
        raise output.Unwritable(error) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fk")
@click.option(
    "-c",
    "--config",
    "config",
    envvar="FK_CONFIG",
    type=ConfigSource(),
    help="Client configuration of a deployment (JSON), or zk://HOST:PORT[,...][/CHROOT] of ZooKeeper. "
    "Default: an embedded service. [$FK_CONFIG]",
)
@click.option(
    "-d",
    "--directory",
    envvar="FK_DIRECTORY",
    type=Directory(),
    help="Directory of the embedded service's files. [$FK_DIRECTORY]",
)
@click.option("--port", type=Whole(-1, 65535), default=-1, help="TCP port for replies; -1: any free port.")
@click.option(
    "--auth",
    "auth",
    multiple=True,
    envvar="FK_AUTH",
    metavar="USER:PASSWORD",
    help="Credentials for ACLs. Prefer the environment variable. [$FK_AUTH]",
)
@click.option("--verbose/--no-verbose", default=False, help="Log each step.")
@click.pass_context
def fk(
    ctx: click.Context,
    config: Path | str | None,
    directory: str | None,
    port: int,
    auth: tuple[str, ...],
    verbose: bool,
) -> None:
    """FaaSKeeper: ZooKeeper without servers.

    Commands work on the deployment of --config, which may be a ZooKeeper server, or on an embedded
    service in a local directory.

    \b
    Examples:
      fk create /app/config '{"debug": true}' --parents
      fk get /app/config
      fk --config client.json shell
      fk --config zk://127.0.0.1:2181/app ls /
      fk get --help

    \b
    Exit status:
      0  success                    6  version does not match
      1  service failed             7  limit exceeded
      2  invalid input              8  timeout: no reply or no event
      3  node does not exist        9  not permitted by an ACL
      4  node exists              130  interrupted
      5  node has children
    """
    source = ctx.get_parameter_source("directory")
    if config is not None and directory is not None and source is ParameterSource.COMMANDLINE:
        raise click.UsageError("--directory and --config exclude each other")
    chosen = Config.local(directory or "") if config is None else Config.load(config)
    context = Context(chosen, port=port, verbose=verbose, auth=[text_of(each) for each in auth])
    if isinstance(ctx.obj, list):
        ctx.obj.append(context)
    ctx.obj = context
    ctx.call_on_close(context.close)


def run_file() -> None:
    """Entry point of ``bin/fkCli.py CONFIG [options]``: opens the shell on a configuration."""
    main(options_first(sys.argv[1:]), os.path.basename(sys.argv[0]))


def options_first(arguments: Sequence[str]) -> list[str]:
    """Rewrite ``CONFIG --port N --verbose`` as ``--port N --verbose shell CONFIG``."""
    options: list[str] = []
    configs: list[str] = []
    rest = iter(arguments)
    for each in rest:
        if each in ("--port", "--auth", "-d", "--directory", "-c", "--config"):
            options += [each, *[word for word in [next(rest, None)] if word is not None]]
        elif each.startswith("-"):
            options.append(each)
        else:
            configs.append(each)
    return [*options, "shell", *configs]
