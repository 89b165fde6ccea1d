"""The command line: ``fk shell``, and every command of the shell as ``fk COMMAND``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from click.core import ParameterSource

from faaskeeper import __version__
from faaskeeper.cli import output
from faaskeeper.cli.arguments import Directory, File, Whole, text_of
from faaskeeper.cli.commands import COMMANDS, DEPLOYMENT_COMMANDS
from faaskeeper.cli.context import Context
from faaskeeper.cli.errors import report, suggestion
from faaskeeper.config import Config

_DEEPEST = 5000
"""A path has 480 components at most; each takes a few frames of what walks a tree or writes it as JSON."""


class _Group(click.Group):
    """Imports a command when it is used; for a word that is none it suggests the nearest."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*COMMANDS, *DEPLOYMENT_COMMANDS])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return COMMANDS.get(cmd_name) or DEPLOYMENT_COMMANDS.get(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            if name in ("help", "connect", "close", "quit", "exit"):
                raise click.UsageError(
                    f"{name!r} is a command of the shell: see 'fk shell', 'fk --help'.", ctx
                )
            raise click.UsageError(
                f"No such command {name[:100]!r}.{suggestion(name, self.list_commands(ctx))}", ctx
            )
        return super().resolve_command(ctx, args)


def main(arguments: Sequence[str] | None = None, program: str = "fk") -> None:
    """Run ``fk``, and end with its exit status."""
    output.prepare()
    sys.setrecursionlimit(_DEEPEST)
    words = list(sys.argv[1:] if arguments is None else arguments)
    context: list[Context] = []
    try:
        status = fk.main(words, prog_name=program, standalone_mode=False, obj=context)
        status = status if isinstance(status, int) else 0
        status = status or sum(each.status for each in context)
        _flush()
    except (Exception, KeyboardInterrupt) as error:
        status = report(error)
    sys.exit(status)


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
    type=File(),
    help="The deployment's configuration (JSON). Without: an embedded service. [$FK_CONFIG]",
)
@click.option(
    "-d",
    "--directory",
    envvar="FK_DIRECTORY",
    type=Directory(),
    help="Where the embedded service keeps its files. [$FK_DIRECTORY]",
)
@click.option(
    "--port", type=Whole(-1, 65535), default=-1, help="Port to listen on for answers by TCP; -1: a free one."
)
@click.option(
    "--auth",
    "auth",
    multiple=True,
    envvar="FK_AUTH",
    metavar="USER:PASSWORD",
    help="Credentials for nodes that have ACLs; best given in the environment. [$FK_AUTH]",
)
@click.option("--verbose/--no-verbose", default=False, help="Log what is done.")
@click.pass_context
def fk(
    ctx: click.Context,
    config: Path | None,
    directory: str | None,
    port: int,
    auth: tuple[str, ...],
    verbose: bool,
) -> None:
    """FaaSKeeper: ZooKeeper without servers.

    Exit status: 0 done; 1 the service failed; 2 wrong input; 3 no such node; 4 the node exists;
    5 it has children; 6 another version; 7 over a limit; 8 no answer, or no event,
    in time; 9 an ACL refuses; 130 interrupted.
    """
    source = ctx.get_parameter_source("directory")
    if config is not None and directory is not None and source is ParameterSource.COMMANDLINE:
        raise click.UsageError("--directory is for the embedded service, without --config")
    chosen = Config.local(directory or "") if config is None else Config.load(config)
    context = Context(chosen, port=port, verbose=verbose, auth=[text_of(each) for each in auth])
    if isinstance(ctx.obj, list):
        ctx.obj.append(context)
    ctx.obj = context
    ctx.call_on_close(context.close)


def run_file() -> None:
    """Entry point of ``bin/fkCli.py CONFIG [options]``: the shell on a configuration."""
    main(options_first(sys.argv[1:]), os.path.basename(sys.argv[0]))


def options_first(arguments: Sequence[str]) -> list[str]:
    """``CONFIG --port N --verbose`` as ``--port N --verbose shell CONFIG``."""
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
