"""``fk lock``: runs a command while a lock is held."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from collections.abc import Callable, Sequence
from functools import partial

import click

from faaskeeper.cli import output
from faaskeeper.cli.arguments import Amount, Whole, text_of
from faaskeeper.cli.context import Context
from faaskeeper.cli.errors import KINDS, Failed
from faaskeeper.cli.holding import Ended, Holding, Signals, grace_within
from faaskeeper.cli.options import command, path
from faaskeeper.client import FaaSKeeperClient
from faaskeeper.core.deployment import MAX_TIMEOUT_MS, MIN_TIMEOUT_MS
from faaskeeper.exceptions import FaaSKeeperException
from faaskeeper.recipes import Lock, ReadLock, Semaphore, WriteLock


@command("lock")
@path
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND...")
@click.option("--semaphore", type=Whole(1, 10**6), metavar="N", help="Held by N at a time.")
@click.option("--election", is_flag=True, help="Run while leader, as the recipe Election: a lock.")
@click.option("--read", is_flag=True, help="Share the lock with other readers.")
@click.option("--write", is_flag=True, help="Exclude readers and others: as the recipe WriteLock.")
@click.option("--wait", type=Amount(31_536_000), help="Wait at most this many seconds; 0: not at all.")
@click.option(
    "-E",
    "--conflict-exit-code",
    "conflict",
    type=Whole(0, 255),
    default=1,
    show_default=True,
    help="Exit status if --wait is over.",
)
@click.option(
    "--grace",
    type=Amount(3600),
    help="Seconds from SIGTERM to SIGKILL if the lock may be lost. Default: 5, or what fits.",
)
@click.option(
    "--session-timeout",
    type=Amount(MAX_TIMEOUT_MS / 1000),
    help="Seconds until another may hold the lock if this process fails. Default: the configuration's.",
)
@click.option("--identifier", help="Shown by 'fk who'. Default: HOST:PROCESS.")
@click.option("--json", is_flag=True, expose_value=False, help="Print errors as JSON.")
def lock(
    context: Context,
    path: str,
    words: Sequence[str],
    semaphore: int | None,
    election: bool,
    read: bool,
    write: bool,
    wait: float | None,
    conflict: int,
    grace: float | None,
    session_timeout: float | None,
    identifier: str | None,
) -> None:
    """Run a command while a lock is held.

    The command ends before another can hold the lock: if the session may be lost, it gets SIGTERM,
    and SIGKILL after --grace. FK_FENCING_TOKEN is higher than that of any earlier holder: have the
    resource that the lock protects refuse lower ones.

    \b
    Examples:
      lock /jobs/nightly --wait 0 -- ./nightly.sh
      lock /gpu --semaphore 2 -- python train.py
      lock /leader --election -- ./server

    \b
    Exit status: the command's; 128+N: a signal N ended it.
      1         the lock was lost, or the service failed; --wait is over (-E)
      126, 127  the command cannot be run, or is not there
    """
    if sum((semaphore is not None, election, read, write)) > 1:
        raise click.UsageError("--semaphore, --election, --read and --write exclude each other")
    if session_timeout is not None and session_timeout < MIN_TIMEOUT_MS / 1000:
        raise click.UsageError(f"--session-timeout must be at least {MIN_TIMEOUT_MS // 1000}")
    grace_within(grace, session_timeout or context.config.session_timeout)
    if shutil.which(words[0]) is None:
        there = os.sep in words[0] and os.path.exists(words[0])
        what = "it is not executable" if there else "no such command"
        raise Failed(f"cannot run {words[0]}: {what}", 126 if there else 127)
    name = text_of(identifier) if identifier is not None else f"{socket.gethostname()}:{os.getpid()}"
    kind: type[Lock] = ReadLock if read else WriteLock if write else Lock
    make: Callable[[FaaSKeeperClient], Lock] = partial(kind, path=path, identifier=name)
    if semaphore is not None:
        make = partial(Semaphore, path=path, leases=semaphore, identifier=name)
    context.session_timeout = session_timeout
    signals = Signals()
    with signals.handled():
        try:
            context.status = _hold(context, make, words, wait, conflict, grace, signals)
        except Ended as ended:
            raise Failed(f"ended by {signal.Signals(ended.number).name}", 128 + ended.number) from None
        finally:
            signals.forward = lambda number: None  # one signal is enough: the lock is to be released
            _release(context, path)


def _hold(
    context: Context,
    make: Callable[[FaaSKeeperClient], Lock],
    words: Sequence[str],
    wait: float | None,
    conflict: int,
    grace: float | None,
    signals: Signals,
) -> int:
    """Acquire the lock and run the command; returns the exit status."""
    client = context.client
    lasts = grace_within(grace, client.session_timeout)  # a ZooKeeper server may have granted less
    lock = make(client)
    if not context.call(lock.acquire, wait):
        before = ", ".join(context.call(lock.contenders))
        why = f"{lock.path} was not free within {wait:g} s{before and f': {before}'}"
        raise Failed(why, conflict, KINDS[8])
    holding = Holding(client, lock, lasts)
    context.call(holding.prepare)
    names = {
        "FK_FENCING_TOKEN": str(lock.token),
        "FK_LOCK_PATH": lock.path,
        "FK_LOCK_NODE": lock.node or "",
        "FK_SESSION": client.session_id or "",
    }
    return holding.run(words, {**os.environ, **names}, signals)


def _release(context: Context, path: str) -> None:
    """Close the session, and with it release the lock."""
    try:
        context.close()
    except FaaSKeeperException as error:
        output.print_error(f"fk: {path} is released when its session ends, not before: {error}")
