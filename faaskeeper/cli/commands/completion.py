"""``fk completion``: what makes bash, zsh and fish complete fk's commands, options and paths."""

from __future__ import annotations

import click

from faaskeeper.cli import output
from faaskeeper.cli.options import as_json

_SHELLS = ("bash", "zsh", "fish")


@click.command("completion")
@click.argument("shell", type=click.Choice(_SHELLS))
@as_json
@click.pass_context
def completion(ctx: click.Context, shell: str, as_json: bool) -> None:
    """Print a completion script for your shell.

    It completes commands, options and paths. Paths come from the deployment that the options before
    the command, or $FK_CONFIG and $FK_DIRECTORY, select; nothing is offered after two seconds.

    \b
    Examples:
      fk completion bash > ~/.local/share/bash-completion/completions/fk
      fk completion zsh > ~/.zfunc/_fk
      fk completion fish > ~/.config/fish/completions/fk.fish
    """
    from click.shell_completion import get_completion_class

    from faaskeeper.cli.main import COMPLETE

    kind = get_completion_class(shell)
    if kind is None:
        raise AssertionError("a shell that click knows")
    root = ctx.find_root()
    script = kind(root.command, {}, "fk", COMPLETE).source()
    if as_json:
        output.print_line(output.json_line({"shell": shell, "script": script}))
    else:
        output.print_line(script.rstrip("\n"))
