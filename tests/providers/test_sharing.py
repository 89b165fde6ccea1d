"""Processes of one machine share an embedded service: they join its owner, and take over from it."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from faaskeeper.core.requests import Epoch, Message, Reply
from faaskeeper.core.writer import Writer
from faaskeeper.exceptions import FaaSKeeperException, ProviderException
from faaskeeper.providers.local.service import EmbeddedService
from faaskeeper.providers.local.services import services
from faaskeeper.providers.local.sharing import host as host_module
from faaskeeper.providers.local.sharing import wire
from faaskeeper.providers.local.sharing.link import Asking, greet
from faaskeeper.testing.patience import PATIENCE_S
from tests.providers.members import Join, Member, acknowledged, joining, owner_of, wait_for

# ---- joining -------------------------------------------------------------------------------------


def test_a_second_process_joins_and_both_see_what_either_writes(join: Join) -> None:
    one, two = join(), join()
    assert one.do("client.create('/a', b'1').path") == "/a"
    assert two.do("client.get_data('/a').data") == "1"
    assert two.do("client.set_data('/a', b'2').stat.version") == 1
    assert one.do("client.get_data('/a').data") == "2"
    assert two.do("client.create('/a/e', b'', ephemeral=True).path") == "/a/e"
    assert one.do("[node.path for node in client.get_children('/a')]") == ["/a/e"]
    two.end()
    assert one.do("client.exists('/a/e')") is None


def test_watches_of_a_joined_client_are_pushed(join: Join) -> None:
    one, two = join(), join()
    one.do("client.create('/a', b'1').path")
    two.do("client.get_data('/a', watch=noting).data")
    one.do("client.set_data('/a', b'2').path")
    two.until("len(events)")
    assert two.do("events") == [["NodeDataChanged", "/a"]]
    one.do("client.get_data('/a', watch=noting).data")
    two.do("client.delete('/a')")
    one.until("len(events)")
    assert one.do("events") == [["NodeDeleted", "/a"]]


def test_a_lock_excludes_owner_and_joined_clients(join: Join) -> None:
    one, two = join(), join()
    assert two.do("kept.update(lock=Lock(client, '/lock')) or kept['lock'].acquire(10)") is True
    assert one.do("kept.update(lock=Lock(client, '/lock')) or kept['lock'].acquire(0.1)") is False
    two.do("kept['lock'].release()")
    assert one.do(f"kept['lock'].acquire({PATIENCE_S})") is True


def test_commands_join_the_process_that_has_the_directory(join: Join, directory: Path) -> None:
    member = join()
    member.do("client.create('/a', b'1').path")

    def fk(*words: str) -> str:
        command = [sys.executable, "-m", "faaskeeper.cli", "--directory", str(directory), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert fk("get", "/a") == "1\n"
    fk("create", "/a/b", "2")
    assert member.do("client.get_data('/a/b').data") == "2"
    assert member.pid == owner_of(directory)


@pytest.mark.parametrize("storage", ["hybrid", "persistent"])
def test_large_data_goes_through_the_owner(tmp_path: Path, join: Join, storage: str) -> None:
    file = {"cloud-provider": "local", "deployment-name": "x", "user-storage": storage}
    config = Config.deserialize({**file, "directory": str(tmp_path / "large")})
    with FaaSKeeperClient(config) as owner:
        script = """
            import sys
            from faaskeeper.client import FaaSKeeperClient
            from faaskeeper.config import Config
            with FaaSKeeperClient(Config.load(sys.argv[1])) as client:
                client.create("/a", b"x" * 1_000_000)
                print(len(client.get_data("/b").data))
        """
        (tmp_path / "config.json").write_text(json.dumps({**file, "directory": str(tmp_path / "large")}))
        owner.create("/b", b"y" * 900_000)
        lines = "\n".join(line[12:] for line in script.splitlines())
        done = subprocess.run(
            [sys.executable, "-c", lines, str(tmp_path / "config.json")],
            capture_output=True, text=True, timeout=PATIENCE_S,
        )  # fmt: skip
        assert done.stdout == "900000\n", done.stderr
        assert owner.get_data("/a").data == b"x" * 1_000_000


def test_the_past_is_the_same_for_a_joined_client(directory: Path) -> None:
    data = {"cloud-provider": "local", "deployment-name": "x", "directory": str(directory)}
    config = Config.deserialize({**data, "local": {"history-bytes": 1 << 20}})
    service = EmbeddedService(config, directory, beat=False)
    service.deployment.save_every = 1
    own = FaaSKeeperClient(config, connect=lambda config, port: service.connection(port, lambda: None))
    try:
        with own, joining(config) as joined:
            for path in ("/kept", "/gone", "/stays"):
                own.create(path, path.encode())
            own.create("/a")
            for number in range(60):
                own.set_data("/a", bytes([number]) * 50_000)
            service.heartbeat.sweep()
            joined.set_data("/kept", b"replaced since")
            joined.delete("/gone")
            end = joined.create("/b").stat.czxid
            assert joined.connection.kept is not None
            horizon = joined.connection.kept("/a").horizon
            assert 10 < horizon < 60

            def seen(client: FaaSKeeperClient, path: str, at: int) -> object:
                try:
                    found = client.get_data(path, at=at)
                except FaaSKeeperException as error:
                    return type(error), str(error)
                return found.data, found.stat

            for path in ("/kept", "/gone", "/stays", "/a", "/b", "/none"):
                for at in (1, horizon - 1, horizon, horizon + 1, end - 3, end - 2, end - 1, end):
                    assert seen(joined, path, at) == seen(own, path, at), (path, at)
                assert list(joined.history(path)) == list(own.history(path))
            assert joined.get_data("/kept", at=horizon).data == b"/kept"
            assert joined.get_data("/gone", at=end - 2).data == b"/gone"
    finally:
        service.stop()


def test_a_directory_whose_name_is_longer_than_a_socket_s_is_shared(tmp_path: Path, join: Join) -> None:
    long = tmp_path.joinpath(*["d" * 60] * 4)
    one, two = join(long), join(long)
    one.do("client.create('/a', b'1').path")
    assert two.do("client.get_data('/a').data") == "1"
    one.kill()
    assert two.do("client.set_data('/a', b'2').stat.version") == 1


def test_processes_that_start_at_once_share_one_service(directory: Path, join: Join) -> None:
    found: list[Member] = []
    threads = [threading.Thread(target=lambda: found.append(join())) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({member.session for member in found}) == 6
    for number, member in enumerate(found):
        member.do(f"client.create('/n{number}').path")
    for member in found:
        assert len(member.do("[node.path for node in client.get_children('/')]")) == 7  # and /zookeeper


# ---- take-over -----------------------------------------------------------------------------------


def test_sessions_go_on_when_the_owner_is_killed(directory: Path, join: Join) -> None:
    one, two, three = join(), join(), join()
    one.do("client.create('/a', b'1').path")
    two.do("client.create('/e', b'', ephemeral=True).path")
    three.do("client.get_data('/a').data")
    one.kill()
    assert two.do("client.set_data('/a', b'2').stat.version") == 1
    assert three.do("client.get_data('/a').data") == "2"
    assert three.do("client.exists('/e') is not None")
    assert owner_of(directory) in (two.pid, three.pid)
    assert [two.do("client.session_id"), three.do("client.session_id")] == [two.session, three.session]
    assert two.do("states") == three.do("states") == ["CONNECTED"]


def test_an_owner_that_ends_in_order_hands_over(directory: Path, join: Join) -> None:
    one, two = join(), join()
    two.do("client.create('/e', b'', ephemeral=True).path")
    one.end()
    assert one.process.returncode == 0
    assert two.do("client.set_data('/e', b'2').stat.version") == 1
    assert owner_of(directory) == two.pid
    three = join()
    assert three.do("client.get_data('/e').data") == "2"
    two.end()
    assert three.do("client.exists('/e')") is None


def test_a_watch_fires_that_was_set_at_the_owner_before(join: Join) -> None:
    one, two, three = join(), join(), join(session_timeout=3600)  # no renewal finds the events
    one.do("client.create('/a', b'1').path")
    three.do("client.get_data('/a', watch=noting).data")
    three.do("client.add_watch('/a', noting, recursive=True)")
    one.kill()
    two.do("client.set_data('/a', b'2').path")
    three.until("['NodeDataChanged', '/a'] in events")
    two.do("client.create('/a/b').path")
    three.until("['NodeCreated', '/a/b'] in events")


def test_what_happened_while_an_owner_died_fires_watches(join: Join) -> None:
    one, two = join(), join(session_timeout=3600)  # no renewal finds the event
    one.do("client.create('/a', b'1').path")
    two.do("client.get_data('/a', watch=noting).data")
    # The entry is in the log, and its notification dies with the owner.
    one.ask(
        "setattr(client.connection.within._queue._handle.__self__._distributor, 'answer_early', "
        "lambda *_: os.kill(os.getpid(), 9)) or client.set_data('/a', b'2').path"
    )
    one.process.wait(PATIENCE_S)
    two.until("len(events)")
    assert two.do("events") == [["NodeDataChanged", "/a"]]
    assert two.do("client.get_data('/a').data") == "2"


def test_requests_under_way_are_answered_once_after_a_take_over(join: Join) -> None:
    one, two = join(), join()
    one.do("client.create('/a', b'').path")
    two.ask(
        "[future.get().stat.version for future in "
        "[client.set_data_async('/a', b'x' * 500) for _ in range(2000)]]"
    )
    one.kill()
    assert two.read() == list(range(1, 2001))


def test_a_forked_child_of_the_owner_does_not_hide_its_end(directory: Path, join: Join) -> None:
    one, two = join(), join()
    child = one.do("os.fork() or time.sleep(1000)")
    try:
        one.kill()
        assert two.do("client.create('/a').path") == "/a"
        assert owner_of(directory) == two.pid
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_forked_child_of_a_joined_process_does_not_keep_its_session(join: Join) -> None:
    one, two = join(), join(session_timeout=4)
    two.do("client.create('/e', b'', ephemeral=True).path")
    child = two.do("os.fork() or time.sleep(1000)")
    try:
        two.kill()
        one.until("client.exists('/e') is None")
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_new_owner_lets_nobody_read_before_it_has_applied_the_log(
    directory: Path, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = join()
    one.do("client.create('/a', b'0').path")
    one.do("time.sleep(0.5)")  # the mark is saved when the writer rests
    one.do("[client.set_data('/a', b'%d' % number).path for number in range(1, 30)]")
    one.kill()
    reached, go = threading.Event(), threading.Event()
    handle = Writer.handle

    def held(writer: Writer, bodies: Sequence[bytes | Message]) -> None:
        reached.set()
        assert go.wait(PATIENCE_S)
        handle(writer, bodies)

    monkeypatch.setattr(Writer, "handle", held)
    service = EmbeddedService(Config.local(directory), directory, beat=False)
    try:
        assert reached.wait(PATIENCE_S)
        assert service.deployment.checkpoints.applied() < 30  # otherwise this test shows nothing
        with pytest.raises(wire.Absent):
            greet(Asking(directory, "key-value", None))
        go.set()
        wait_for((directory / wire.NAME).exists)
        with joining(Config.local(directory)) as client:
            assert client.get_data("/a").data == b"29"
    finally:
        go.set()
        service.stop()


def test_a_joined_client_reads_no_record_while_an_early_answer_is_not_settled(
    directory: Path,
) -> None:
    service = EmbeddedService(Config.local(directory), directory, beat=False)
    try:
        with joining(Config.local(directory)) as client:
            client.create("/a", b"1")
            channel = service.local_channel
            early = channel.listen_early(lambda message: None, lambda: None)
            channel.deliver_early(early.address, Reply(1, 0, (), Epoch(0, 0, ()), 0))
            reading = client.get_data_async("/a")
            assert not reading.wait(0.3)
            channel.settled()
            assert reading.get(PATIENCE_S).data == b"1"
    finally:
        service.stop()


@pytest.mark.parametrize("rounds", [4, pytest.param(20, marks=pytest.mark.simulator)])
def test_owners_killed_under_load_lose_nothing_and_locks_stay(
    directory: Path, join: Join, rounds: int
) -> None:
    names = iter(range(1000))

    def begin(member: Member) -> str:
        name = f"m{next(names)}"
        member.do(f"kept.update(load=Load(client, '{name}', '{directory.parent}')) or kept['load'].begin()")
        return name

    first = join()
    for path in ("/load", "/counter", "/lock"):
        first.do(f"client.create('{path}', b'0').path")
    members = {first: begin(first)}
    for _ in range(2):
        member = join()
        members[member] = begin(member)
    holder = member
    assert holder.do("kept.update(lock=Lock(client, '/lock')) or kept['lock'].acquire()")
    dead: list[str] = []
    for _ in range(rounds):
        [owner] = [each for each in members if each.pid == owner_of(directory)]
        if owner is holder:
            holder.do("kept['lock'].release()")
            holder = next(each for each in members if each is not owner)
            assert holder.do("kept.update(lock=Lock(client, '/lock')) or kept['lock'].acquire()")
        token = holder.do("kept['lock'].token")
        owner.kill()
        dead.append(members.pop(owner))
        for each in members:
            now = each.do("kept['load'].created")
            each.until(f"kept['load'].created > {now + 2} or kept['load'].wrong")
        assert holder.do("kept['lock'].held")
        assert holder.do("kept['lock'].token") == token
        member = join()
        members[member] = begin(member)
        assert not member.do("Lock(client, '/lock').acquire(0)")
    longest = 0.0
    for each in members:
        load = each.do("kept['load'].end()")
        assert load["wrong"] == []
        assert set(each.do("states")) == {"CONNECTED"}
        longest = max(longest, load["longest"])
    print(f"the longest turn took {longest:.2f} s")
    counts = {name: acknowledged(directory.parent, name) for name in [*dead, *members.values()]}
    there = set(holder.do("[node.path for node in client.get_children('/load')]"))
    asked = {f"/load/{name}-{number}" for name, (made, _) in counts.items() for number in range(made)}
    assert asked - there == set()
    assert len(there - asked) <= len(dead)  # what they created last, and could not note
    value = int(holder.do("client.get_data('/counter').data"))
    assert value == holder.do("client.get_data('/counter').stat.version")
    assert 0 <= value - sum(raised for _, raised in counts.values()) <= len(dead)


# ---- owners that stand still ---------------------------------------------------------------------


def test_sessions_of_an_owner_that_stands_still_are_suspended_and_go_on_with_it(join: Join) -> None:
    one, two = join(), join(session_timeout=6)
    two.do("client.create('/e', b'', ephemeral=True).path")
    one.process.send_signal(signal.SIGSTOP)
    two.until("client.session_status == 'SUSPENDED' and 'SUSPENDED' in states")
    one.process.send_signal(signal.SIGCONT)
    two.until("client.session_status == 'CONNECTED' and states[-1] == 'CONNECTED'")
    assert two.do("client.exists('/e') is not None")
    assert two.do("client.session_id") == two.session
    assert "LOST" not in two.do("states")


@pytest.mark.simulator  # it waits for time-outs
def test_a_call_to_an_owner_that_stands_still_fails_and_has_no_effect_later(join: Join) -> None:
    one, two = join(), join()
    one.do("client.create('/a', b'1').path")
    one.process.send_signal(signal.SIGSTOP)
    with pytest.raises(RuntimeError, match=r"ProviderException: the process that has .* does not answer"):
        two.do("client.get_data('/a').data")
    one.process.send_signal(signal.SIGCONT)
    two.until("client.session_status == 'CONNECTED'")
    assert two.do("client.get_data('/a').data") == "1"


@pytest.mark.simulator  # it waits for time-outs
def test_sessions_outlive_an_owner_that_stood_still_and_is_then_killed(directory: Path, join: Join) -> None:
    one, two = join(), join(session_timeout=4)
    two.do("client.create('/e', b'', ephemeral=True).path")
    one.process.send_signal(signal.SIGSTOP)
    two.until("'SUSPENDED' in states")
    threading.Event().wait(4)  # so that the lease is overdue
    one.kill()
    two.until("states[-1] == 'CONNECTED'")
    assert owner_of(directory) == two.pid
    assert two.do("client.exists('/e') is not None")


# ---- who may join --------------------------------------------------------------------------------


def refused(directory: Path, **options: object) -> str:
    """What a client is told that may not join."""
    data = {"cloud-provider": "local", "deployment-name": "x", "directory": str(directory), **options}
    with pytest.raises(ProviderException) as error:
        joining(Config.deserialize(data)).start()
    return str(error.value)


def test_another_release_is_refused_in_one_line(
    client: FaaSKeeperClient, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = Path(config.directory)
    joined = joining(config)
    joined.start()
    joined.stop()
    asked = wire.speaks
    monkeypatch.setattr(wire, "speaks", lambda greeting, who: asked({**greeting, "faaskeeper": 7}, who))
    said = refused(directory)
    assert "shares directories by protocol 7" in said
    assert "use one release for both" in said
    assert "\n" not in said


def test_another_user_is_refused_on_either_side(
    client: FaaSKeeperClient, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_for((Path(config.directory) / wire.NAME).exists)
    monkeypatch.setattr(wire, "peer", lambda connection: 12345)
    said = refused(Path(config.directory))
    assert "is run by the user with the id 12345" in said


def test_the_socket_is_its_user_s_alone(client: FaaSKeeperClient, config: Config) -> None:
    path = Path(config.directory) / wire.NAME
    wait_for(path.exists)
    wait_for(lambda: stat.S_IMODE(path.stat().st_mode) == 0o600)
    assert stat.S_ISSOCK(path.stat().st_mode)
    client.stop()
    assert not path.exists()


def test_other_settings_than_the_owner_s_are_refused(client: FaaSKeeperClient, config: Config) -> None:
    directory = Path(config.directory)
    assert "was set up with user-storage 'key-value'" in refused(directory, **{"user-storage": "hybrid"})
    assert "has another 'super-digest'" in refused(directory, **{"super-digest": "super:abc="})


def test_what_is_no_greeting_ends_the_connection(client: FaaSKeeperClient, config: Config) -> None:
    directory = Path(config.directory)
    wait_for((directory / wire.NAME).exists)
    for sent in (b"\0\0\0\4none", b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 100, wire.frame([1]), wire.frame({})):
        connection = socket.socket(socket.AF_UNIX)
        with wire.address(directory) as name:
            connection.connect(name)
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(PATIENCE_S)
        while connection.recv(1000):
            pass
        connection.close()
    assert client.exists("/zookeeper") is not None


# ---- the socket's place --------------------------------------------------------------------------


def test_a_socket_that_a_killed_owner_left_is_replaced(directory: Path, join: Join) -> None:
    one = join()
    join().kill()  # it has listened by now
    one.kill()
    assert stat.S_ISSOCK((directory / wire.NAME).stat().st_mode)
    two, three = join(), join()
    two.do("client.create('/a', b'1').path")
    assert three.do("client.get_data('/a').data") == "1"


def test_a_directory_that_was_moved_or_replaced_is_not_made_anew(directory: Path, join: Join) -> None:
    one, two = join(), join()
    two.do("client.create('/a', b'1').path")
    moved = directory.with_name("moved")
    directory.rename(moved)
    assert two.do("client.set_data('/a', b'2').stat.version") == 1
    one.kill()
    two.until("states[-1] == 'LOST'")
    with pytest.raises(RuntimeError, match="was moved, deleted or replaced"):
        two.do("client.get_data('/a')")
    assert not directory.exists()
    assert join(moved).do("client.get_data('/a').data") == "2"


# ---- clients that are slow, services that end ----------------------------------------------------


def test_a_client_that_takes_nothing_in_is_cut_off_and_delays_nobody(
    client: FaaSKeeperClient, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_module, "MOST_BYTES", 1_000_000)
    directory = Path(config.directory)
    wait_for((directory / wire.NAME).exists)
    slow = greet(Asking(directory, "key-value", None), "shared:slow")
    service = services.owned(str(directory))
    assert service is not None
    wait_for(lambda: service.deployment.channel.deliver("shared:slow", b"x"))
    pushed = 0
    while service.deployment.channel.deliver("shared:slow", b"x" * 10_000):
        pushed += 1
        assert pushed < 1_000
    assert pushed >= 99  # a million bytes
    slow.connection.settimeout(PATIENCE_S)
    while slow.connection.recv(100_000):
        pass
    slow.connection.close()


def test_sessions_end_with_the_reason_when_the_service_does(join: Join) -> None:
    one, two = join(), join()
    one.do("client.create('/a', b'1').path")
    one.do("__import__('resource').setrlimit(__import__('resource').RLIMIT_FSIZE, (1, 1))")
    with pytest.raises(RuntimeError, match="has stopped"):
        one.do("[client.set_data('/a', b'x' * 100_000).path for _ in range(100)]")
    two.until("states[-1] == 'LOST'")
    with pytest.raises(RuntimeError, match="the embedded service has stopped"):
        two.do("client.get_data('/a')")
