"""``fk mirror``: keeps a tree equal to another, to move from ZooKeeper or back to it."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from faaskeeper.cli import output
from faaskeeper.cli.arguments import Amount, Whole, text_of
from faaskeeper.cli.context import Context
from faaskeeper.cli.options import as_json, dry_run_option
from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from faaskeeper.core import paths
from faaskeeper.core.znode import CONTAINER, MAX_TTL_MS
from faaskeeper.mirror.copying import Wishes
from faaskeeper.mirror.cutting import Done, cut_over
from faaskeeper.mirror.errors import some
from faaskeeper.mirror.following import Mirror, Options, Running
from faaskeeper.mirror.trees import Tree
from faaskeeper.zookeeper import address

_TIMEOUT_S = 10
"""Of the mirror's sessions: a killed one holds its lock for so long."""


@click.command("mirror")
@click.argument("source")
@click.argument("target")
@click.option("--follow", is_flag=True, help="Go on with changes as they come, until Ctrl-C.")
@click.option("--cut-over", "cut", is_flag=True, help="Verify both trees, and end the mirror.")
@click.option("--overwrite", is_flag=True, help="Replace and delete what a target that is in use has.")
@click.option(
    "--quiet",
    type=Amount(86400),
    default=5,
    show_default=True,
    help="Cut over after this many seconds without a change in the source.",
)
@click.option("--leave-ephemerals", is_flag=True, help="Cut over although the source has ephemerals.")
@click.option(
    "--look",
    type=Amount(86400),
    default=30,
    show_default=True,
    help="List both trees every so many seconds: what has no event, like ACLs.",
)
@click.option(
    "--most-steps",
    type=Whole(0, 2**31 - 1),
    default=10_000,
    show_default=True,
    help="Raise a sequence counter by at most this many creates at a time.",
)
@click.option(
    "--container",
    "containers",
    multiple=True,
    metavar="GLOB",
    help="Create these znodes as containers: ZooKeeper does not say which are.",
)
@click.option(
    "--ttl", "lives", multiple=True, metavar="GLOB=MS", help="Create these znodes with a time to live."
)
@click.option("--map-id", "ids", multiple=True, metavar="SCHEME:ID=SCHEME:ID", help="Replace an id in ACLs.")
@click.option(
    "--source-auth",
    multiple=True,
    envvar="FK_SOURCE_AUTH",
    metavar="USER:PASSWORD",
    help="Credentials for the source. [$FK_SOURCE_AUTH]",
)
@click.option(
    "--target-auth",
    multiple=True,
    envvar="FK_TARGET_AUTH",
    metavar="USER:PASSWORD",
    help="Credentials for the target. [$FK_TARGET_AUTH]",
)
@dry_run_option
@as_json
@click.pass_obj
def mirror(
    context: Context,
    source: str,
    target: str,
    follow: bool,
    cut: bool,
    overwrite: bool,
    quiet: float,
    leave_ephemerals: bool,
    look: float,
    most_steps: int,
    containers: tuple[str, ...],
    lives: tuple[str, ...],
    ids: tuple[str, ...],
    source_auth: tuple[str, ...],
    target_auth: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
) -> None:
    """Make the tree TARGET equal to the tree SOURCE, and keep it so.

    A tree is CONFIG:/PATH (the configuration of a deployment), :/PATH (the deployment of --config, or
    the embedded service) or zk://HOST:PORT/PATH. Data and ACLs are copied; sequence counters are raised;
    ephemerals are listed, not copied. A mirror that was ended or killed goes on where it was: repeat the
    command. See docs/migrating.md.

    \b
    Examples:
      fk mirror zk://old:2181/app client.json:/app --follow
      fk mirror zk://old:2181/app client.json:/app --cut-over
      fk mirror client.json:/app zk://old:2181/app --follow
    """
    if cut and (follow or overwrite):
        raise click.UsageError("--cut-over ends a mirror: omit --follow and --overwrite")
    if dry_run and (follow or cut):
        raise click.UsageError("--dry-run shows what the first copy would do: omit --follow and --cut-over")
    shown = [("digest", text_of(each)) for each in (*context.auth, *target_auth)]
    wishes = Wishes(
        (*map(_life, lives), *((text_of(each), CONTAINER) for each in containers)), tuple(map(_ids, ids))
    )
    options = Options(wishes, overwrite, look, most_steps=most_steps, shown=shown)
    sides = [
        _opener(context, text_of(word), (*context.auth, *map(text_of, auth)))
        for word, auth in ((source, source_auth), (target, target_auth))
    ]
    made = Mirror(sides[0], sides[1], options, output.print_error)
    if dry_run:
        with made.opened() as opened:
            _show_plan(context, opened, as_json)
        return
    with _stopping(made):
        if follow:
            made.follow()
            return
        with made.running() as running:
            if cut:
                done = cut_over(running, quiet, leave_ephemerals)
                _show(context, running, done, text_of(source), text_of(target), as_json)
            elif as_json:
                context.print_json(_copied(running))
            else:
                _tell_ephemerals(running)
            _tell_behind(running.behind)


def _show(context: Context, running: Running, done: Done, source: str, target: str, as_json: bool) -> None:
    if as_json:
        context.print_json({"digest": done.digest, "znodes": done.znodes, "behind": _behind(running)})
        return
    context.print_line(f"{target} equals {source}: {done.znodes} znodes, digest {done.digest}")
    context.print_line(f"The mirror has ended. Point clients of {source} to {target} now:")
    if address.is_address(target):
        context.print_line(f"  connect string {target.partition('://')[2]}")
    else:
        config = target.rpartition(":/")[0]
        top = target[len(config) + 1 :]
        where = f" {config}" if config else ""
        context.print_line(f"  FaaSKeeper's clients: Config.load({config!r}), chroot {top}")
        context.print_line(f"  ZooKeeper's clients: 'fk serve{where}', connect string HOST:2181{top}")


def _copied(running: Running) -> dict[str, Any]:
    return {
        "znodes": running.znodes,
        "written": running.copier.written,
        "ephemerals": sorted(map(running.source.real, running.copier.ephemerals)),
        "behind": _behind(running),
    }


def _behind(running: Running) -> dict[str, int]:
    return {running.source.real(path): number for path, number in running.behind.items()}


def _show_plan(context: Context, opened: Running, as_json: bool) -> None:
    counted: Counter[str] = Counter()
    for what, path in opened.plan():
        counted[what] += 1
        context.say(as_json, {"operation": what, "path": path}, f"{what} {path}")
    _tell_ephemerals(opened)
    done = ", ".join(f"{what} {number}" for what, number in counted.items()) or "nothing"
    output.print_error(f"would do to {opened.target.name}: {done}")


def _tell_ephemerals(running: Running) -> None:
    if running.copier.ephemerals:
        output.print_error(
            f"not copied, ephemerals: {some(map(running.source.real, running.copier.ephemerals))}"
        )


def _tell_behind(behind: dict[str, int]) -> None:
    if behind:
        output.print_error(
            f"sequence counters lack more than --most-steps below {some(path or '/' for path in behind)}"
        )


def _opener(context: Context, word: str, auth: tuple[str, ...]) -> Callable[[], Tree]:
    config, top, name = _place(context, word)

    def opened() -> Tree:
        client = FaaSKeeperClient(config, verbose=context.verbose, session_timeout=_TIMEOUT_S)
        for credential in auth:
            client.add_auth("digest", credential)
        client.start()
        return Tree(client, top, name)

    return opened


def _place(context: Context, word: str) -> tuple[Config, str, str]:
    """Deployment, path and name of CONFIG:/PATH or zk://HOST:PORT/PATH."""
    if address.is_address(word):
        whole = Config.load(word)
        place = address.of(whole.provider_config)
        servers = word.partition("?")
        head = servers[0].split("/", 3)
        config = Config.load("/".join(head[:3]) + "".join(servers[1:]))
        return config, place.chroot, str(place)
    file, colon, top = word.rpartition(":/")
    top = f"/{top}".rstrip("/") or "/"
    wrong = paths.invalid(top)
    if not colon or wrong is not None:
        raise click.UsageError(f"{word!r} is not a tree: write CONFIG:/PATH or zk://HOST:PORT/PATH")
    if top == "/zookeeper" or top.startswith("/zookeeper/"):
        raise click.UsageError(f"{top} is every deployment's own: it is not mirrored")
    config = Config.load(file) if file else context.config
    return config, top, f"{config.deployment_name}:{top}"


def _life(word: str) -> tuple[str, int]:
    pattern, _, ms = text_of(word).rpartition("=")
    if not pattern:
        raise click.UsageError(f"--ttl {word!r} is not GLOB=MS")
    return pattern, Whole(1, MAX_TTL_MS).convert(ms, None, None)


def _ids(word: str) -> tuple[tuple[str, str], tuple[str, str]]:
    old, equals, new = text_of(word).partition("=")
    pairs = [tuple(each.split(":", 1)) for each in (old, new)]
    if not equals or any(len(each) != 2 for each in pairs):
        raise click.UsageError(f"--map-id {word!r} is not SCHEME:ID=SCHEME:ID")
    return (pairs[0][0], pairs[0][1]), (pairs[1][0], pairs[1][1])


@contextmanager
def _stopping(made: Mirror) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM ends a mirror between two transactions, the second one at once."""

    def stop(number: int, frame: Any) -> None:
        signal.signal(number, before[signal.Signals(number)])
        made.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
