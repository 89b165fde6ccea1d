"""Every moment that is retained is answered as it was, to who may read it then and now."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from faaskeeper.backup.file import Writer, read
from faaskeeper.backup.restoring import restore
from faaskeeper.backup.taking import take
from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from faaskeeper.core.acl import digest
from faaskeeper.core.changes import NOTHING, Change, Replaced, Transaction, acl_bytes
from faaskeeper.core.changes import trimmed as trimmed_acls
from faaskeeper.core.errors import Code, Unavailable
from faaskeeper.core.log import Answers, Entry
from faaskeeper.core.requests import Outcome
from faaskeeper.core.znode import Meta
from faaskeeper.exceptions import (
    BeforeHistoryException,
    MalformedInputException,
    NoAuthException,
)
from faaskeeper.providers.local.backups import LocalBackups
from faaskeeper.providers.local.service import EmbeddedService
from faaskeeper.session.commands import ReadEntries
from faaskeeper.session.history import acl_of, sessions_of
from faaskeeper.session.interpreter import Interpreter
from tests.remembered import Remembered, state

Start = Callable[..., FaaSKeeperClient]


@pytest.mark.parametrize("seed", range(3))
def test_each_state_of_a_random_program_is_found_again(client: FaaSKeeperClient, seed: int) -> None:
    program = Remembered(client, seed)
    for _ in range(60):
        program.write()
    assert program.agree(0) == len(program.states)


class Trimmed:
    """An embedded service that trims when it is told to, and then as much as it is told to."""

    def __init__(self, config: Config, make: Start) -> None:
        self.config = config
        self.make = make
        self.left = 0
        """How often the log is to be found too large."""
        self.start()

    def start(self) -> None:
        self.service = EmbeddedService(self.config, Path(self.config.directory), beat=False)
        deployment = self.service.deployment
        deployment.save_every = 1
        deployment.retention = deployment.retention._replace(most=0, used=self.used)
        connection = self.service.connection
        self.client = self.make(self.config, connect=lambda config, port: connection(port, lambda: None))
        self.client.start()

    def used(self) -> int:
        self.left -= 1
        return int(self.left >= 0)

    def trim(self, pieces: int = 1) -> int:
        """Trim; returns the oldest transaction that can be answered now."""
        self.left = pieces and pieces + 1  # the first look says whether to trim at all
        self.service.heartbeat.sweep()
        return self.horizon

    @property
    def horizon(self) -> int:
        keeper = self.service.deployment.keeper
        assert keeper is not None
        return keeper.of("/").horizon

    def stop(self) -> None:
        self.client.stop()
        self.service.stop()


@pytest.fixture
def trimmed(config: Config, make: Start) -> Iterator[Trimmed]:
    service = Trimmed(config, make)
    yield service
    service.stop()


@pytest.mark.parametrize("seed", range(4))
def test_each_state_that_is_retained_is_found_again_however_the_log_was_trimmed(
    trimmed: Trimmed, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("faaskeeper.core.sweeping._ENTRIES", 7)
    program = Remembered(trimmed.client, seed)
    for _ in range(8):
        for _ in range(12):
            program.write()
        horizon = trimmed.trim(program.random.randrange(3))
        assert program.agree(horizon)
    assert horizon > 10


def test_a_trim_that_was_cut_off_is_done_again(trimmed: Trimmed, monkeypatch: pytest.MonkeyPatch) -> None:
    program = Remembered(trimmed.client, 5)
    for _ in range(80):
        program.write()
    log = trimmed.service.deployment.log

    def cut_off(entries: object) -> None:
        raise Unavailable("cut off")

    with monkeypatch.context() as patched:
        patched.setattr(log, "trim", cut_off)
        with pytest.raises(Unavailable):
            trimmed.trim()
    horizon = trimmed.horizon
    assert horizon > 0
    assert log.after(0)[0][0].first == 1  # nothing was trimmed before all else was durable
    assert program.agree(horizon)
    for _ in range(20):
        program.write()
    assert trimmed.trim() >= horizon
    assert log.after(trimmed.horizon)[0][0].first == trimmed.horizon + 1
    assert program.agree(trimmed.horizon)


def test_a_path_that_was_not_written_for_long_is_known_as_it_was(trimmed: Trimmed) -> None:
    client = trimmed.client
    client.create("/cold", b"for years")
    client.create("/cold/child")
    for number in range(60):
        client.create(f"/n{number}")
    horizon = trimmed.trim()
    before = state(client, "/cold")
    keeper = trimmed.service.deployment.keeper
    assert keeper is not None
    image = keeper.of("/cold").image  # the file's record, which memory may be ahead of
    assert image is not None
    assert image.data == b"for years"
    client.create("/cold/another")  # replaces the parent's image, not its data
    client.set_data("/cold", b"new")
    client.delete("/cold/child")
    assert horizon > 3
    assert state(client, "/cold", at=horizon) == before
    assert state(client, "/cold/child", at=horizon) is not None
    trimmed.stop()
    trimmed.start()
    assert state(trimmed.client, "/cold", at=horizon) == before


def test_what_was_trimmed_leaves_nothing_behind_for_paths_that_did_not_change_since(trimmed: Trimmed) -> None:
    client = trimmed.client
    for number in range(60):
        client.create(f"/n{number}", b"x")
        client.set_data(f"/n{number}", b"y")
    trimmed.trim(9)
    kept = trimmed.service._state_file.read("SELECT path FROM kept", ())
    assert {path for (path,) in kept} <= {"/", "/n59"}


def test_a_directory_of_a_release_that_kept_nothing_says_what_it_does_not_know(trimmed: Trimmed) -> None:
    client = trimmed.client
    client.create("/replaced", b"1")
    client.create("/stays", b"1")
    for number in range(60):
        client.create(f"/n{number}")
    trimmed.trim()
    horizon = trimmed.horizon
    client.set_data("/replaced", b"2")
    trimmed.service._state_file.write("DELETE FROM kept", ())
    trimmed.service._state_file.write("DELETE FROM history_horizon", ())
    trimmed.stop()
    trimmed.start()
    client = trimmed.client
    assert trimmed.horizon <= horizon
    with pytest.raises(BeforeHistoryException, match="is not retained"):
        client.get_data("/replaced", at=horizon)
    assert client.get_data("/stays", at=horizon).data == b"1"
    now = client.set_data("/stays", b"2").stat.mzxid
    assert client.get_data("/stays", at=now - 1).data == b"1"


def test_what_an_earlier_release_trimmed_meanwhile_is_not_answered_by_what_was_kept_before(
    trimmed: Trimmed,
) -> None:
    client = trimmed.client
    client.create("/a", b"1")
    for number in range(60):
        client.create(f"/n{number}")
    old = trimmed.trim()
    client.set_data("/a", b"2")
    middle = client.set_data("/a", b"3").stat.mzxid
    last = client.set_data("/a", b"4").stat.mzxid
    assert client.get_data("/a", at=old).data == b"1"
    log = trimmed.service.deployment.log
    log.trim([entry for entry in log.after(old)[0] if entry.last <= middle])
    trimmed.stop()
    trimmed.start()
    client = trimmed.client
    assert client.get_data("/a", at=last).data == b"4"
    with pytest.raises(BeforeHistoryException, match="before the retained history"):
        client.get_data("/a", at=old)
    with pytest.raises(BeforeHistoryException, match="is not retained"):
        client.get_data("/a", at=middle)


def test_the_history_of_a_restored_directory_begins_with_the_restore(
    config: Config, make: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("faaskeeper.core.sweeping._ENTRIES", 7)
    trimmed = Trimmed(config, make)
    trimmed.client.create("/a", b"backed up")
    trimmed.client.create("/a/child", b"1")
    backups = LocalBackups(config)
    with open(tmp_path / "backup", "wb") as file, backups.source() as source:
        tree, sink = take(source, lambda: Writer(file, "x", 0), print)
        sink.end(tree.zxid, tree.time, len(tree.nodes))  # type: ignore[attr-defined]
    for number in range(60):
        trimmed.client.set_data("/a", b"lost")
        trimmed.client.create(f"/a/n{number}", b"lost")
    before = trimmed.trim()
    assert before
    trimmed.client.stop()
    trimmed.service.stop()
    with backups.target() as target:
        base = restore(target, read(tmp_path / "backup"), end_sessions=True).zxid
    trimmed.start()
    client = trimmed.client
    assert client.get_data("/a", at=base).data == b"backed up"
    client.set_data("/a", b"new")
    client.delete("/a/child")
    try:
        for _ in range(2):
            with pytest.raises(BeforeHistoryException):
                client.get_data("/a", at=before)
            assert client.get_data("/a", at=base).data == b"backed up"
            assert client.get_data("/a/child", at=base).data == b"1"
            assert state(client, "/a/n7", at=base) is None
            assert client.get_data("/a").data == b"new"
            for first in (True, False):
                rows = client.history("/", recursive=True, newest_first=first)
                told = [(row.path, row.kind) for row in rows]
                assert sorted(told) == [("/a", "set"), ("/a/child", "deleted")]
            assert trimmed.trim() == base  # more of what was before the restore
    finally:
        trimmed.stop()


# ---- moments and revisions -----------------------------------------------------------------------


def test_a_moment_is_a_transaction_or_a_time(client: FaaSKeeperClient) -> None:
    first = client.create("/a", b"1").stat
    second = client.set_data("/a", b"2").stat
    now = datetime.now().astimezone()
    assert client.get_data("/a", at=first.mzxid).data == b"1"
    assert client.get_data("/a", at=now + timedelta(hours=1)).data == b"2"
    if second.mtime > first.mtime:
        at = datetime.fromtimestamp(first.mtime / 1000)
        assert client.get_data("/a", at=at + timedelta(microseconds=500)).data == b"1"
    with pytest.raises(BeforeHistoryException):
        client.get_data("/a", at=now - timedelta(days=1))
    with pytest.raises(MalformedInputException, match="no transaction 1000 yet"):
        client.get_data("/a", at=1000)
    for wrong in (-1, True, "yesterday", 1.5):
        with pytest.raises(MalformedInputException):
            client.get_data("/a", at=wrong)  # type: ignore[arg-type]
    with pytest.raises(MalformedInputException, match="takes no watch"):
        client.get_data("/a", print, at=1)  # type: ignore[arg-type]


def test_revisions_say_what_who_and_when(client: FaaSKeeperClient, connect: Start) -> None:
    client.create("/a", b"1")
    client.add_auth("digest", "bob:secret")
    client.set_data("/a", b"22")
    client.create("/a/child", b"x")
    other = connect()
    other.set_acls("/a", [(31, "world", "anyone"), (1, "ip", "::1")])
    other.delete("/a/child")
    other.create("/elsewhere")
    rows = list(client.history("/a", recursive=True, newest_first=False))
    mine, others = client.session_id, other.session_id
    shown = [(row.path, row.kind, row.session, row.by, row.replaced, row.version, row.size) for row in rows]
    assert shown == [
        ("/a", "created", mine, (), None, 0, 1),
        ("/a", "set", mine, ("digest:bob",), 0, 1, 2),
        ("/a/child", "created", mine, ("digest:bob",), None, 0, 1),
        ("/a", "acl", others, None, 1, 1, 2),
        ("/a/child", "deleted", others, (), 0, None, None),
    ]
    assert rows[1].replaces == rows[0].txid
    assert [row.data for row in rows[:3]] == [b"1", b"22", b"x"]
    assert all(row.time == rows[0].time or row.time > rows[0].time for row in rows)
    assert list(client.history("/a", True)) == rows[::-1]
    assert list(client.history("/a")) == [row for row in rows[::-1] if row.path == "/a"]
    assert list(client.history("/a", True, session=others)) == rows[:2:-1]
    since, until = rows[0].txid, rows[3].txid
    assert list(client.history("/a", True, since=since, until=until)) == rows[3:0:-1]
    assert list(client.history("/never")) == []


def test_the_revisions_of_a_long_log_come_in_order_both_ways(
    client: FaaSKeeperClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("faaskeeper.session.history._PIECE", 4)
    monkeypatch.setattr("faaskeeper.session.history._FULL", 16)
    for number in range(150):
        client.create(f"/n{number}", b"x")
        if number % 30 == 0:
            client.set_data("/n0", b"y")
    rows = list(client.history("/", recursive=True))
    assert [row.txid for row in rows] == sorted((row.txid for row in rows), reverse=True)
    assert len(rows) == 155
    assert list(client.history("/", recursive=True, newest_first=False)) == rows[::-1]
    assert len(list(client.history("/n0"))) == 6


# ---- rights --------------------------------------------------------------------------------------

OPEN = [(31, "world", "anyone")]
BOB = [(31, "digest", digest("bob:secret"))]


def kinds(client: FaaSKeeperClient, path: str) -> list[str]:
    both = [[row.kind for row in client.history(path, newest_first=first)] for first in (True, False)]
    assert both[0] == both[1][::-1]
    return both[1]


def test_the_past_is_read_by_who_may_read_then_and_now(client: FaaSKeeperClient, connect: Start) -> None:
    bob = connect()
    bob.add_auth("digest", "bob:secret")
    born = bob.create("/secret", b"1", acl=BOB).stat.mzxid
    opened = bob.set_acls("/secret", OPEN)
    published = bob.set_data("/secret", b"2").stat.mzxid
    assert opened.stat.aversion == 1
    with pytest.raises(NoAuthException):
        client.get_data("/secret", at=born)
    assert client.get_data("/secret", at=published).data == b"2"
    assert kinds(client, "/secret") == ["acl", "set"]
    bob.set_acls("/secret", BOB)
    with pytest.raises(NoAuthException):
        client.get_data("/secret", at=published)
    assert kinds(client, "/secret") == []
    assert kinds(bob, "/secret") == ["created", "acl", "set", "acl"]
    assert bob.get_data("/secret", at=born).data == b"1"


def test_of_a_deleted_node_the_last_acl_counts(client: FaaSKeeperClient, connect: Start) -> None:
    bob = connect()
    bob.add_auth("digest", "bob:secret")
    written = bob.create("/gone", b"1").stat.mzxid
    bob.set_acls("/gone", BOB)
    bob.delete("/gone")
    with pytest.raises(NoAuthException):
        client.get_data("/gone", at=written)
    assert kinds(client, "/gone") == []
    assert bob.get_data("/gone", at=written).data == b"1"
    assert kinds(bob, "/gone") == ["created", "acl", "deleted"]
    bob.create("/gone", b"2")
    assert client.get_data("/gone", at=written).data == b"1"  # it is another node's ACL now
    assert kinds(client, "/gone") == ["created", "created"]


def test_hashes_are_shown_to_who_had_admin_then_and_has_it_now(
    client: FaaSKeeperClient, connect: Start
) -> None:
    bob = connect()
    bob.add_auth("digest", "bob:secret")
    shared = [*BOB, (31, "digest", digest("ann:pass"))]
    born = bob.create("/a", acl=shared).stat.mzxid
    ann = connect()
    ann.add_auth("digest", "ann:pass")
    assert [tuple(each) for each in ann.get_acls("/a", at=born)[0]] == shared
    bob.set_acls("/a", [*BOB, (1, "world", "anyone")])
    hidden = [(31, "digest", "bob:x"), (31, "digest", "ann:x")]
    assert [tuple(each) for each in ann.get_acls("/a", at=born)[0]] == hidden
    assert [tuple(each) for each in bob.get_acls("/a", at=born)[0]] == shared
    with pytest.raises(NoAuthException):
        client.get_acls("/a", at=born)


def test_where_the_log_has_a_gap_nothing_before_it_tells_who_may_read(connect: Start) -> None:
    bob = connect()
    bob.add_auth("digest", "bob:secret")
    bob.create("/secret", b"1")
    closed = bob.set_acls("/secret", BOB).stat
    bob.create("/other")
    log = bob.connection.log
    anybody = connect()
    assert kinds(anybody, "/secret") == []
    entries = log.after(0)[0]
    log.trim(
        [
            each
            for each in entries
            for one in each.transactions
            for change in one.changes
            if change.letters == "A"
        ]
    )
    assert closed.aversion == 1
    assert kinds(anybody, "/secret") == []
    assert [row.path for row in anybody.history("/", recursive=True)] == ["/other"]


def test_what_came_and_went_in_one_transaction_hides_nothing(client: FaaSKeeperClient) -> None:
    client.create("/a", b"1")
    client.delete("/a")
    with client.transaction() as together:
        together.create("/a", b"2")
        together.delete("/a")
    assert kinds(client, "/a") == ["created", "deleted"]


def test_what_was_kept_before_a_restore_of_an_earlier_release_is_not_shown_after_it(
    config: Config, make: Start, tmp_path: Path
) -> None:
    trimmed = Trimmed(config, make)
    trimmed.client.create("/a", b"before the restore")
    backups = LocalBackups(config)
    trimmed.client.create("/b")
    trimmed.trim()
    with open(tmp_path / "backup", "wb") as file, backups.source() as source:
        tree, sink = take(source, lambda: Writer(file, "x", 0), print)
        sink.end(tree.zxid, tree.time, len(tree.nodes))  # type: ignore[attr-defined]
    trimmed.client.set_data("/a", b"lost")
    trimmed.stop()
    with backups.target() as target:
        target.deployment.keeper = None
        base = restore(target, read(tmp_path / "backup"), end_sessions=True).zxid
    trimmed.start()
    try:
        trimmed.client.set_data("/a", b"new")
        with pytest.raises(BeforeHistoryException):
            trimmed.client.get_data("/a", at=base)
        assert trimmed.client.get_data("/a").data == b"new"
    finally:
        trimmed.stop()


# ---- entries -------------------------------------------------------------------------------------


def entry(transactions: list[Transaction], *answers: tuple[int, Outcome]) -> Entry:
    told = [Answers(session, 0, 0, "", ((1, outcome),)) for session, outcome in answers]
    return Entry(transactions[0].txid, transactions[-1].txid, 0, tuple(transactions), tuple(told))


def test_a_check_alone_does_not_count_for_the_transaction_after_it() -> None:
    meta = Meta(5, 5, 5, 0, 0)
    written = Transaction(5, (Change("/a", "C", meta, b""),))
    deleted = Transaction(6, (Change("/a", "D", None, None),))
    wrote, checked, gone = Outcome(Code.OK, 5, "/a", meta), Outcome(Code.OK, 5), Outcome(Code.OK, 6)
    only = Outcome(Code.OK, 5, results=(Outcome(Code.OK, 5),))
    assert sessions_of(entry([written], (1, wrote), (2, checked))) == {5: 1}
    assert sessions_of(entry([written], (2, only), (1, wrote))) == {5: 1}
    assert sessions_of(entry([written], (2, only))) == {}
    several = Outcome(Code.OK, 5, results=(checked, wrote))
    assert sessions_of(entry([written, deleted], (1, several), (3, gone))) == {5: 1, 6: 3}
    assert sessions_of(entry([deleted], (1, gone), (3, gone._replace(txid=6)))) == {}


def test_long_acls_of_what_is_deleted_are_bounded_and_those_left_out_are_unknown() -> None:
    long = tuple((31, "digest", f"{number}:{'x' * 1_000}") for number in range(60))
    gone = [Replaced(1, 3, long) for _ in range(10)]
    kept = trimmed_acls(list(gone))
    assert kept == (gone[0], gone[1])
    assert 2 * acl_bytes(long) > 2 * 60_000
    assert trimmed_acls([gone[0], gone[0], gone[0], NOTHING]) == (gone[0], gone[0], None, NOTHING)
    assert acl_of(Change("/a", "D", None, None), None) is None


def test_a_read_of_the_past_ends_after_some_bytes(client: FaaSKeeperClient) -> None:
    client.create("/a")
    for number in range(24):
        client.set_data("/a", bytes([number]) * 900_000)
    interpreter = Interpreter(client.session.connection, threading.Lock)
    command = ReadEntries(0, 1 << 60, ("",), 256)
    taken = []
    while True:
        entries, position, weight, begin = interpreter.perform(command)
        assert (len(entries) <= 16, begin) == (True, command.after)
        taken += [each.last for each in entries]
        if position == 1 << 60:
            break
        assert weight >= 256
        command = command._replace(after=position)
    assert taken == list(range(1, taken[-1] + 1))
    assert len(list(client.history("/a"))) == 25
    assert len(list(client.history("/a", newest_first=False))) == 25
