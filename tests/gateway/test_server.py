"""The server as its operators and clients meet it: sessions, order, words, bounds."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from faaskeeper.core.blobs import parse_blob_name
from faaskeeper.core.connection import Connection
from faaskeeper.core.errors import Unavailable
from faaskeeper.core.sessions import Lease
from faaskeeper.core.tally import Tally
from faaskeeper.gateway.server import ServerError
from faaskeeper.providers.local.objects import DirectoryStore
from faaskeeper.session.timing import WAIT_S
from faaskeeper.testing.patience import PATIENCE_S
from tests.gateway import raw
from tests.gateway.raw import Closed, Raw, acls, number, string
from tests.gateway.servers import Server
from tests.gateway.threads import InThread, far


@pytest.fixture
def server(directory: Path) -> Iterator[Server]:
    server = Server(directory)
    yield server
    assert server.stop() == 0


def back(port: int, before: Raw, **more: object) -> Raw:
    """The same session by another connection."""
    return Raw(port, session=before.session, password=before.password, timeout=before.timeout, **more)  # type: ignore[arg-type]


def gone(client: Raw) -> bool:
    """Whether the server ended the connection, after what it had to say."""
    try:
        while True:
            client.receive()
    except Closed:
        return True


# ---- sessions --------------------------------------------------------------------------------


def test_a_session_is_found_again_with_its_password(server: Server) -> None:
    first = Raw(server.port)
    first.create("/mine", flags=1)
    second = back(server.port, first)
    assert (second.session, second.password) == (first.session, first.password)
    assert gone(first), "the connection before must not go on"
    error, record = second.ask(raw.EXISTS, string("/mine") + b"\0")
    assert error == 0
    assert record.stat()[7] == second.session
    assert second.ask(raw.EPHEMERALS, string("/"))[1].strings() == ["/mine"]
    second.close()


@pytest.mark.parametrize("password", [b"x" * 16, b"", b"x"])
def test_a_session_is_not_found_with_another_password(server: Server, password: bytes) -> None:
    first = Raw(server.port)
    other = Raw(server.port, session=first.session, password=password)
    assert (other.timeout, other.session, other.password) == (0, 0, bytes(16))
    assert gone(other)
    first.ping()
    first.close()


@pytest.mark.parametrize("session", [12345, -1, 1 << 62, -(1 << 63)])
def test_a_session_that_never_was_is_told_to_be_over(server: Server, session: int) -> None:
    other = Raw(server.port, session=session, password=b"p" * 16)
    assert (other.timeout, other.session) == (0, 0)
    assert gone(other)


def test_a_session_that_was_closed_is_told_to_be_over(server: Server) -> None:
    first = Raw(server.port)
    first.create("/mine", flags=1)
    assert first.ask(raw.CLOSE)[0] == 0
    assert gone(first)
    assert back(server.port, first).timeout == 0
    other = Raw(server.port)
    assert other.ask(raw.EXISTS, string("/mine") + b"\0")[0] == -101
    other.close()


def test_a_silent_client_s_session_ends_with_its_ephemerals_and_its_client_is_told(server: Server) -> None:
    silent = Raw(server.port, timeout=4_000)
    silent.create("/mine", flags=1)
    watcher = Raw(server.port)
    assert watcher.ask(raw.EXISTS, string("/mine") + b"\1")[0] == 0
    watcher.socket.settimeout(1)
    for _ in range(int(PATIENCE_S)):  # it pings, as clients do, until it is told
        watcher.ping()
        if watcher.events:
            break
        try:
            watcher.socket.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            continue
    assert list(watcher.events) == [(2, "/mine")]
    assert gone(silent)
    assert back(server.port, silent).timeout == 0
    watcher.close()


def test_sessions_outlive_a_server_that_is_killed(server: Server) -> None:
    client = Raw(server.port)
    client.create("/mine", b"1", flags=1)
    client.create("/watched", b"1")
    zxid = client.next()[1] if client.send(raw.EXISTS, string("/mine") + b"\0") else 0
    server.kill()
    server.start()
    other = Raw(server.port)
    assert other.ask(raw.SET, string("/watched") + string(b"2") + number(-1))[0] == 0
    again = back(server.port, client, last_zxid=zxid)
    assert again.session == client.session
    watches = (
        struct.pack(">q", zxid)
        + raw.strings(["/watched", "/mine"])
        + raw.strings(["/new"])
        + raw.strings(["/"])
    )
    assert again.ask(raw.SET_WATCHES, watches, xid=-8)[0] == 0
    assert list(again.events) == [(3, "/watched")]
    again.events.clear()
    other.create("/new")
    again.ping()
    assert sorted(again.events) == [(1, "/new"), (4, "/")]
    assert again.ask(raw.EPHEMERALS, string("/"))[1].strings() == ["/mine"]
    again.close()
    other.close()


def test_a_server_that_stops_in_order_leaves_sessions_to_the_next(server: Server) -> None:
    client = Raw(server.port)
    client.create("/mine", flags=1)
    assert server.stop() == 0
    assert gone(client)
    server.start()
    again = back(server.port, client)
    assert again.session == client.session
    again.close()


def test_time_outs_are_negotiated_between_bounds(directory: Path) -> None:
    server = Server(directory, "--min-session-timeout", "6000", "--max-session-timeout", "20000")
    for asked, given in ((1, 6_000), (-5, 6_000), (7_000, 7_000), (10**8, 20_000)):
        client = Raw(server.port, timeout=asked)
        assert client.timeout == given
        client.close()
    assert server.stop() == 0


def test_a_client_of_before_release_3_4_is_answered_without_the_flag(shared: Server) -> None:
    client = Raw(shared.port, aware=False)
    client.ping()
    client.close()


def test_a_client_that_has_seen_more_than_there_is_belongs_elsewhere(shared: Server) -> None:
    with pytest.raises(Closed):
        Raw(shared.port, last_zxid=1 << 40)
    assert "it was a client of another" in shared.text


# ---- order -----------------------------------------------------------------------------------


def test_pipelined_requests_are_answered_in_their_order_and_see_each_other(shared: Server) -> None:
    client = Raw(shared.port)
    root = f"/order{client.session}"
    client.create(root)
    sent = []
    for turn in range(100):
        sent.append(client.send(raw.SET, string(root) + string(b"%d" % turn) + number(turn)))
        sent.append(client.send(raw.GET, string(root) + b"\0"))
        sent.append(client.send(raw.SYNC, string(root)))
        sent.append(
            client.send(raw.CREATE2, string(f"{root}/{turn}") + string(b"") + acls(raw.OPEN) + number(0))
        )
        sent.append(client.send(raw.CHILDREN, string(root) + b"\0"))
    last = 0
    for position, xid in enumerate(sent):
        got, zxid, error, record = client.next()
        assert (got, error) == (xid, 0)
        assert zxid >= last
        last = zxid
        if position % 5 == 1:
            assert record.buffer() == b"%d" % (position // 5)
        if position % 5 == 4:
            assert len(record.strings()) == position // 5 + 1
    client.close()


def test_a_read_behind_data_that_is_stored_first_is_answered_once(directory: Path) -> None:
    """It asks for it twice: when the first, of stored data, is done, and when the data is stored.

    Both look for frames, since part of one has come.
    """
    config = {"user-storage": "hybrid"}
    server = InThread(directory, lambda made: replace(made, inline_bytes=20), config=config)
    client = Raw(server.port)
    client.create("/a", b"y" * 60)
    plain, data = string("/a") + b"\0", string("/a") + string(b"x" * 60) + number(-1)
    other = string("/") + b"\0"
    asked = [(raw.GET, plain), (raw.GET, plain), (raw.SET, data), (raw.GET, other), (raw.GET, other)]
    sent = b"".join(string(struct.pack(">ii", xid, op) + body) for xid, (op, body) in enumerate(asked, 10))
    client.socket.sendall(sent[:-5])
    answered = [client.next()[0] for _ in range(4)]
    client.socket.sendall(sent[-5:])
    answered.append(client.next()[0])
    client.ping()
    client.close()
    server.stop()
    assert answered == [10, 11, 12, 13, 14]


@pytest.mark.parametrize("size", [10, 5_000])
@pytest.mark.parametrize("stores", ["near", "far"])
def test_more_requests_than_may_wait_are_all_answered(stores: str, size: int, directory: Path) -> None:
    server = InThread(directory, far if stores == "far" else lambda each: each)
    client = Raw(server.port)
    client.create("/a")
    data = b"x" * size
    sent: list[int] = []

    def send() -> None:
        for turn in range(3_000):
            body = string("/a") + (b"\0" if turn % 3 == 2 else string(data) + number(-1))
            sent.append(client.send(raw.GET if turn % 3 == 2 else raw.SET, body))

    sending = threading.Thread(target=send)
    sending.start()
    for turn in range(3_000):
        got, _, error, record = client.next()
        assert (got, error) == (turn + 2, 0)
        assert turn % 3 != 2 or record.buffer() == data
    sending.join()
    server.stop()


def test_an_event_comes_before_any_reply_that_shows_its_cause(shared: Server) -> None:
    watcher, writer = Raw(shared.port), Raw(shared.port)
    path = f"/cause{watcher.session}"
    writer.create(path, b"0")
    done = threading.Event()

    def write() -> None:
        for turn in range(1, 200):
            assert writer.ask(raw.SET, string(path) + string(b"%d" % turn) + number(-1))[0] == 0
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    watched = -1
    while not done.is_set() or watched < 199:
        error, record = watcher.ask(raw.GET, string(path) + b"\1")
        assert error == 0
        seen = int(record.buffer())
        assert seen == watched or watcher.events or watched < 0, "a change was shown before its event"
        watcher.events.clear()
        watched = seen
    thread.join()
    watcher.close()
    writer.close()


def test_watches_end_with_their_connection_and_only_they(shared: Server) -> None:
    one, two, writer = Raw(shared.port), Raw(shared.port), Raw(shared.port)
    path = f"/both{one.session}"
    writer.create(path)
    for each in (one, two):
        assert each.ask(raw.GET, string(path) + b"\1")[0] == 0
    one = back(shared.port, one)
    assert writer.ask(raw.SET, string(path) + string(b"x") + number(-1))[0] == 0
    one.ping()
    two.ping()
    assert not one.events
    assert list(two.events) == [(3, path)]
    for each in (one, two, writer):
        each.close()


def test_a_watch_that_is_being_set_when_its_connection_ends_is_not_left(
    directory: Path,
) -> None:
    go_on, putting = threading.Event(), threading.Event()

    class Slow:
        def __init__(self, watches: Any) -> None:
            self._watches = watches

        def __getattr__(self, name: str) -> Any:
            return getattr(self._watches, name)

        def put(self, row: Any) -> None:
            putting.set()
            assert go_on.wait(PATIENCE_S)
            self._watches.put(row)

    def slowly(connection: Connection) -> Connection:
        return replace(far(connection), watches=Slow(connection.watches))  # type: ignore[arg-type]

    server = InThread(directory, slowly)
    client = Raw(server.port)
    client.create("/a")
    client.send(raw.GET, string("/a") + b"\1")
    assert putting.wait(PATIENCE_S)
    client.close()
    while server.call(lambda: server.gateway.connections):
        threading.Event().wait(0.01)
    go_on.set()
    server.wait(settled(server))
    assert server.call(lambda: server.gateway.hub.watches.rules.count()) == (0, 0)
    server.stop()


def test_paths_that_nobody_watches_any_more_leave_nothing_in_the_service(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("faaskeeper.gateway.runner.MAX_REGISTRATIONS", 5)
    server = InThread(directory)
    client = Raw(server.port)
    assert client.ask(raw.ADD_WATCH, string("/kept") + number(0))[0] == 0
    for turn in range(30):
        path = client.create(f"/lock-{turn}")
        assert client.ask(raw.EXISTS, string(path) + b"\1")[0] == 0
        assert client.ask(raw.DELETE, string(path) + number(-1))[0] == 0
    server.wait(server.gateway.hub.watches.tidy())
    table = server.gateway.hub.connection.watches._table
    assert sum(len(items) for items in table._items.values()) <= 2 * 6
    assert len(server.gateway.hub.runner.registrations) <= 6
    client.create("/kept")
    assert client.events[-1] == (1, "/kept")
    server.stop()


async def settled(server: InThread) -> None:
    """Until nothing is under way in the server's pool, nor what that caused."""
    hub = server.gateway.hub
    while hub.watches.rules.watching:
        await asyncio.sleep(0.01)


# ---- what operators see ------------------------------------------------------------------------


def ask(port: int, word: str) -> str:
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as asked:
        asked.sendall(word.encode())
        answer = b""
        while more := asked.recv(65536):
            answer += more
    return answer.decode()


def test_four_letter_words_tell_of_the_server(shared: Server) -> None:
    client = Raw(shared.port)
    path = f"/word{client.session}"
    client.create(path, flags=1)
    assert client.ask(raw.EXISTS, string(path) + b"\1")[0] == 0
    assert ask(shared.port, "ruok") == "imok"
    assert ask(shared.port, "isro") == "rw"
    srvr = ask(shared.port, "srvr")
    assert srvr.startswith("Zookeeper version: 3.8.0-faaskeeper-")
    assert "\nMode: standalone\nNode count: " in srvr
    assert f"\nZxid: 0x{client.next()[1] if client.send(raw.SYNC, string('/')) else 0:x}\n" in srvr
    assert f"[1](queued=0,recved={client.xid}" in ask(shared.port, "stat")
    mntr = dict(line.split("\t") for line in ask(shared.port, "mntr").splitlines())
    assert int(mntr["zk_num_alive_connections"]) >= 2
    assert int(mntr["zk_watch_count"]) >= 1
    conf = dict(line.split("=", 1) for line in ask(shared.port, "conf").splitlines())
    assert conf["clientPort"] == str(shared.port)
    assert conf["jute.maxbuffer"] == "1048575"
    assert int(mntr["zk_ephemerals_count"]) >= 1
    ids, times = r"lcxid=0x\w+,lzxid=0x\w+", r"llat=\d+,minlat=\d+,avglat=\d+,maxlat=\d+"
    line = rf"sid=0x{client.session:x},lop=SYNC,est=\d{{13}},to=\d+,{ids},lresp=\d{{13}},{times}\)\n"
    assert re.search(line, ask(shared.port, "cons"))
    assert "Total watches:" in ask(shared.port, "wchs")
    assert "zookeeper.version=3.8.0-faaskeeper-" in ask(shared.port, "envi")
    assert f"0x{client.session:x}:\n\t{path}\n" in ask(shared.port, "dump")
    client.close()


def test_the_words_count_znodes_and_data_as_zookeeper_does(directory: Path) -> None:
    """The numbers are those of a real server, asked after the same steps."""
    server = Server(directory, "--commands", "*")

    def counted() -> tuple[int, int, int, int]:
        mntr = dict(line.split("\t") for line in ask(server.port, "mntr").splitlines())
        node_count = int(ask(server.port, "srvr").splitlines()[-1].removeprefix("Node count: "))
        assert node_count == int(mntr["zk_znode_count"])
        names = ("zk_znode_count", "zk_approximate_data_size", "zk_ephemerals_count", "zk_watch_count")
        return tuple(int(mntr[name]) for name in names)  # type: ignore[return-value]

    client = Raw(server.port)
    assert counted() == (5, 44, 0, 0)
    client.create("/abc", b"12345")
    assert counted() == (6, 53, 0, 0)
    client.create("/e", b"xy", flags=1)
    assert client.ask(raw.SET, string("/abc") + string(b"1") + number(-1))[0] == 0
    assert client.ask(raw.EXISTS, string("/nope") + b"\1")[0] == -101
    assert counted() == (7, 53, 1, 1)
    server.kill()
    server.start()
    assert counted()[:3] == (7, 53, 1)
    other = Raw(server.port)
    assert other.ask(raw.DELETE, string("/abc") + number(-1))[0] == 0
    assert counted()[:3] == (6, 48, 1)
    assert server.stop() == 0


@pytest.mark.parametrize("where", ["near", "far"])
def test_a_word_is_answered_to_who_says_no_more_and_reads(directory: Path, where: str) -> None:
    counting, go_on = threading.Event(), threading.Event()

    def changed(connection: Connection) -> Connection:
        if where == "near":
            return connection

        def slow() -> Tally:
            counting.set()
            assert go_on.wait(PATIENCE_S)
            return Tally(6, 50, 0)

        return replace(far(connection), tally=slow)

    server = InThread(directory, changed, commands=frozenset({"mntr"}))
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as asked:
        asked.sendall(b"mntr\n")
        asked.shutdown(socket.SHUT_WR)
        if where == "far":
            assert counting.wait(PATIENCE_S)
            assert ask(server.port, "ruok").startswith("ruok is not executed")  # others are not kept waiting
            go_on.set()
        answer = b""
        while more := asked.recv(65536):
            answer += more
    assert b"zk_znode_count\t%d\n" % (7 if where == "far" else 5) in answer
    server.stop()


def test_a_server_listens_at_several_addresses(directory: Path) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as free:
        six = free.getsockname()[1]
    server = Server(directory, "--listen", f"[::1]:{six}")
    assert f"127.0.0.1:{server.port}, [::1]:{six}" in server.text
    with socket.create_connection(("::1", six), timeout=PATIENCE_S) as asked:
        asked.sendall(b"ruok")
        assert asked.recv(10) == b"imok"
    assert ask(server.port, "ruok") == "imok"
    assert server.stop() == 0


def test_an_address_that_is_taken_is_named_in_one_line(directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = directory / "config.json"
        config.parent.mkdir(parents=True, exist_ok=True)
        settings = {"cloud-provider": "local", "deployment-name": "n", "directory": str(directory / "data")}
        config.write_text(json.dumps(settings))
        command = [sys.executable, "-m", "faaskeeper.cli", "serve", str(config)]
        command += ["--listen", "127.0.0.1:0", "--listen", f"127.0.0.1:{port}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 1
    assert done.stderr == f"fk: cannot listen on 127.0.0.1:{port}: Address already in use\n"


def test_words_that_are_not_allowed_are_refused_by_name(server: Server) -> None:
    assert ask(server.port, "ruok") == "imok"
    for word in ("mntr", "dump", "conf"):
        assert ask(server.port, word) == f"{word} is not executed because it is not in the whitelist.\n"


def test_prometheus_reads_what_is_counted(directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = Server(directory, "--metrics", f"127.0.0.1:{port}")
    client = Raw(server.port)
    client.create("/a", b"x")
    for _ in range(3):
        assert client.ask(raw.GET, string("/a") + b"\1")[0] == 0
    assert client.ask(raw.GET, string("/none") + b"\0")[0] == -101
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read().decode()
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    prefix = "faaskeeper_gateway_"
    assert samples[(prefix + "requests_total", ("error", "0"), ("type", "getData"))] == 3
    assert samples[(prefix + "requests_total", ("error", "-101"), ("type", "getData"))] == 1
    assert samples[(prefix + "request_seconds_count", ("type", "getData"))] == 4
    assert samples[(prefix + "request_seconds_bucket", ("le", "+Inf"), ("type", "create2"))] == 1
    levels = (
        "connections",
        "sessions",
        "watches",
        "watched_paths",
        "queue_depth",
        "distributor_lag",
        "serving",
    )
    assert [samples[(prefix + name,)] for name in levels] == [1, 1, 1, 1, 0, 0, 1]
    assert samples[(prefix + "zxid",)] >= 2
    client.close()
    assert server.stop() == 0


# ---- bounds ------------------------------------------------------------------------------------


def test_more_connections_than_there_may_be_are_refused_and_others_go_on(directory: Path) -> None:
    server = Server(directory, "--max-connections", "3")
    clients = [Raw(server.port) for _ in range(3)]
    with pytest.raises(Closed):
        Raw(server.port)
    for each in clients:
        each.ping()
    assert clients[0].ask(raw.CLOSE)[0] == 0
    assert gone(clients.pop(0))
    clients.append(Raw(server.port))
    assert "there are 3; raise --max-connections or 'ulimit -n'" in server.text
    for each in clients:
        each.close()
    assert server.stop() == 0


def test_a_client_that_does_not_read_its_answers_is_waited_for_and_holds_nobody_up(server: Server) -> None:
    slow, other = Raw(server.port), Raw(server.port)
    slow.create("/large", b"x" * 1_000_000)
    sent = [slow.send(raw.GET, string("/large") + b"\0") for _ in range(200)]
    for _ in range(20):
        assert other.ask(raw.EXISTS, string("/large") + b"\0")[0] == 0
    memory = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]) * 4096  # type: ignore[union-attr]
    assert memory < 200_000_000
    for xid in sent:
        got, _, error, record = slow.next()
        assert (got, error, len(record.buffer())) == (xid, 0, 1_000_000)
    slow.close()
    other.close()


def test_what_was_answered_before_a_session_is_closed_is_sent(server: Server) -> None:
    client = Raw(server.port)
    client.create("/large", b"x" * 1_000_000)
    sent = [client.send(raw.GET, string("/large") + b"\0") for _ in range(10)]
    closing = client.send(raw.CLOSE)
    for xid in sent:
        got, _, error, record = client.next()
        assert (got, error, len(record.buffer())) == (xid, 0, 1_000_000)
    assert client.next()[0] == closing
    assert gone(client)


def test_a_client_that_does_not_read_its_events_is_ended(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("faaskeeper.gateway.frames.MAX_OUTPUT_BYTES", 1024 * 1024)
    server = InThread(directory)
    slow, writer = Raw(server.port), Raw(server.port)
    path = "/" + "p" * 900
    writer.create(path)
    assert slow.ask(raw.ADD_WATCH, string(path) + number(0))[0] == 0
    while "it reads too slowly" not in caplog.text:  # what the kernel holds, and then a megabyte
        for _ in range(400):
            writer.send(raw.SET, string(path) + string(b"") + number(-1))
        for _ in range(400):
            assert writer.next()[2] == 0
    assert server.call(lambda: len(server.gateway.connections)) == 1
    writer.ping()
    server.stop()


def test_more_than_jute_maxbuffer_ends_the_connection(directory: Path) -> None:
    server = Server(directory, "--max-buffer", "2048")
    client, other = Raw(server.port), Raw(server.port)
    client.create("/a", b"x" * 1500)
    with pytest.raises(Closed):
        client.create("/b", b"x" * 2048)
    assert "a frame of " in server.text
    other.ping()
    other.close()
    assert server.stop() == 0


# ---- the server's own lease --------------------------------------------------------------------


class Leases:
    """Leases that can be out of reach, and count what is written."""

    def __init__(self, leases: Any) -> None:
        self._leases = leases
        self.written = 0
        self.reached = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._leases, name)

    def replace(self, lease: Lease) -> Lease:
        if not self.reached:
            raise Unavailable("out of reach")
        self.written += 1
        replaced: Lease = self._leases.replace(lease)
        return replaced


@pytest.fixture
def threaded(directory: Path) -> Iterator[tuple[InThread, Leases]]:
    made: list[Leases] = []

    def counted(connection: Connection) -> Connection:
        made.append(Leases(connection.leases))
        return replace(far(connection), leases=made[0])  # type: ignore[arg-type]

    server = InThread(directory, counted)
    yield server, made[0]
    server.stop()


def pinged_out(client: Raw) -> bool:
    """Ping until the server answers no more."""
    try:
        while True:
            client.ping()
    except (Closed, ConnectionError):
        return True


def test_all_sessions_leases_are_renewed_in_one_write(threaded: tuple[InThread, Leases]) -> None:
    server, leases = threaded
    clients = [Raw(server.port, timeout=30_000) for _ in range(50)]
    before = leases.written
    assert before >= 50, "each was attached"
    server.wait(server.gateway.hub.lease.renew())
    assert leases.written == before + 1
    for each in clients:
        each.ping()


def test_clients_are_let_go_when_the_lease_cannot_be_renewed_and_served_when_it_can(
    threaded: tuple[InThread, Leases], caplog: pytest.LogCaptureFixture
) -> None:
    server, leases = threaded
    client = Raw(server.port, timeout=4_000)
    client.create("/mine", flags=1)
    leases.reached = False
    assert pinged_out(client)
    assert "cannot be reached now" in caplog.text or "every connection is ended" in caplog.text
    with pytest.raises(Closed):
        back(server.port, client)
    leases.reached = True
    server.wait(server.gateway.hub.lease.renew())
    again = back(server.port, client)
    assert again.session == client.session
    assert again.ask(raw.EPHEMERALS, string("/"))[1].strings() == ["/mine"]


def test_a_server_whose_own_session_has_ended_begins_again(threaded: tuple[InThread, Leases]) -> None:
    server, leases = threaded
    client = Raw(server.port, timeout=4_000)
    client.create("/mine", flags=1)
    own = server.gateway.hub.lease.session
    lease = leases.get(own)
    leases.mark(lease)
    assert pinged_out(client)
    while (
        server.call(lambda: server.gateway.hub.lease.session) in (0, own)
        or not server.gateway.hub.lease.serving
    ):
        threading.Event().wait(0.01)
    again = back(server.port, client)
    assert again.session == client.session
    assert again.ask(raw.SET, string("/mine") + string(b"x") + number(0))[0] == 0


def test_a_client_is_not_told_of_the_end_of_a_session_that_it_never_had(
    threaded: tuple[InThread, Leases],
) -> None:
    """The server was so slow that the session expired while it was opened: its client asks again."""
    server, leases = threaded
    slow = [True]
    replaced = leases.replace

    def late(lease: Lease) -> Lease:
        if slow and lease.under:
            slow.clear()
            leases.mark(leases.get(lease.session))
        return replaced(lease)

    leases.replace = late  # type: ignore[method-assign]
    with pytest.raises(Closed):
        Raw(server.port)
    Raw(server.port).create("/a")


def test_data_that_is_lost_is_an_error_of_its_request_alone(directory: Path) -> None:
    server = Server(directory, config={"user-storage": "hybrid"})
    client = Raw(server.port)
    client.create("/n", b"x" * 200_000)
    client.create("/n/s-", b"y" * 200_000, 2)
    store = DirectoryStore(directory / "data" / "objects")
    names = store.list("b/", "", 10)
    said = [each for each in map(parse_blob_name, names) if each is not None]
    assert [(each.path, each.sequential) for each in said] == [("/n", False), ("/n/s-", True)]
    assert {each.session for each in said} == {client.session}
    store.put(names[0], b"z" * 200_000)
    assert client.ask(raw.GET, string("/n") + b"\0")[0] == -3
    part = number(raw.GET) + b"\0" + number(-1)
    together = b"".join(part + string(path) + b"\0" for path in ("/n", "/n/s-0000000000"))
    error, record = client.ask(raw.MULTI_READ, together + number(-1) + b"\1" + number(-1))
    assert error == 0
    assert b"y" * 200_000 in record.data
    assert number(-3) in record.data
    assert b"z" * 100 not in record.data
    assert client.ask(raw.GET, string("/n/s-0000000000") + b"\0")[0] == 0
    assert "the data of /n is lost" in server.text
    client.close()
    assert server.stop() == 0


def test_nothing_overtakes_a_write_whose_data_is_being_stored(directory: Path) -> None:
    storing, go_on = threading.Event(), threading.Event()

    class Slow:
        def __init__(self, blobs: Any) -> None:
            self._blobs = blobs

        def __getattr__(self, name: str) -> Any:
            return getattr(self._blobs, name)

        def put(self, *args: Any, **more: Any) -> Any:
            storing.set()
            assert go_on.wait(PATIENCE_S)
            return self._blobs.put(*args, **more)

    def slowly(connection: Connection) -> Connection:
        return replace(far(connection), blobs=Slow(connection.blobs))  # type: ignore[arg-type]

    server = InThread(directory, slowly, config={"user-storage": "hybrid"})
    client, other = Raw(server.port), Raw(server.port)
    client.create("/n")
    sent = [
        client.send(raw.SET, string("/n") + string(b"x" * 200_000) + number(0)),
        client.send(raw.SET, string("/n") + string(b"y") + number(1)),
        client.send(raw.GET, string("/n") + b"\0"),
    ]
    assert storing.wait(PATIENCE_S)
    while server.call(lambda: sum(each.waiting for each in server.gateway.connections)) < 3:
        threading.Event().wait(0.01)
    assert other.ask(raw.EXISTS, string("/n") + b"\0")[0] == 0  # others go on meanwhile
    go_on.set()
    answers = [client.next() for _ in sent]
    assert [answer[0] for answer in answers] == sent
    assert [answer[2] for answer in answers] == [0, 0, 0]
    assert answers[2][3].buffer() == b"y"
    for each in (client, other):
        each.close()
    server.stop()


class SlowRecords:
    """Records whose reads wait for an event."""

    def __init__(self, records: Any, go_on: threading.Event) -> None:
        self._records = records
        self._go_on = go_on

    def __getattr__(self, name: str) -> Any:
        return getattr(self._records, name)

    def get(self, path: str) -> Any:
        assert self._go_on.wait(PATIENCE_S)
        return self._records.get(path)

    def get_many(self, paths: Any) -> Any:
        assert self._go_on.wait(PATIENCE_S)
        return self._records.get_many(paths)


def test_a_read_counts_the_credentials_that_were_shown_before_it_only(directory: Path) -> None:
    go_on = threading.Event()

    def slowly(connection: Connection) -> Connection:
        records: Any = SlowRecords(connection.records, go_on)
        return replace(far(connection), records=records)

    server = InThread(directory, slowly)
    owner, client = Raw(server.port), Raw(server.port)
    credential = number(0) + string("digest") + string("user:password")
    assert owner.ask(raw.AUTH, credential, xid=-4)[0] == 0
    entries = acls([[31, "auth", ""]])
    assert owner.ask(raw.CREATE2, string("/mine") + string(b"x") + entries + number(0))[0] == 0
    first = client.send(raw.GET, string("/other") + b"\0")  # those after it wait, and are read together
    before = client.send(raw.GET, string("/mine") + b"\0")
    client.send(raw.AUTH, credential, xid=-4)
    after = client.send(raw.GET, string("/mine") + b"\0")
    assert client.next()[0] == -4
    while server.call(lambda: sum(each.waiting for each in server.gateway.connections)) < 3:
        threading.Event().wait(0.01)
    go_on.set()
    answers = [client.next() for _ in range(3)]
    assert [(answer[0], answer[2]) for answer in answers] == [(first, -101), (before, -102), (after, 0)]
    for each in (owner, client):
        each.close()
    server.stop()


def test_a_server_stops_to_read_from_a_client_that_has_too_many_requests(directory: Path) -> None:
    go_on = threading.Event()

    def slowly(connection: Connection) -> Connection:
        records: Any = SlowRecords(connection.records, go_on)
        return replace(far(connection), records=records)

    server = InThread(directory, slowly)
    client, other = Raw(server.port), Raw(server.port)
    request = struct.pack(">ii", 1, raw.GET) + string("/" + "n" * 200) + b"\0"
    requests = (number(len(request)) + request) * 256
    sent, most = 0, 64 * 1024 * 1024
    client.socket.settimeout(1.0)
    with suppress(TimeoutError):
        while sent < most:
            sent += client.socket.send(requests)
    assert sent < most
    assert server.call(lambda: max(each.waiting for each in server.gateway.connections)) <= 1_001
    other.ping()
    client.close()
    go_on.set()
    other.close()
    server.stop()


def test_a_service_that_is_asked_by_a_queue_is_asked_to_apply_the_log_only_after_a_long_wait(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = InThread(directory, lambda made: replace(far(made), ring=None))
    hub = server.gateway.hub
    sent: list[Any] = []
    monkeypatch.setattr(hub.sender, "send", sent.extend)
    server.call(lambda: hub.lease.ring(WAIT_S))
    assert sent == []
    server.call(lambda: hub.lease.ring(2 * WAIT_S))
    assert [message.requests for message, _ in sent] == [()]
    monkeypatch.undo()
    server.stop()


def test_a_client_that_sends_more_than_a_read_takes_does_not_keep_the_loop(directory: Path) -> None:
    server = InThread(directory)
    client = Raw(server.port)

    def reads_in_a_row() -> tuple[bool, bool]:
        (connection,) = server.gateway.connections
        transport = connection._transport
        size = len(connection.get_buffer(-1))
        ping = struct.pack(">iii", 8, -2, raw.PING)
        connection.get_buffer(-1)[:] = (ping * (size // len(ping) + 1))[:size]
        connection.buffer_updated(size)
        after_all = transport.is_reading()
        connection.get_buffer(-1)[:8] = (ping * 2)[size % len(ping) :][:8]
        connection.buffer_updated(len(ping) - size % len(ping))
        return after_all, transport.is_reading()

    assert server.call(reads_in_a_row) == (False, False)
    assert server.call(lambda: [each._transport.is_reading() for each in server.gateway.connections]) == [
        True
    ]
    client.socket.close()
    server.stop()


@pytest.mark.parametrize("read", ["plain", "of several"])
def test_nothing_is_read_once_a_write_was_answered_whose_records_cannot_be_put(
    directory: Path, read: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full, say: the service ends after some tries, and the server with it."""
    server = InThread(directory)
    client = Raw(server.port)
    client.create("/a", b"old")
    client.ping()  # the writer, which runs in the loop's thread, is done
    distributor = server.gateway.hub.connection.within._queue._handle.__self__._distributor

    def full(*_: object) -> None:
        raise Unavailable("the disk is full")

    monkeypatch.setattr(distributor, "_write", full)
    body = string("/a") + b"\0"
    if read == "of several":
        asked = raw.MULTI_READ, number(raw.GET) + b"\0" + number(-1) + body + number(-1) + b"\1" + number(-1)
    else:
        asked = raw.GET, body
    requests = [(raw.GET, body), (raw.SET, string("/a") + string(b"new") + number(-1)), asked, asked]
    frames = [struct.pack(">ii", xid, op) + record for xid, (op, record) in enumerate(requests, 10)]
    client.socket.sendall(b"".join(string(frame) for frame in frames))
    answered: list[tuple[int, int]] = []
    with suppress(Closed):
        while True:
            xid, _, error, _ = client.next()
            answered.append((xid, error))
    assert answered == [(10, 0), (11, 0)]
    with pytest.raises(ServerError, match="the disk is full"):
        server.ended()
