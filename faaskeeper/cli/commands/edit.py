"""``edit``: a node's data in an editor, set only if nobody else has changed it meanwhile."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from faaskeeper.cli.arguments import data_of
from faaskeeper.cli.context import Context
from faaskeeper.cli.errors import Failed, advice, status_of
from faaskeeper.cli.options import as_json, command, path
from faaskeeper.core import paths
from faaskeeper.exceptions import BadVersionError, FaaSKeeperException


def _editor() -> list[str]:
    """The command of the user's editor. Raises UsageError."""
    named = os.environ.get("VISUAL") or os.environ.get("EDITOR") or ""
    try:
        words = shlex.split(named)
    except ValueError as error:
        raise click.UsageError(f"$EDITOR is not a command: {error}") from error
    if words:
        return words
    if not sys.stdin.isatty():
        raise click.UsageError("there is no terminal for an editor: set $EDITOR")
    found = next((each for each in ("sensible-editor", "vi", "nano") if shutil.which(each)), None)
    if found is None:
        raise click.UsageError("there is no editor: set $EDITOR")
    return [found]


@command("edit")
@path
@click.option("--raw", is_flag=True, help="Keep the final newline that an editor adds.")
@as_json
def edit(context: Context, path: str, raw: bool, as_json: bool) -> None:
    """Edit a node's data with $VISUAL or $EDITOR.

    The data is set only if the node has not changed since it was read. If somebody else was faster,
    or the data cannot be set for another reason, your text stays in a file, and the error says where.
    An editor ends a text with a newline; unless the data had one before, or with --raw, it is
    removed.

    \b
    Examples:
      edit /app/config
      EDITOR='code --wait' fk edit /app/config
    """
    editor = _editor()
    node = context.call(context.client.get_data, path)
    if context.one_shot:
        context.close()  # an embedded service is free for others, and no session is lost meanwhile
    folder = Path(tempfile.mkdtemp(prefix="fk-edit-"))
    file = folder / (_named(paths.name(path)) or "root")
    file.write_bytes(node.data)
    try:
        _edit([*editor, str(file)])
        data = _edited(file, node.data, raw)
        if data == node.data:
            file.unlink()
            context.say(as_json, node.serialize(), f"{path} is unchanged")
            return
        done = context.call(context.client.set_data, path, data, node.stat.version)
        file.unlink()
    except FaaSKeeperException as error:
        faster = isinstance(error, BadVersionError)
        message = f"{path} was changed meanwhile" if faster else advice(error, not context.one_shot)
        raise Failed(f"{message}. Your text is in {file}", status_of(error)) from error
    except Failed as error:
        raise _kept(error, file, node.data) from error
    except OSError as error:
        raise Failed(f"{error.strerror or error}. Your text is in {file}", 1) from error
    except KeyboardInterrupt as error:
        error.add_note(f"Your text is in {file}")
        raise
    finally:
        if not file.exists():
            shutil.rmtree(folder, ignore_errors=True)  # with what editors leave beside it
    context.say(as_json, done.serialize(), f"Set {path}, version {done.stat.version}")


def _named(name: str) -> str:
    """A file's name with the node's own, by whose end editors know the format."""
    return "".join(each if each.isalnum() or each in "-_." else "_" for each in name)[-100:].lstrip(".")


def _edit(words: list[str]) -> None:
    """Run the editor. Raises Failed."""
    try:
        status = subprocess.run(words, check=False).returncode
    except OSError as error:
        raise Failed(f"the editor {words[0]!r} does not start: {error.strerror or error}", 1) from error
    if status:
        raise Failed(f"the editor {words[0]!r} ended with status {status}: nothing was set", 1)


def _edited(file: Path, before: bytes, raw: bool) -> bytes:
    """The text in the file. Raises OSError, Failed."""
    data = data_of(file, None)
    if not raw and data.endswith(b"\n") and not before.endswith(b"\n"):
        return data.removesuffix(b"\n")
    return data


def _kept(error: Failed, file: Path, before: bytes) -> Failed:
    """The error, with where the text is if there is any to keep."""
    try:
        if file.read_bytes() == before:
            file.unlink()
    except OSError:
        return error
    return Failed(f"{error}. Your text is in {file}", error.status) if file.exists() else error
