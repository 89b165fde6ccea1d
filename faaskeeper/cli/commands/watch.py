"""``fk watch``: prints each change of a path, or runs a command for it."""

from __future__ import annotations

import os
import subprocess
import threading
from binascii import b2a_base64
from collections.abc import Callable
from time import monotonic
from typing import Any

import click

from faaskeeper.cli import output
from faaskeeper.cli.arguments import Txid, Whole
from faaskeeper.cli.context import Context, when
from faaskeeper.cli.errors import Failed
from faaskeeper.cli.following import Following, Happened, Value, following
from faaskeeper.cli.interrupts import POLL_S
from faaskeeper.cli.options import as_json, command, path, timeout_option
from faaskeeper.client import FaaSKeeperClient, SessionState
from faaskeeper.core.errors import DriverError
from faaskeeper.exceptions import ProviderException, SessionExpiredException, TimeoutException

_AGAIN_S = 1.0
_AGAIN_MOST_S = 30.0
"""The first and the longest pause before another try to reach the service."""


@command("watch")
@path
@click.option("-r", "--recursive", is_flag=True, help="Watch the path and all paths below it.")
@click.option("--since", type=Txid(), metavar="TXID", help="Begin with what happened after it.")
@click.option("--data", "with_data", is_flag=True, help="Print the new and the old data.")
@click.option(
    "--exec", "run", metavar="CMD", help="Run a shell's command for each change, instead of printing it."
)
@click.option("-n", "--number", type=Whole(1, 10**9), help="Exit after this many changes.")
@timeout_option
@as_json
def watch(
    context: Context,
    path: str,
    recursive: bool,
    since: int | None,
    with_data: bool,
    run: str | None,
    number: int | None,
    timeout: float | None,
    as_json: bool,
) -> None:
    """Print each change of a path, in order, until interrupted.

    No change is left out: the deployment's log has each for seven days. A lost session is opened
    again. With --exec, CMD gets a change as JSON on its standard input, and FK_EVENT, FK_PATH,
    FK_TXID, FK_TIME and FK_VERSION; one runs at a time.

    \b
    Examples:
      watch /app -r --json
      watch /app/config --data --since 4711
      watch /app/config --exec 'systemctl reload app'
    """
    begun = context.call(following, context.client, path, recursive, with_data)
    show = _Runs(run, begun.resumes) if run is not None else _print_json if as_json else _print
    watching = _Watching(context, begun)
    watching.begin(since)
    where = f" from after transaction {begun.position}" if begun.resumes else ""
    output.print_error(f"fk: watching {path}{where}")
    try:
        watching.show(show, number, timeout)
    except KeyboardInterrupt as interrupt:
        if begun.resumes:
            interrupt.add_note(f"go on with --since {begun.position}")
        raise


class _Watching:
    """Follows a path with one client after the other."""

    def __init__(self, context: Context, following: Following) -> None:
        self._context = context
        self._following = following
        self._woken = threading.Event()
        self._client: FaaSKeeperClient | None = None
        """The one with the watch."""

    def begin(self, since: int | None) -> None:
        """Set the watch, then begin: what happens in between is not missed."""
        self._context.call(self._following.begin, self._ready(), since)

    def _ready(self) -> FaaSKeeperClient:
        """The client, with a session and the watch; opens another session if that is lost."""
        self._context.connect()
        client = self._context.client
        if client is not self._client:
            client.add_listener(self._state)
            self._context.call(self._following.wakes, client, lambda event: self._woken.set())
            if self._client is not None:
                begun = self._following
                on = (
                    f"going on after transaction {begun.position}" if begun.resumes else "comparing all nodes"
                )
                output.print_error(f"fk: the session had ended; {on}")
            self._client = client
        return client

    def _state(self, state: SessionState) -> None:
        if state is SessionState.CONNECTED:
            self._following.lost()
        self._woken.set()

    def show(self, show: Callable[[Happened], None], number: int | None, timeout: float | None) -> None:
        """Show changes, at most ``number``. Raises Failed after ``timeout`` seconds without one."""
        shown, quiet_since, pause = 0, monotonic(), _AGAIN_S
        while True:
            self._woken.clear()
            try:
                changes = self._following.more(self._ready())
                while (happened := self._context.call(next, changes, None)) is not None:
                    show(happened)
                    shown, quiet_since = shown + 1, monotonic()
                    if shown == number:
                        return
                pause = _AGAIN_S
            except (DriverError, ProviderException, SessionExpiredException, TimeoutException) as error:
                output.print_error(f"fk: will retry in {pause:g} s: {error}")
                self._woken.clear()
                self._woken.wait(pause)
                pause = min(2 * pause, _AGAIN_MOST_S)
                continue
            left = POLL_S if timeout is None else quiet_since + timeout - monotonic()
            while left > 0 and not self._woken.wait(min(left, POLL_S)):
                left = POLL_S if timeout is None else quiet_since + timeout - monotonic()
            if left <= 0:
                raise Failed(f"no change within {timeout:g} s", 8)


# ---- showing -------------------------------------------------------------------------------------


def _print(happened: Happened) -> None:
    time = "-" if happened.time is None else when(happened.time)
    version = (
        "" if happened.new is None or happened.event == "created" else f" (version {happened.new.version})"
    )
    txid = "-" if happened.txid < 0 else happened.txid
    output.print_line(f"{txid} {time} {happened.event} {output.escaped(happened.path)}{version}")
    for sign, value in (("-", happened.old), ("+", happened.new)):
        if isinstance(value, Value) and value.data is not None:
            for line in output.escaped_data(value.data, "\n\t").split("\n"):
                output.print_line(f"  {sign} {line}")


def fields(happened: Happened) -> dict[str, Any]:
    """A change as JSON. Left out: what is not known, or was not asked for."""
    found: dict[str, Any] = {} if happened.txid < 0 else {"txid": happened.txid}
    found.update(event=happened.event, path=happened.path)
    if happened.time is not None:
        found["time"] = happened.time
    if happened.new is not None:
        found.update(_value(happened.new))
    if isinstance(happened.old, Value):
        found["old"] = _value(happened.old)
    return found


def _value(value: Value) -> dict[str, Any]:
    found: dict[str, Any] = {"version": value.version}
    if value.data is not None:
        try:
            found["data"] = value.data.decode()
        except UnicodeDecodeError:
            found["data"] = b2a_base64(value.data, newline=False).decode()
            found["encoding"] = "base64"
    return found


def _print_json(happened: Happened) -> None:
    output.print_line(output.json_line(fields(happened)))


class _Runs:
    """Runs a command for each change, and waits for it. ``resumes``: see :class:`Following`."""

    def __init__(self, words: str, resumes: bool) -> None:
        self._words = words
        self._resumes = resumes

    def __call__(self, happened: Happened) -> None:
        names = {
            "FK_EVENT": happened.event,
            "FK_PATH": happened.path,
            "FK_TXID": "" if happened.txid < 0 else str(happened.txid),
            "FK_TIME": "" if happened.time is None else str(happened.time),
            "FK_VERSION": "" if happened.new is None else str(happened.new.version),
        }
        line = output.json_line(fields(happened)).encode() + b"\n"
        done = subprocess.run(["sh", "-c", self._words], input=line, env={**os.environ, **names}, check=False)
        if done.returncode:
            on = f": go on with --since {happened.txid - 1}" if self._resumes else ""
            raise Failed(
                f"{self._words} failed with status {done.returncode} at {happened.event} {happened.path}{on}",
                1,
            )
