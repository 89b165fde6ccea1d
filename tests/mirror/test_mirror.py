"""A mirror between ZooKeeper's own server and an embedded service, both ways."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from faaskeeper.core.requests import NO_DATA, Create, inline
from faaskeeper.core.znode import CONTAINER
from faaskeeper.exceptions import NodeDoesntExistException, ZooKeeperException
from faaskeeper.mirror.copying import Wishes
from faaskeeper.mirror.cutting import cut_over
from faaskeeper.mirror.errors import MirrorRefused, MirrorStopped
from faaskeeper.mirror.following import Mirror, Options
from faaskeeper.mirror.trees import MARKS, Fingerprint, Tree
from faaskeeper.testing.patience import PATIENCE_S
from tests.client.test_zookeeper import Between
from tests.gateway.servers import Server
from tests.zookeeper import zookeeper

NOBODY = [(31, "digest", "nobody:AAAAAAAAAAAAAAAAAAAAAAAAAAA=")]
MINE = "user:geheim"
SUPER = ("digest", "super:test")


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with zookeeper(tmp_path_factory.mktemp("zookeeper")) as port:
        yield port


@pytest.fixture(scope="module")
def numbers() -> Iterator[int]:
    return iter(range(1000))


class Sides:
    """A tree on a ZooKeeper server and one on an embedded service, with a client for each."""

    def __init__(self, port: int, top: str, directory: Path) -> None:
        self.old_config = Config.load(f"zk://127.0.0.1:{port}")
        self.new_config = Config.deserialize(
            {
                "cloud-provider": "local",
                "deployment-name": "new",
                "directory": str(directory),
                "super-digest": "super:D/InIHSb7yEEbrWz8b9l71RjZJU=",
            }
        )
        self.top = top
        self.old = FaaSKeeperClient(self.old_config)
        self.new = FaaSKeeperClient(self.new_config)
        for client in (self.old, self.new):
            client.add_auth("digest", "super:test")
            client.start()
        self.old.create(top)
        self.said: list[str] = []

    def tree(self, config: Config, auth: str = "super:test", top: str = "") -> Tree:
        client = FaaSKeeperClient(config, session_timeout=10)
        if auth:
            client.add_auth("digest", auth)
        client.start()
        name = "old" if config is self.old_config else "new"
        return Tree(client, top or self.top, name)

    def mirror(self, back: bool = False, **options: Any) -> Mirror:
        configs = (self.old_config, self.new_config)
        source, target = reversed(configs) if back else configs
        chosen = Options(**{"shown": [("digest", "super:test")], **options})
        return Mirror(partial(self.tree, source), partial(self.tree, target), chosen, self.said.append)

    def copy(self, **options: Any) -> None:
        with self.mirror(**options).running():
            pass

    def digests(self) -> list[str]:
        """Of both trees: equal if the trees are."""
        found: list[str] = []
        for client in (self.old, self.new):
            digest = Fingerprint()
            for path, node in Tree(client, self.top, "").all():
                digest.add(path, node)
            found.append(digest.hexadecimal())
        return found

    def equal(self) -> bool:
        old, new = self.digests()
        return old == new

    def names(self, client: FaaSKeeperClient) -> list[str]:
        return [path for path, _ in Tree(client, self.top, "").all()]


@pytest.fixture
def sides(port: int, numbers: Iterator[int], tmp_path: Path) -> Iterator[Sides]:
    made = Sides(port, f"/app{next(numbers)}", tmp_path / "new")
    yield made
    made.old.stop()
    made.new.stop()


# ---- the first copy --------------------------------------------------------------------------


def test_data_acls_and_counters_are_copied_and_ephemerals_are_not(sides: Sides) -> None:
    old, top = sides.old, sides.top
    old.create(f"{top}/text", "é".encode())
    old.create(f"{top}/bytes", bytes(range(256)) * 400)
    old.create(f"{top}/empty", b"")
    old.commit([Create(f"{top}/none", NO_DATA)])
    old.create(f"{top}/locked", b"x", acl=NOBODY)
    old.create(f"{top}/deep/er/est", b"1", makepath=True)
    old.create(f"{top}/mine", b"session", ephemeral=True)
    for _ in range(30):
        old.delete(old.create(f"{top}/deep/n-", sequential=True).path)
    with sides.mirror().running() as running:
        assert set(running.copier.ephemerals) == {"/mine"}
        assert running.behind == {}
    assert sides.equal()
    new = sides.new
    assert new.exists(f"{top}/mine") is None
    assert new.record(f"{top}/none").meta.length == -1  # type: ignore[union-attr]
    assert new.record(f"{top}/empty").meta.length == 0  # type: ignore[union-attr]
    assert new.get_acls(f"{top}/locked")[0] == NOBODY
    assert new.create(f"{top}/deep/n-", sequential=True).path.endswith("n-0000000031")


def test_a_counter_that_lacks_too_many_steps_is_listed(sides: Sides) -> None:
    for _ in range(7):
        sides.old.delete(sides.old.create(f"{sides.top}/n-", sequential=True).path)
    with sides.mirror(most_steps=6).running() as running:
        assert running.behind == {"": 7}


def test_kinds_that_the_server_does_not_show_are_the_user_s_to_say(sides: Sides) -> None:
    old, new, top = sides.old, sides.new, sides.top
    old.create(f"{top}/locks/a", makepath=True, container=True)
    old.create(f"{top}/jobs", ttl=100_000)
    sides.copy(wishes=Wishes((("/locks*", CONTAINER), ("/jobs", 5000))))
    kinds = {each: new.record(f"{top}{each}").meta.ttl for each in ("", "/locks/a", "/jobs")}  # type: ignore[union-attr]
    assert kinds == {"": 0, "/locks/a": CONTAINER, "/jobs": 5000}


def test_hidden_hashes_are_refused_before_anything_is_changed(sides: Sides) -> None:
    sides.old.create(f"{sides.top}/n", acl=[(1, "world", "anyone"), *NOBODY])
    made = Mirror(
        partial(sides.tree, sides.old_config, ""), partial(sides.tree, sides.new_config), Options(), print
    )
    hides = f"hides password hashes in the ACLs of 1 \\({sides.top}/n\\)"
    with pytest.raises(MirrorRefused, match=hides), made.running():
        pass
    assert sides.new.exists(sides.top) is None
    assert sides.new.exists(MARKS) is None


def test_what_may_not_be_read_is_refused(sides: Sides) -> None:
    sides.old.create(f"{sides.top}/n", acl=NOBODY)
    made = Mirror(
        partial(sides.tree, sides.old_config, MINE), partial(sides.tree, sides.new_config), Options(), print
    )
    with (
        pytest.raises(
            MirrorRefused, match=f"does not let the mirror read {sides.top}/n: --source-auth"
        ) as no,
        made.running(),
    ):
        pass
    assert "geheim" not in str(no.value)
    assert sides.new.exists(sides.top) is None


def test_acls_that_would_lock_the_mirror_out_are_refused(sides: Sides) -> None:
    sides.old.create(f"{sides.top}/n", acl=NOBODY)
    made = Mirror(
        partial(sides.tree, sides.old_config), partial(sides.tree, sides.new_config, ""), Options(), print
    )
    with pytest.raises(MirrorRefused, match="--target-auth needs all permissions"), made.running():
        pass
    assert sides.new.exists(sides.top) is None


def test_a_plan_is_what_the_mirror_then_does_and_changes_nothing(sides: Sides) -> None:
    top = sides.top
    for path in ("/a", "/a/b", "/c", "/acl"):
        sides.old.create(top + path, b"1")
    sides.copy()
    sides.old.delete(f"{top}/a/b")
    sides.old.delete(f"{top}/a")
    sides.old.set_data(f"{top}/c", b"2")
    sides.old.set_acls(f"{top}/acl", [(31, "digest", "a:1"), (31, "world", "anyone")])
    sides.old.create(f"{top}/new/below", makepath=True)
    sides.old.create(f"{top}/here", ephemeral=True)
    before = sides.new.create("/before").stat.czxid
    with sides.mirror().opened() as opened:
        planned = list(opened.plan())
        assert opened.copier.ephemerals.keys() == {"/here"}
    assert planned == [
        ("setAcl", f"{top}/acl"),
        ("set", f"{top}/c"),
        ("create", f"{top}/new"),
        ("create", f"{top}/new/below"),
        ("delete", f"{top}/a/b"),
        ("delete", f"{top}/a"),
    ]
    written = {row.path for row in sides.new.history("/", True, since=before)}
    assert not written
    sides.copy()
    assert len(set(sides.digests())) == 1
    rows = sides.new.history(top, True, since=before)
    changed = {(row.path, row.kind) for row in rows if "probe" not in row.path}  # of sequence counters
    kinds = {"create": "created", "delete": "deleted", "set": "set", "setAcl": "acl"}
    assert changed == {(path, kinds[what]) for what, path in planned}
    with sides.mirror().opened() as opened:
        assert list(opened.plan()) == []


def test_a_plan_refuses_what_the_mirror_would_refuse(sides: Sides) -> None:
    sides.new.create(f"{sides.top}/other", makepath=True)
    with sides.mirror().opened() as opened:
        with pytest.raises(MirrorRefused, match="not empty and no mirror"):
            opened.plan()
        opened.options = opened.options._replace(overwrite=True)
        assert list(opened.plan()) == [("delete", f"{sides.top}/other")]


def test_a_source_that_does_not_exist_is_named(sides: Sides) -> None:
    sides.old.delete(sides.top)
    with pytest.raises(NodeDoesntExistException, match=sides.top):
        sides.copy()
    sides.old.create(sides.top)


def test_ids_of_acls_are_replaced(sides: Sides) -> None:
    sides.new.create(f"{sides.top}/n", acl=[(31, "digest", "a:1"), (1, "ip", "10.0.0.0/8")], makepath=True)
    sides.old.delete(sides.top)
    ids = ((("digest", "a:1"), ("digest", "b:2")),)
    with sides.mirror(back=True, wishes=Wishes(ids=ids)).running() as running:
        running.look()
        assert running.copier.written == 2  # a second look finds nothing to write
        assert cut_over(running, 0, False).znodes == 2
    assert sides.old.get_acls(f"{sides.top}/n")[0] == [(31, "digest", "b:2"), (1, "ip", "10.0.0.0/8")]


def test_schemes_that_the_target_does_not_know_are_refused(sides: Sides, tmp_path: Path) -> None:
    sasl = {"zookeeper.authProvider.1": "org.apache.zookeeper.server.auth.SASLAuthenticationProvider"}
    with zookeeper(tmp_path / "sasl", **sasl) as port:
        config = Config.load(f"zk://127.0.0.1:{port}")
        entry = (31, "sasl", "kafka")
        with FaaSKeeperClient(config) as client:
            made = [Create("/n", inline(b"1"), acl=(entry, (1, "world", "anyone")))]
            assert not isinstance(client.commit(made)[0], Exception)

        def mirror(*ids: tuple[tuple[str, str], tuple[str, str]]) -> Mirror:
            return Mirror(
                lambda: sides.tree(config, top="/n"),
                lambda: sides.tree(sides.new_config, top="/n"),
                Options(Wishes(ids=ids), shown=[("digest", "super:test")]),
                print,
            )

        refused = pytest.raises(MirrorRefused, match=r"does not know the schemes in the ACLs of 1 \(/n\)")
        with refused, mirror().running():
            pass
        with mirror((("sasl", "kafka"), ("digest", "kafka:x="))).running():
            pass
    assert sides.new.get_acls("/n")[0] == [(31, "digest", "kafka:x="), (1, "world", "anyone")]


def test_data_as_large_as_a_server_takes_is_copied(sides: Sides) -> None:
    sides.old.create(f"{sides.top}/large", b"x" * 1_040_000)
    sides.copy()
    assert sides.equal()


# ---- the target's own ------------------------------------------------------------------------


def test_a_target_in_use_is_refused_and_overwritten_if_asked(sides: Sides) -> None:
    sides.old.create(f"{sides.top}/theirs", b"1")
    sides.new.create(f"{sides.top}/ours/deep", b"1", makepath=True)
    with pytest.raises(MirrorRefused, match="is not empty and no mirror of old: it has 2"):
        sides.copy()
    assert sides.names(sides.new) == ["", "/ours", "/ours/deep"]
    sides.copy(overwrite=True)
    assert sides.equal()
    assert sides.names(sides.new) == ["", "/theirs"]


def test_another_writer_stops_the_mirror_and_keeps_what_it_wrote(sides: Sides) -> None:
    sides.old.create(f"{sides.top}/n", b"1")
    with sides.mirror().running() as running:
        sides.new.set_data(f"{sides.top}/n", b"theirs")
        sides.old.set_data(f"{sides.top}/n", b"2")
        with pytest.raises(MirrorStopped, match=f"somebody else writes to new: 1 \\({sides.top}/n\\)"):
            running.apply({"/n"})
        with pytest.raises(MirrorStopped):
            running.look()
    assert sides.new.get_data(f"{sides.top}/n").data == b"theirs"
    with pytest.raises(MirrorRefused, match="changed by somebody else since the mirror's last write"):
        sides.copy()
    assert sides.new.get_data(f"{sides.top}/n").data == b"theirs"
    sides.copy(overwrite=True)
    assert sides.equal()


def test_a_delete_does_not_reach_what_another_has_written(sides: Sides) -> None:
    sides.old.create(f"{sides.top}/n", b"1")
    with sides.mirror().running() as running:
        sides.new.set_data(f"{sides.top}/n", b"theirs")
        sides.old.delete(f"{sides.top}/n")
        with pytest.raises(MirrorStopped, match="somebody else writes"):
            running.apply({"/n"})
    assert sides.new.get_data(f"{sides.top}/n").data == b"theirs"


@pytest.mark.parametrize("what", ["created", "ephemeral", "deleted", "below"])
def test_a_change_of_others_is_found_by_the_next_look(sides: Sides, what: str) -> None:
    new, top = sides.new, sides.top
    sides.old.create(f"{top}/n", b"1")
    with sides.mirror().running() as running:
        if what == "deleted":
            new.delete(f"{top}/n")
        else:
            path = f"{top}/n/x" if what == "below" else f"{top}/x"
            new.create(path, ephemeral=what == "ephemeral")
        if what == "below":
            sides.old.delete(f"{top}/n")
            with pytest.raises(MirrorStopped):
                running.apply({"/n"})
        with pytest.raises(MirrorStopped, match="somebody else writes"):
            running.look()


def test_a_container_that_ended_in_the_target_is_made_again(sides: Sides) -> None:
    old, new, top = sides.old, sides.new, sides.top
    old.create(f"{top}/locks/a", b"1", makepath=True)
    with sides.mirror(wishes=Wishes((("/locks*", CONTAINER),))).running() as running:
        new.delete(f"{top}/locks/a")
        new.delete(f"{top}/locks")
        old.set_data(f"{top}/locks/a", b"2")
        old.create(f"{top}/aa", b"in the transaction that fails")
        running.apply({"/aa", "/locks/a"})
        assert new.get_data(f"{top}/locks/a").data == b"2"
        assert new.exists(f"{top}/aa") is not None
        new.delete(f"{top}/locks/a")
        running.look()
        assert new.get_data(f"{top}/locks/a").data == b"2"


def test_two_mirrors_do_not_run_at_once(sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("faaskeeper.mirror.following.LOCK_S", 0.1)
    with sides.mirror().running(), pytest.raises(Exception, match="another mirror to new is running"):
        sides.copy()


def test_a_source_that_is_gone_deletes_nothing(sides: Sides) -> None:
    sides.old.create(f"{sides.top}/n", b"1")
    with sides.mirror().running() as running:
        sides.old.delete(f"{sides.top}/n")
        sides.old.delete(sides.top)
        for stopped in (partial(running.apply, {""}), running.look):
            with pytest.raises(MirrorStopped, match="old is gone: nothing was deleted"):
                stopped()
    assert sides.new.get_data(f"{sides.top}/n").data == b"1"
    sides.old.create(sides.top)


# ---- following -------------------------------------------------------------------------------


@contextmanager
def following(made: Mirror) -> Iterator[None]:
    """A mirror that follows in a thread; at the end it has stopped, or its error is raised."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            made.follow()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        made.stop()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    if errors:
        raise errors[0]


def arrived(client: FaaSKeeperClient, path: str, data: bytes | None = b"") -> None:
    """Wait until a znode has this data, or (None) is gone."""
    while True:
        more = threading.Event()
        node = client.exists(path, lambda event, more=more: more.set())  # type: ignore[misc]
        if node is None and data is None:
            return
        if node is not None and data is not None and client.get_data(path).data == data:
            return
        assert more.wait(PATIENCE_S), f"{path} does not come"


class Load:
    """Random changes of a tree by several clients, until :meth:`stop`."""

    def __init__(self, config: Config, top: str, most: int = 10**9) -> None:
        self._config = config
        self._top = top
        self._most = most
        self._stop = threading.Event()
        self.done = 0
        self.errors: list[BaseException] = []
        self._threads = [threading.Thread(target=self._run, args=(seed,)) for seed in range(3)]
        for each in self._threads:
            each.start()

    def _run(self, seed: int) -> None:
        chance = random.Random(seed)
        try:
            with FaaSKeeperClient(self._config) as client:
                while not self._stop.is_set() and self.done < self._most:
                    try:
                        self._change(client, chance)
                    except ZooKeeperException:
                        pass  # another one was faster
                    self.done += 1
        except BaseException as error:
            self.errors.append(error)

    def _change(self, client: FaaSKeeperClient, chance: random.Random) -> None:
        path = self._top + "".join(f"/{chance.choice('abc')}" for _ in range(chance.randint(1, 4)))
        what = chance.random()
        if what < 0.4:
            client.create(path, chance.randbytes(chance.choice((0, 10, 3000))), ephemeral=what < 0.03)
        elif what < 0.65:
            client.set_data(path, chance.randbytes(20))
        elif what < 0.7:
            client.set_acls(path, [(31, "world", "anyone"), (1, "digest", f"u:{chance.randint(0, 9)}")])
        elif what < 0.75:
            with client.transaction() as together:
                together.delete(path).create(path, b"anew")
        else:
            client.delete(path)

    def wait(self, number: int) -> None:
        """Until so many changes were made."""
        while self.done < number and any(each.is_alive() for each in self._threads):
            self._threads[0].join(0.01)

    def stop(self) -> None:
        self._stop.set()
        for each in self._threads:
            each.join(PATIENCE_S)
        assert not self.errors, self.errors


def test_the_target_converges_under_load(sides: Sides) -> None:
    load = Load(sides.old_config, sides.top)
    load.wait(300)
    with following(sides.mirror(look_s=0.3)):
        load.wait(2500)
        load.stop()
        sides.old.create(f"{sides.top}/end", b"now")
        arrived(sides.new, f"{sides.top}/end", b"now")
    with sides.mirror().running():  # what only a look finds, ACLs, may have come after the last one
        assert sides.equal()


def test_changes_come_by_events_before_any_look(sides: Sides) -> None:
    old, new, top = sides.old, sides.new, sides.top
    with following(sides.mirror(look_s=3600)):
        old.create(f"{top}/a/b", b"1", makepath=True)
        arrived(new, f"{top}/a/b", b"1")
        old.set_data(f"{top}/a/b", b"2")
        arrived(new, f"{top}/a/b", b"2")
        old.delete(f"{top}/a/b")
        arrived(new, f"{top}/a/b", None)


def test_a_change_of_an_acl_is_found_by_a_look(sides: Sides) -> None:
    sides.old.create(f"{sides.top}/n")
    with sides.mirror().running() as running:
        sides.old.set_acls(f"{sides.top}/n", NOBODY)
        running.look()
        assert sides.new.get_acls(f"{sides.top}/n")[0] == NOBODY


def test_a_server_without_such_watches_is_listed_often(sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise ZooKeeperException("old does not know addWatch")

    monkeypatch.setattr("faaskeeper.zookeeper.client.ZooKeeperClient.add_watch", unknown)
    with following(sides.mirror(poll_s=0.05)):
        sides.old.create(f"{sides.top}/n", b"1")
        arrived(sides.new, f"{sides.top}/n", b"1")
        sides.old.set_data(f"{sides.top}/n", b"2")
        arrived(sides.new, f"{sides.top}/n", b"2")
    assert any("by listing it every 0.05 s" in line for line in sides.said)


def test_a_lost_connection_costs_no_change(sides: Sides, port: int) -> None:
    between = Between(port)
    through = Config.load(f"zk://127.0.0.1:{between.port}")
    made = Mirror(
        lambda: Tree(sides.tree(through).client, sides.top, "old"),
        partial(sides.tree, sides.new_config),
        Options(shown=[("digest", "super:test")], look_s=3600),
        sides.said.append,
    )
    with following(made):
        for number in range(5):
            sides.old.create(f"{sides.top}/{number}", b"1")
            arrived(sides.new, f"{sides.top}/{number}", b"1")
            sides.old.create(f"{sides.top}/gone", b"1")
            arrived(sides.new, f"{sides.top}/gone", b"1")
            between.refuses = True
            between.cut()
            sides.old.delete(f"{sides.top}/gone")
            sides.old.set_data(f"{sides.top}/{number}", b"2")  # no event of this comes
            between.refuses = False
            arrived(sides.new, f"{sides.top}/{number}", b"2")
            arrived(sides.new, f"{sides.top}/gone", None)
    between.close()
    assert sides.equal()


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("answered", [False, True], ids=["before", "after"])
def test_a_mirror_that_ends_at_any_transaction_goes_on(
    sides: Sides, monkeypatch: pytest.MonkeyPatch, answered: bool
) -> None:
    """Each attempt ends at its third transaction, before or after it is committed."""
    for number in range(300):
        sides.old.create(f"{sides.top}/{number:03d}", b"1")
    usual, made = FaaSKeeperClient.commit, 0

    def commit(client: FaaSKeeperClient, parts: Any) -> Any:
        nonlocal made
        made += 1
        if made % 3 == 0:
            if answered:
                usual(client, parts)
            raise Killed
        return usual(client, parts)

    monkeypatch.setattr(FaaSKeeperClient, "commit", commit)
    attempts = 0
    while True:
        attempts += 1
        try:
            sides.copy()
            break
        except Killed:
            if attempts > 8:
                continue
            # meanwhile the source goes on
            sides.old.set_data(f"{sides.top}/{attempts:03d}", b"2")
            sides.old.delete(f"{sides.top}/{200 + attempts:03d}")
            sides.old.create(f"{sides.top}/more-{attempts}", b"3")
    assert attempts > 2
    assert sides.equal()


@pytest.mark.parametrize("back", [False, True], ids=["to", "from"])
def test_fk_serve_is_a_side_like_any_other(sides: Sides, tmp_path: Path, back: bool) -> None:
    server = Server(tmp_path / "served")
    config = Config.load(f"zk://127.0.0.1:{server.port}")
    old, served = partial(sides.tree, sides.old_config), partial(sides.tree, config)
    load = None
    try:
        source = config if back else sides.old_config
        with (
            FaaSKeeperClient(source) as writer,
            FaaSKeeperClient(sides.old_config if back else config) as reader,
        ):
            if back:
                writer.create(sides.top)
                sides.old.delete(sides.top)
            load = Load(source, sides.top)
            made = Mirror(
                *((served, old) if back else (old, served)), Options(look_s=0.5, shown=[SUPER]), print
            )
            with following(made):
                load.wait(500)
                load.stop()
                writer.create(f"{sides.top}/end", b"now")
                arrived(reader, f"{sides.top}/end", b"now")
            with made.running() as running:
                assert cut_over(running, 0, False).znodes > 1
    finally:
        if load is not None:
            load.stop()
        server.kill()


# ---- the cut-over ----------------------------------------------------------------------------


def test_a_source_that_still_changes_is_not_cut_over(sides: Sides) -> None:
    sides.old.create(f"{sides.top}/n")
    writing = threading.Event()

    def write() -> None:
        with FaaSKeeperClient(sides.old_config) as client:
            while not writing.is_set():
                client.set_data(f"{sides.top}/n", b"x")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        refused = pytest.raises(MirrorRefused, match="no cut-over: old still changes: 1")
        with sides.mirror().running() as running, refused:
            cut_over(running, PATIENCE_S, False)
    finally:
        writing.set()
        writer.join(PATIENCE_S)
    sides.copy()  # it is a mirror still


def test_a_lock_that_is_taken_and_left_is_a_change_too(sides: Sides) -> None:
    with sides.mirror().running() as running:
        timer = threading.Timer(0.2, lambda: sides.old.delete(sides.old.create(f"{sides.top}/l").path))
        timer.start()
        with pytest.raises(MirrorRefused, match="still changes"):
            cut_over(running, PATIENCE_S, False)
        timer.join(PATIENCE_S)


def test_ephemerals_of_the_source_hold_the_cut_over_up(sides: Sides) -> None:
    sides.old.create(f"{sides.top}/alive", ephemeral=True)
    with sides.mirror().running() as running:
        with pytest.raises(MirrorRefused, match=f"clients use it: 1 \\({sides.top}/alive\\)"):
            cut_over(running, 0, False)
        assert cut_over(running, 0, True).znodes == 1


def test_trees_that_differ_are_not_cut_over(sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    sides.old.create(f"{sides.top}/n", b"1")
    with sides.mirror().running() as running:
        usual = running.changes.wait

        def wait(until: float) -> tuple[set[str], bool]:
            sides.new.set_data(f"{sides.top}/n", b"theirs")
            return usual(until)

        monkeypatch.setattr(running.changes, "wait", wait)
        with pytest.raises(MirrorRefused, match="no cut-over: the digests differ"):
            cut_over(running, 0.5, False)
    assert sides.new.exists(MARKS) is not None


def test_after_the_cut_over_a_mirror_by_mistake_is_refused(sides: Sides) -> None:
    sides.old.create(f"{sides.top}/n", b"1")
    with sides.mirror().running() as running:
        done = cut_over(running, 0, False)
    assert [done.digest] * 2 == sides.digests()
    assert sides.new.exists(MARKS) is None
    sides.new.set_data(f"{sides.top}/n", b"new")
    with pytest.raises(MirrorRefused, match="is not empty and no mirror of old"):
        sides.copy()
    assert sides.new.get_data(f"{sides.top}/n").data == b"new"


# ---- the way back ----------------------------------------------------------------------------


def test_the_way_back_copies_kinds_too(sides: Sides) -> None:
    new, top = sides.new, sides.top
    sides.old.delete(top)
    new.create(f"{top}/locks", container=True, makepath=True)
    new.create(f"{top}/jobs", b"1", ttl=5000)
    new.create(f"{top}/mine", ephemeral=True)
    made: list[Any] = []
    commit = FaaSKeeperClient.commit

    def noted(client: FaaSKeeperClient, parts: Any) -> Any:
        made.extend(parts)
        return commit(client, parts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FaaSKeeperClient, "commit", noted)
        with sides.mirror(back=True).running() as running:
            assert set(running.copier.ephemerals) == {"/mine"}
            new.set_data(f"{top}/jobs", b"2")
            running.look()
    kinds = {each.path: each.ttl for each in made if isinstance(each, Create) and "probe" not in each.path}
    assert kinds == {top: 0, f"{top}/locks": CONTAINER, f"{top}/jobs": 5000}
    assert sides.old.get_data(f"{top}/jobs").data == b"2"
    assert sides.equal()


def test_a_znode_made_anew_as_a_container_is_one_in_the_target_with_what_is_below(sides: Sides) -> None:
    new, top = sides.new, sides.top
    sides.old.delete(top)
    new.create(f"{top}/n/below", b"1", makepath=True)
    with sides.mirror(back=True).running() as running:
        before = sides.old.get_data(f"{top}/n").stat.czxid
        new.delete(f"{top}/n/below")
        new.delete(f"{top}/n")
        new.create(f"{top}/n", container=True)
        new.create(f"{top}/n/below", b"1")
        running.apply({"/n"})
        assert sides.old.get_data(f"{top}/n").stat.czxid > before
        assert sides.old.get_data(f"{top}/n/below").data == b"1"
    assert sides.equal()


def test_the_way_back_follows_under_load(sides: Sides) -> None:
    sides.new.create(sides.top)
    load = Load(sides.new_config, sides.top)
    load.wait(100)
    with following(sides.mirror(back=True, look_s=0.3)):
        load.wait(800)
        load.stop()
        sides.new.create(f"{sides.top}/end", b"now")
        arrived(sides.old, f"{sides.top}/end", b"now")
    with sides.mirror(back=True).running() as running:
        assert sides.equal()
        cut_over(running, 0, False)


def test_a_server_without_times_to_live_is_refused_before_anything_is_changed(
    sides: Sides, tmp_path: Path
) -> None:
    sides.new.create(f"{sides.top}/jobs", ttl=5000, makepath=True)
    with zookeeper(tmp_path / "plain", extended=False) as port:
        config = Config.load(f"zk://127.0.0.1:{port}")
        made = Mirror(
            partial(sides.tree, sides.new_config),
            partial(sides.tree, config),
            Options(shown=[("digest", "super:test")]),
            print,
        )
        refused = pytest.raises(MirrorRefused, match=r"1 znodes have times to live, .*Enabled=true")
        with refused, made.running():
            pass
        with FaaSKeeperClient(config) as client:
            assert [each.path for each in client.get_children("/")] == ["/zookeeper"]


def test_everything_from_the_root_is_mirrored_but_what_is_each_deployment_s_own(
    sides: Sides, tmp_path: Path
) -> None:
    with zookeeper(tmp_path / "whole") as port:
        config = Config.load(f"zk://127.0.0.1:{port}")
        with FaaSKeeperClient(config) as client:
            client.create("/a/b", b"1", makepath=True)
        made = Mirror(
            lambda: sides.tree(config, top="/"),
            lambda: sides.tree(sides.new_config, top="/"),
            Options(shown=[("digest", "super:test")]),
            print,
        )
        with made.running() as running:
            running.look()
            cut_over(running, 0, False)
    assert sorted(each.path for each in sides.new.get_children("/")) == ["/a", "/zookeeper"]
