"""Processes that share an embedded service, where something is short, slow, broken or not the same."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from faaskeeper.core.errors import Denied, Unavailable
from faaskeeper.core.records import Record
from faaskeeper.core.requests import Message
from faaskeeper.core.writer import Writer
from faaskeeper.deploy.local import LocalDoctor
from faaskeeper.exceptions import FaaSKeeperException, ProviderException
from faaskeeper.providers.local.database import InUse, Owner
from faaskeeper.providers.local.service import EmbeddedService
from faaskeeper.providers.local.services import _Place, _Reach
from faaskeeper.providers.local.sharing import host as host_module
from faaskeeper.providers.local.sharing import wire
from faaskeeper.providers.local.sharing.link import Asking, Link
from faaskeeper.testing.patience import PATIENCE_S
from tests.providers.members import Join, joining, owner_of, wait_for

_NONE_FREE = "resource.setrlimit(resource.RLIMIT_NOFILE, (3, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))"
_MANY_FREE = (
    "resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)"
)


@pytest.fixture
def service(directory: Path) -> Iterator[EmbeddedService]:
    """A service of this process, which others join."""
    service = EmbeddedService(Config.local(directory), directory, beat=False)
    yield service
    service.stop()


def listening(service: EmbeddedService) -> host_module.Host:
    wait_for(lambda: service._host is not None and service._host._listener is not None)
    assert service._host is not None
    return service._host


def link_of(client: FaaSKeeperClient) -> Link:
    link = client.connection.on_failure.__self__  # type: ignore[attr-defined]
    assert isinstance(link, Link)
    return link


# ---- what is short -------------------------------------------------------------------------------


def test_neither_a_program_s_default_time_out_for_sockets_nor_that_of_greetings_ends_a_stream(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "ANSWER_S", 0.1)
    socket.setdefaulttimeout(0.01)
    try:
        service = EmbeddedService(Config.local(directory), directory, beat=False)
        host = listening(service)
        threading.Event().wait(0.1)  # some time-outs
        with joining(Config.local(directory)) as client:
            client.create("/a", b"1")
            stream = link_of(client)._stream
            threading.Event().wait(0.5)
            assert link_of(client)._stream is stream
            assert client.get_data("/a").data == b"1"
        assert host._thread.is_alive()
        service.stop()
    finally:
        socket.setdefaulttimeout(None)


def test_an_owner_without_a_descriptor_to_spare_is_joined_once_it_has_one(
    directory: Path, join: Join
) -> None:
    one = join()
    join().end()  # it listens
    one.do(_NONE_FREE)
    waiting = socket.socket(socket.AF_UNIX)
    with wire.address(str(directory)) as name:
        waiting.connect(name)
    one.until("'Too many open files' in client.connection.logs()")
    one.do(_MANY_FREE)
    assert join().do("client.create('/a', b'1').path") == "/a"
    waiting.close()


def test_a_joined_process_without_descriptors_goes_on_once_it_has_some(directory: Path, join: Join) -> None:
    one, two = join(), join()
    two.do("client.create('/e', b'', ephemeral=True).path")
    two.do("kept.update(tries=[], reach=link()._reach)")
    two.do("setattr(link(), '_reach', lambda name: kept['tries'].append(1) or kept['reach'](name))")
    two.do(_NONE_FREE)
    one.kill()
    two.until("len(kept['tries']) > 1 or not link()._thread.is_alive()")
    two.do(_MANY_FREE)
    assert two.do("client.set_data('/e', b'2').stat.version") == 1
    assert owner_of(directory) == two.pid


def test_a_service_that_cannot_start_its_threads_leaves_the_directory(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start
    before = threading.enumerate()
    for last in ("faaskeeper-writer", "faaskeeper-sharing", "faaskeeper-heartbeat", "faaskeeper-sweeping"):

        def limited(thread: threading.Thread, last: str = last) -> None:
            if thread.name == last:
                raise RuntimeError("can't start new thread")
            start(thread)

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", limited)
            with pytest.raises(RuntimeError):
                EmbeddedService(Config.local(directory), directory)
    EmbeddedService(Config.local(directory), directory).stop()
    started = [each for each in threading.enumerate() if each not in before]
    assert not [each for each in started if each.name == "faaskeeper-writer"]


def test_a_client_that_cannot_start_its_thread_leaves_the_owner(
    service: EmbeddedService, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = listening(service)
    start = threading.Thread.start

    def limited(thread: threading.Thread) -> None:
        if thread.name == "faaskeeper-link":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    place = _Place(str(directory))
    with pytest.raises(RuntimeError):
        place.connect(Config.local(directory), 0)
    assert place._users == 0
    wait_for(lambda: not host.joined)


def test_a_process_that_cannot_open_a_directory_tries_for_a_while_and_then_says_why(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from faaskeeper.providers.local import services

    directory.mkdir()
    place = _Place(str(directory))
    place._users = 1
    reach = _Reach(
        place, Asking(str(directory), "key-value", None), Config.local(directory), place._identity()
    )

    def short(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(services, "EmbeddedService", short)
    for _ in range(3):
        with pytest.raises(wire.Absent):
            reach("shared:x")
    monkeypatch.setattr(services, "_UNABLE_S", -1.0)
    with pytest.raises(Denied, match="can't start new thread"):
        reach("shared:x")


def test_a_link_whose_thread_ends_for_an_odd_reason_ends_its_session(
    service: EmbeddedService, directory: Path
) -> None:
    listening(service)
    with joining(Config.local(directory)) as client:
        client.create("/a", b"1")
        link = link_of(client)

        def odd(name: str) -> Any:
            raise ValueError("something odd")

        link._reach = odd
        assert link._stream is not None
        wire.shut(link._stream)
        wait_for(lambda: client.session_status == "LOST" or not link._thread.is_alive())
        with pytest.raises(FaaSKeeperException, match="something odd"):
            client.get_data("/a")


def test_an_owner_at_its_limit_of_connections_lets_calls_wait_and_keeps_streams(
    service: EmbeddedService, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listening(service)
    answer, go, refused = host_module.Host._answer, threading.Event(), threading.Event()
    one = host_module.Host._accept_one

    def held(host: host_module.Host, body: bytes) -> bytes:
        assert go.wait(PATIENCE_S)
        return answer(host, body)

    def noting(host: host_module.Host, listener: socket.socket) -> str:
        wrong = one(host, listener)
        if wrong:
            refused.set()
        return wrong

    with joining(Config.local(directory)) as client:
        client.create("/a", b"1")
        link = link_of(client)
        stream = link._stream
        monkeypatch.setattr(host_module.Host, "_answer", held)
        monkeypatch.setattr(host_module.Host, "_accept_one", noting)
        monkeypatch.setattr(host_module, "MOST_CONNECTIONS", 2)
        read: list[Record | None] = []
        get = client.connection.records.get
        threads = [threading.Thread(target=lambda: read.append(get("/a"))) for _ in range(3)]
        for thread in threads:
            thread.start()
        assert refused.wait(PATIENCE_S)
        go.set()
        for thread in threads:
            thread.join()
        assert [each.data for each in read if each] == [b"1"] * 3
        assert link._stream is stream


def test_who_connects_and_says_nothing_is_not_waited_for(
    service: EmbeddedService, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listening(service)
    monkeypatch.setattr(wire, "ANSWER_S", 0.1)
    silent = socket.socket(socket.AF_UNIX)
    with wire.address(str(directory)) as name:
        silent.connect(name)
    silent.settimeout(PATIENCE_S)
    assert silent.recv(1) == b""
    silent.close()


# ---- what is pushed ------------------------------------------------------------------------------


Ends = tuple[host_module._Stream, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """A stream whose welcome was sent, and its client's end."""
    here, there = socket.socketpair()
    with here, there:
        here.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        stream = host_module._Stream(here, wire.letter(wire.MESSAGE, b"welcome"))
        stream.pump()
        there.settimeout(PATIENCE_S)
        yield stream, there


def test_a_push_while_a_pump_ends_does_not_mix_frames(ends: Ends) -> None:
    stream, there = ends
    lock = stream._lock
    bodies = [bytes([letter]) * 300_000 for letter in b"abcd"]
    last = iter(bodies[1:])

    class Between:
        """The lock, after whose release another thread pushes just when nothing waits any more."""

        def __enter__(self) -> None:
            lock.acquire()

        def __exit__(self, *_: object) -> None:
            ended = not stream._waiting and threading.current_thread().name == "faaskeeper-host-pump"
            lock.release()
            if ended and (body := next(last, b"")):
                assert stream.push(wire.letter(wire.MESSAGE, body))

    stream._lock = Between()  # type: ignore[assignment]
    assert stream.push(wire.letter(wire.MESSAGE, bodies[0]))
    frames = wire.Frames(there)
    assert [frames.read()[1:] for _ in range(5)] == [b"welcome", *bodies]


def test_a_stream_for_which_no_thread_can_be_started_is_cut(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, there = ends

    def none(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none)
    sent = 0
    while stream.push(wire.letter(wire.MESSAGE, b"x" * 100_000)):
        sent += 1
        assert sent < 100
    assert not stream.push(wire.letter(wire.MESSAGE, b"y"))
    came = b""
    while chunk := there.recv(1_000_000):
        came += chunk
    assert b"y" not in came


def test_what_is_pushed_as_soon_as_a_stream_is_known_comes_after_the_welcome(
    service: EmbeddedService, directory: Path
) -> None:
    host = listening(service)
    known: list[bool] = []
    client = socket.socket(socket.AF_UNIX)

    class Streams(dict[str, Any]):
        def __setitem__(self, name: str, stream: Any) -> None:
            super().__setitem__(name, stream)
            known.append(not select.select([client], [], [], 0)[0])  # the client does not know yet
            known.append(host.deliver(name, b"early"))

    host._streams = Streams()
    with wire.address(str(directory)) as name:
        client.connect(name)
    greeting = {"faaskeeper": wire.PROTOCOL, "layout": "key-value", "super": None, "stream": "shared:x"}
    client.sendall(wire.frame(greeting))
    client.settimeout(PATIENCE_S)
    frames = wire.Frames(client)
    assert b'"key"' in frames.read()
    assert frames.read() == b"mearly"
    assert known == [True, True]
    client.close()


def test_rows_that_could_not_be_restored_are_restored_by_another_try(
    service: EmbeddedService, directory: Path
) -> None:
    listening(service)
    watches: Any = service._tables["watch"]
    put, failed = watches.put, threading.Event()

    def unable(*arguments: Any) -> None:
        watches.put = put
        failed.set()
        raise Unavailable("not now")

    with (
        joining(Config.local(directory), session_timeout=3600) as client,  # no renewal finds the event
        joining(Config.local(directory)) as other,
    ):
        client.create("/a", b"1")
        events: list[Any] = []
        client.get_data("/a", watch=events.append)
        for partition, rows in {**watches.partitions}.items():  # as those of a new owner
            for key in list(rows):
                watches.delete(partition, key)
        watches.put = unable
        stream = link_of(client)._stream
        assert stream is not None
        wire.shut(stream)
        assert failed.wait(PATIENCE_S)
        wait_for(lambda: watches.partitions)
        other.set_data("/a", b"2")
        wait_for(lambda: events)


# ---- services that end, and others in their place ------------------------------------------------


def test_a_service_that_breaks_before_it_listens_says_why_to_those_who_come(
    directory: Path, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = join()
    one.do("client.create('/a', b'0').path")
    one.do("time.sleep(0.5)")  # the mark is saved when the writer rests
    one.do("[client.set_data('/a', b'%d' % number).path for number in range(1, 30)]")
    one.kill()

    def full(writer: Writer, bodies: Sequence[bytes | Message]) -> None:
        raise Denied("the disk is full")

    monkeypatch.setattr(Writer, "handle", full)
    monkeypatch.setattr(Writer, "idle", lambda writer: None)
    service = EmbeddedService(Config.local(directory), directory, beat=False)
    try:
        with pytest.raises(ProviderException, match="the disk is full"):
            joining(Config.local(directory)).start()
    finally:
        service.stop()


def test_sessions_end_with_the_reason_when_a_new_owner_breaks_at_once(join: Join) -> None:
    one, two, three = join(), join(), join()
    one.do("client.create('/a', b'0').path")
    for each in (two, three):
        each.do("setattr(__import__('faaskeeper.core.writer').core.writer.Writer, 'handle', kept.pop)")
    one.kill()
    for each in (two, three):
        each.until("states[-1] == 'LOST'")
        with pytest.raises(RuntimeError, match="the embedded service has stopped"):
            each.do("client.get_data('/a')")


def test_sessions_end_with_the_reason_when_the_new_owner_cannot_listen(
    directory: Path, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    from faaskeeper.providers.local import services

    monkeypatch.setattr(services, "_UNABLE_S", 0.1)
    one = join()
    one.do("client.create('/a', b'0').path")
    client = joining(Config.local(directory))
    client.start()
    monkeypatch.setattr(host_module.Host, "_bind", lambda host: 1 / 0)
    one.kill()
    wait_for(lambda: client.session_status == "LOST")
    with pytest.raises(FaaSKeeperException, match="other processes cannot join the service"):
        client.get_data("/a")
    client.stop()
    EmbeddedService(Config.local(directory), directory).stop()  # it was left


@pytest.mark.parametrize("copied", [False, True])
def test_no_call_is_made_to_another_service_that_is_in_the_directory_s_place(
    directory: Path, join: Join, copied: bool
) -> None:
    one = join()
    one.do("client.create('/a', b'mine').path")
    if copied:  # it has the same key
        one.end()
        shutil.copytree(directory, directory.with_name("copy"))
        one = join()
    two = join()
    two.do("client.get_data('/a').data")
    directory.rename(directory.with_name("moved"))
    if copied:
        directory.with_name("copy").rename(directory)
    three = join()
    three.do("client.set_data('/a', b'other').path" if copied else "client.create('/a', b'other').path")
    join().end()  # it listens
    two.do("link()._idle.clear()")  # as when more calls are made at once than before
    with pytest.raises(RuntimeError, match=r"was moved, deleted or replaced|there is another service"):
        two.do("client.get_data('/a').data")
    two.until("states[-1] == 'LOST'")
    assert one.do("client.get_data('/a').data") == "mine"


def test_a_fork_during_a_call_does_not_keep_its_connection(join: Join) -> None:
    one, two = join(), join()
    two.do("client.create('/a').path")
    two.do("kept.update(lent=link()._lend(link()._stream))")
    one.until("len(host()._connections) >= 2")
    child = two.do("os.fork() or time.sleep(1000)")
    try:
        two.kill()
        one.until("not host()._connections")
    finally:
        os.kill(child, signal.SIGKILL)


# ---- what stands still, and who is told ----------------------------------------------------------


@pytest.mark.simulator  # it waits for time-outs
def test_sessions_outlive_an_owner_that_stood_still_until_its_heartbeat_was_due(join: Join) -> None:
    began = time.monotonic()
    one = join(heartbeat=10)
    two = join(session_timeout=4)
    two.do("client.create('/e', b'', ephemeral=True).path")
    threading.Event().wait(max(0.0, began + 3.0 - time.monotonic()))
    one.process.send_signal(signal.SIGSTOP)
    threading.Event().wait(max(0.0, began + 11.0 - time.monotonic()))
    one.process.send_signal(signal.SIGCONT)
    two.until("client.session_status == 'CONNECTED' and states[-1] == 'CONNECTED'")
    assert "LOST" not in two.do("states")
    assert two.do("client.exists('/e') is not None")


def test_the_doctor_tells_of_an_owner_that_does_not_answer(
    directory: Path, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    from faaskeeper.providers.local import services

    one = join()
    join().end()  # it listens
    monkeypatch.setattr(services, "_OPENING_S", 0.1)
    monkeypatch.setattr(wire, "ANSWER_S", 0.1)
    one.process.send_signal(signal.SIGSTOP)
    findings = {each.check: each for each in LocalDoctor(Config.local(directory)).findings()}
    assert findings["owner"].good
    assert findings["session"].good is False
    assert "does not answer" in findings["session"].message


def test_the_doctor_asks_nothing_of_an_owner_that_does_not_share(directory: Path) -> None:
    EmbeddedService(Config.local(directory), directory).stop()
    alone = EmbeddedService(Config.local(directory), directory, functions=False)
    try:
        with pytest.raises(InUse) as refused:
            Owner(str(directory)).acquire()
        assert not refused.value.shared
        findings = {each.check: each for each in LocalDoctor(Config.local(directory)).findings()}
        assert findings["session"].good is None
    finally:
        alone.stop()
