"""The command line: ``fk shell``, and every command of the shell as ``fk COMMAND``."""

from __future__ import annotations

import os
import sys
from typing import Any

import click
from click.core import ParameterSource

from faaskeeper import __version__
from faaskeeper.cli.commands import COMMANDS
from faaskeeper.cli.context import Context, status_of
from faaskeeper.cli.deploying import deploy
from faaskeeper.cli.moving import cost, export, import_
from faaskeeper.cli.serving import serve
from faaskeeper.cli.tending import deadletters, doctor
from faaskeeper.config import Config
from faaskeeper.exceptions import FaaSKeeperException


class _Group(click.Group):
    """Ends with an error's own exit status, and with the session closed."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except FaaSKeeperException as error:
            click.echo(f"fk: {error}", err=True)
            ctx.exit(status_of(error))


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fk")
@click.option(
    "-c",
    "--config",
    "config",
    envvar="FK_CONFIG",
    type=click.Path(dir_okay=False),
    help="The deployment's configuration (JSON). Without: an embedded service. [$FK_CONFIG]",
)
@click.option(
    "-d",
    "--directory",
    envvar="FK_DIRECTORY",
    type=click.Path(file_okay=False),
    help="Where the embedded service keeps its files. [$FK_DIRECTORY]",
)
@click.option("--port", type=int, default=-1, help="Port to listen on for answers by TCP.")
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
    config: str | None,
    directory: str | None,
    port: int,
    auth: tuple[str, ...],
    verbose: bool,
) -> None:
    """FaaSKeeper: ZooKeeper without servers.

    Exit status: 0 done; 1 the service failed; 2 wrong input; 3 no such node; 4 the node exists;
    5 it has children; 6 another version; 7 over a limit; 8 no answer in time; 9 an ACL refuses.
    """
    source = ctx.get_parameter_source("directory")
    if config is not None and directory is not None and source is ParameterSource.COMMANDLINE:
        raise click.UsageError("--directory is for the embedded service, without --config")
    chosen = Config.local(directory or "") if config is None else Config.load(config)
    ctx.obj = Context(chosen, port=port, verbose=verbose, auth=auth)
    ctx.call_on_close(lambda: _finish(ctx.obj))


def _finish(context: Context) -> None:
    context.close()
    if context.status and context.one_shot:
        sys.stdout.flush()
        sys.exit(context.status)


@fk.command("shell")
@click.argument("config", required=False, type=click.Path(dir_okay=False))
@click.pass_obj
def shell(context: Context, config: str | None) -> None:
    """Open a shell; reads commands from standard input when that is no terminal."""
    from faaskeeper.cli.shell import run

    if config is not None:
        context.config = Config.load(config)
    context.one_shot = False
    status = run(context)
    context.close()
    sys.stdout.flush()
    if status:
        sys.exit(status)


for _each in (deploy, serve, doctor, deadletters, export, import_, cost):
    fk.add_command(_each)
for _name, _command in COMMANDS.items():
    fk.add_command(_command, _name)


def run_file() -> None:
    """Entry point of ``bin/fkCli.py CONFIG [options]``: the shell on a configuration."""
    sys.argv = [sys.argv[0], *_options_first(sys.argv[1:])]
    fk(prog_name=os.path.basename(sys.argv[0]))


def _options_first(arguments: list[str]) -> list[str]:
    """``CONFIG --port N --verbose`` as ``--port N --verbose shell CONFIG``."""
    options: list[str] = []
    configs: list[str] = []
    rest = iter(arguments)
    for each in rest:
        if each == "--port":
            options += [each, next(rest, "")]
        elif each.startswith("-"):
            options.append(each)
        else:
            configs.append(each)
    return [*options, "shell", *configs]
