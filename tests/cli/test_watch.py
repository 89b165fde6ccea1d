"""``fk watch`` shows each change of a path once, in order, also beyond the end of its session."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from faaskeeper.cli.commands import watch as command
from faaskeeper.cli.context import Context
from faaskeeper.cli.errors import Failed
from faaskeeper.cli.following import ByLog, ByReads, Following, Happened, Unknown, Value, tree
from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from faaskeeper.exceptions import FaaSKeeperException
from faaskeeper.testing.patience import PATIENCE_S
from tests.cli.console import Fk

Start = Callable[..., FaaSKeeperClient]
PATHS = ("/a", "/a/b", "/a/b/c", "/a/d", "/other")


@pytest.fixture
def fk(tmp_path: Path) -> Fk:
    return Fk(tmp_path)


def write(client: FaaSKeeperClient, seed: int, number: int = 200) -> None:
    """Random changes, in pipelines and transactions: entries have several, and paths change twice in one."""
    rng = random.Random(seed)
    waiting = []
    for turn in range(number):
        path = rng.choice(PATHS)
        data = b"%d" % turn * (20_000 if rng.random() < 0.05 else 1)
        kind = rng.random()
        if kind < 0.4:
            waiting.append(client.create_async(path, data))
        elif kind < 0.7:
            waiting.append(client.set_data_async(path, data))
        elif kind < 0.85:
            waiting.append(client.delete_async(path))
        else:
            transaction = client.transaction()
            if client.exists(path) is None:
                transaction.create(path, data)
            transaction.set_data(path, data + b"!").delete(path)
            if rng.random() < 0.7:
                transaction.create(path, b"again")
            client.commit(transaction.parts)
    for each in waiting:
        try:
            each.get()
        except FaaSKeeperException:
            continue  # no such node, or there is one


class Replay:
    """The state that changes lead to, which must be what each change says it was."""

    def __init__(self, state: dict[str, bytes] | None = None) -> None:
        self.state = state or {}
        self.unknown = 0
        self.txids: list[int] = []

    def take(self, happened: Happened) -> None:
        self.txids.append(happened.txid)
        before = self.state.pop(happened.path, None)
        if isinstance(happened.old, Value):
            assert happened.old.data == before
        elif isinstance(happened.old, Unknown):
            self.unknown += 1
        else:
            assert before is None
        if happened.new is not None:
            assert happened.new.data is not None
            self.state[happened.path] = happened.new.data


def state_of(client: FaaSKeeperClient, path: str) -> dict[str, bytes]:
    return {each.path: each.data for each in tree(client, path, True, True)}


@pytest.mark.parametrize("seed", range(3))
def test_changes_from_the_beginning_lead_to_what_is_there(seed: int, connect: Start) -> None:
    writer, reader = connect(), connect()
    write(writer, seed)
    follow = ByLog("/a", True, True)
    follow.begin(reader, 0)
    replay = Replay()
    for each in follow.more(reader):
        replay.take(each)
    reader.sync()
    assert replay.state == state_of(reader, "/a")
    assert replay.unknown == 0
    assert replay.txids == sorted(replay.txids)
    assert list(follow.more(reader)) == []


def test_changes_since_any_transaction_are_those_after_it(connect: Start) -> None:
    writer, reader = connect(), connect()
    write(writer, 7)

    def since(txid: int) -> list[Happened]:
        follow = ByLog("/", True, False)
        follow.begin(reader, txid)
        return list(follow.more(reader))

    everything = since(0)
    entries, _ = reader.connection.log.after(0, 10_000)
    assert any(each.last > each.first for each in entries)  # the middle of an entry is tried, too
    last = entries[-1].last
    for txid in range(0, last + 1, 3):
        assert since(txid) == [each for each in everything if each.txid > txid]
    assert since(last) == []
    with pytest.raises(Failed, match=f"transaction {last + 1} has not happened yet: the log ends at {last}"):
        since(last + 1)


def test_a_watch_from_now_on_knows_what_was_there(connect: Start) -> None:
    writer, reader = connect(), connect()
    write(writer, 1)
    follow = ByLog("/", True, True)
    follow.begin(reader, None)
    replay = Replay(state_of(reader, "/"))
    write(writer, 2)
    for each in follow.more(reader):
        replay.take(each)
    reader.sync()
    assert replay.state == state_of(reader, "/")
    assert replay.unknown == 0


def test_a_node_is_watched_with_its_children_s_coming_and_going(connect: Start) -> None:
    client = connect()
    follow = ByLog("/a", False, False)
    follow.begin(client, None)
    client.create("/a", b"1")
    client.create("/a/b", b"")
    client.set_data("/a/b", b"not shown")
    client.set_acls("/a", client.get_acls("/a")[0])  # nor this
    client.set_data("/a", b"2")
    client.delete("/a/b")
    client.delete("/a")
    shown = [(each.event, each.path) for each in follow.more(client)]
    assert shown == [(event, "/a") for event in ("created", "children", "changed", "children", "deleted")]


def test_what_a_transaction_creates_and_deletes_was_never_there(connect: Start) -> None:
    client = connect()
    follow = ByLog("/", True, True)
    follow.begin(client, None)
    client.commit(
        client.transaction().create("/a", b"").delete("/a").create("/b", b"1").set_data("/b", b"2").parts
    )
    (one,) = follow.more(client)
    assert (one.event, one.path, one.new, one.old) == ("created", "/b", Value(1, b"2"), None)


def test_data_that_may_not_be_read_is_not_shown(connect: Start) -> None:
    owner, other = connect(), connect()
    owner.add_auth("digest", "u:p")
    follow = ByLog("/", True, True)
    follow.begin(other, None)
    owner.create("/secret", b"xyz", acl=[(31, "auth", "")])
    owner.set_data("/secret", b"abc")
    assert [(each.event, each.new) for each in follow.more(other)] == [
        ("created", Value(0, None)),
        ("changed", Value(1, None)),
    ]


def test_a_log_without_the_beginning_says_so(connect: Start) -> None:
    client = connect()
    for number in range(20):
        client.create(f"/n{number}")
    log = client.connection.log
    entries, _ = log.after(0, 10)
    log.trim(entries)
    first = entries[-1].last + 1
    with pytest.raises(Failed, match=rf"the log begins at transaction {first}: .* Use --since {first - 1}"):
        ByLog("/", True, False).begin(client, 3)
    follow = ByLog("/", True, False)
    follow.begin(client, first - 1)
    assert len(list(follow.more(client))) == 20 - len(entries) + 1


def test_reads_lead_to_the_same_state(connect: Start) -> None:
    writer, reader = connect(), connect()
    write(writer, 3)
    follow = ByReads("/", True, True)
    follow.wakes(reader, lambda event: None)
    follow.begin(reader, None)
    state = state_of(reader, "/")
    for seed in range(4, 8):
        write(writer, seed, 50)
        reader.sync()
        if seed == 6:
            follow.wakes(reader, lambda event: None)  # as after a loss of the session
        for each in follow.more(reader):
            if each.new is None:
                del state[each.path]
            else:
                assert each.new.data is not None
                state[each.path] = each.new.data
    # An event may still be on its way to the callbacks' thread, and a state may be newer than an event.
    done = threading.Event()
    reader.call_later(done.set)
    assert done.wait(PATIENCE_S)
    for each in follow.more(reader):
        if each.new is None:
            del state[each.path]
        else:
            assert each.new.data is not None
            state[each.path] = each.new.data
    assert state == state_of(reader, "/")
    with pytest.raises(Failed, match="--since needs a log"):
        follow.begin(reader, 1)


# ---- the command -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ByLog, ByReads])
def test_a_session_that_is_lost_leaves_no_gap(
    kind: type[Following], config: Config, connect: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = connect()
    context = Context(config)
    watching = command._Watching(context, kind("/a", True, True))
    watching.begin(None)
    seen: list[tuple[str, str]] = []
    first, last = threading.Event(), threading.Event()

    def show(happened: Happened) -> None:
        seen.append((happened.event, happened.path))
        first.set()
        if happened.path == "/a/last":
            last.set()
            raise Failed("that is all", 0)

    def run() -> None:
        with pytest.raises(Failed, match="that is all"):
            watching.show(show, None, None)

    thread = threading.Thread(target=run)
    thread.start()
    writer.create("/a", b"")
    assert first.wait(PATIENCE_S)
    client = context.connected
    assert client is not None
    lost = client.session_id
    session = client.session
    assert session is not None
    lease = client.connection.leases.get(session.id)
    assert lease is not None
    client.connection.leases.mark(lease)  # as heartbeat does
    session.renew()
    for number in range(20):
        writer.create(f"/a/{number}", b"")
    writer.create("/a/last", b"")
    assert last.wait(PATIENCE_S)
    thread.join(PATIENCE_S)
    expected = [
        ("created", "/a"),
        *(("created", f"/a/{number}") for number in range(20)),
        ("created", "/a/last"),
    ]
    assert sorted(seen) == sorted(expected)
    if kind is ByLog:
        assert seen == expected
    assert client.session_id != lost
    on = "going on after transaction" if kind is ByLog else "comparing all nodes"
    assert f"the session had ended; {on}" in capsys.readouterr().err
    context.close()


def test_a_command_gets_each_change_in_its_order(fk: Fk) -> None:
    for words in ("create /a one", "set /a two", "create /a/b x", "delete /a/b", "set /a three"):
        fk.said(*words.split())
    script = "echo $FK_EVENT $FK_PATH $FK_VERSION; cat"
    out = fk.said("watch", "/a", "-r", "--since", "0", "--data", "-n", "5", "--exec", script).splitlines()
    assert out[::2] == ["created /a 0", "changed /a 1", "created /a/b 0", "deleted /a/b", "changed /a 2"]
    changes = [json.loads(line) for line in out[1::2]]
    assert [each.get("data") for each in changes] == ["one", "two", "x", None, "three"]
    assert changes[4]["old"] == {"version": 1, "data": "two"}


def test_a_command_that_fails_ends_the_watch_with_where_to_go_on(fk: Fk) -> None:
    fk.said("create", "/a")
    fk.said("set", "/a", "x")
    done = fk.run("watch", "/a", "--since", "0", "--exec", "test $FK_EVENT = created")
    assert done.returncode == 1
    since = done.stderr.decode().strip().rpartition(" ")[2]
    for position in (since, hex(int(since))):
        done = fk.run("watch", "/a", "--since", position, "-n", "1", "--json")
        assert json.loads(done.stdout)["event"] == "changed"


def test_a_watch_without_a_change_is_over_in_time(fk: Fk) -> None:
    done = fk.run("watch", "/a", "--timeout", "0.1")
    assert done.returncode == 8
    assert b"fk: no change within 0.1 s" in done.stderr


def test_a_restored_deployment_ends_a_watch_with_an_error(fk: Fk, tmp_path: Path) -> None:
    fk.said("create", "/a", "x")
    backup = str(tmp_path / "backup.gz")
    fk.said("backup", "--to", backup)
    fk.said("restore", "--from", backup, "--yes", "--end-sessions")
    done = fk.run("watch", "/", "-r", "--since", "0")
    assert done.returncode == 1
    assert b"created /a" in done.stdout
    assert b"the deployment was set to the backup" in done.stderr
