"""The contracts of a whole deployment, as tests that see it through the client alone.

Subclass a suite and give it a fixture ``harness``, a :class:`Harness` of a deployment that works::

    class TestSemantics(SemanticsSuite):
        @pytest.fixture
        def harness(self):
            with MyDeployment() as deployment:
                yield deployment

One deployment may serve many tests, one after the other: each test works below a node of its own.
"""

from __future__ import annotations

import itertools
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest

from faaskeeper.client import FaaSKeeperClient, Future
from faaskeeper.client.session import Session
from faaskeeper.config import Config
from faaskeeper.core.connection import Connection
from faaskeeper.exceptions import (
    BadVersionError,
    FaaSKeeperException,
    InvalidACLException,
    MalformedInputException,
    NoAuthException,
    NoChildrenForEphemeralsException,
    NodeDoesntExistException,
    NodeExistsException,
    NotEmptyException,
    NoWatcherException,
    RolledBackException,
    SessionExpiredException,
)
from faaskeeper.node import Node
from faaskeeper.testing.conformance import golden
from faaskeeper.testing.conformance.golden import Refused, content
from faaskeeper.testing.patience import PATIENCE_S
from faaskeeper.watch import WatchedEvent, WatchType

TIMEOUT_S = 4.0
"""Time-out of sessions that are to end: the shortest there is."""
LASTING_S = 60.0
"""Time-out of all others: a client that gets little of its machine's time keeps it."""
_CRASHES = 5

EVENTS = {
    "NodeCreated": "created",
    "NodeDeleted": "deleted",
    "NodeDataChanged": "changed",
    "NodeChildrenChanged": "children",
}
"""Types of event, and the words of the scenarios."""
CODES: dict[type[FaaSKeeperException], str] = {
    NodeDoesntExistException: "NoNode",
    NodeExistsException: "NodeExists",
    NotEmptyException: "NotEmpty",
    BadVersionError: "BadVersion",
    NoChildrenForEphemeralsException: "NoChildrenForEphemerals",
    MalformedInputException: "BadArguments",
    RolledBackException: "RuntimeInconsistency",
    NoAuthException: "NoAuth",
    InvalidACLException: "InvalidACL",
    NoWatcherException: "NoWatcher",
}
KINDS = {1: WatchType.GET_CHILDREN, 2: (WatchType.GET_DATA, WatchType.EXISTS), 3: None}
"""ZooKeeper's numbers for kinds of watch."""


class Harness(ABC):
    """A deployment under test. A provider overrides what is not as here."""

    config: Config
    connect: Callable[[Config, int], Connection] | None = None
    """How clients connect; None: as the configuration's provider does it."""

    def client(self, **options: Any) -> FaaSKeeperClient:
        """A client of the deployment, not started."""
        options.setdefault("session_timeout", LASTING_S)
        if self.connect is not None:
            options["connect"] = self.connect
        return FaaSKeeperClient(self.config, **options)

    @abstractmethod
    def beat(self) -> None:
        """Run heartbeat once, to its end."""

    @abstractmethod
    def crash(self) -> None:
        """Have the functions' processes die, in the middle of what they do if they do something.

        Whatever the provider does to go on (a restart, a redelivery) must happen by itself.
        """

    def pass_time(self, seconds: float) -> None:
        """Let time pass by the service's clock."""
        time.sleep(seconds)


class _Suite:
    @pytest.fixture
    def start(self, harness: Harness) -> Iterator[Callable[..., FaaSKeeperClient]]:
        """Makes started clients, and stops those that the test leaves open."""
        clients: list[FaaSKeeperClient] = []

        def started(**options: Any) -> FaaSKeeperClient:
            client = harness.client(**options)
            clients.append(client)
            client.start()
            return client

        yield started
        for client in clients:
            client.stop()

    @pytest.fixture
    def root(self, harness: Harness) -> str:
        """A node of the test's own."""
        path = f"/test-{uuid4().hex}"
        with harness.client() as client:
            client.create(path)
        return path


def _session(client: FaaSKeeperClient) -> Session:
    session = client._session
    assert session is not None
    return session


def _flush(client: FaaSKeeperClient) -> None:
    """Wait until the callbacks that are due now have run."""
    done = threading.Event()
    _session(client).call_later(done.set)
    assert done.wait(PATIENCE_S)


def _expire(harness: Harness, gone: FaaSKeeperClient, others: list[FaaSKeeperClient]) -> None:
    """A client's process dies; heartbeat ends its session when its time is over, and only that."""
    session = _session(gone)
    with harness.client() as witness:
        path = witness.create("/witness-", ephemeral=True, sequential=True).path
        session.abandon()
        harness.pass_time(TIMEOUT_S + 1)
        for other in (*others, witness):
            _session(other).renew()
        deadline = time.monotonic() + PATIENCE_S
        connection = witness._connection
        assert connection is not None
        while connection.leases.get(session.id) is not None:
            assert time.monotonic() < deadline, "heartbeat does not end the session"
            harness.beat()
            witness.set_data(path)  # answered after the close, where that was asked for


# ---- semantics -------------------------------------------------------------------------------


class _Adapter:
    """Runs the scenarios' operations through clients."""

    def __init__(self, harness: Harness, ending: set[str]) -> None:
        """``ending``: the sessions of clients that are to die."""
        self._harness = harness
        self._ending = ending
        self._clients: dict[str, FaaSKeeperClient] = {}
        self._fired: dict[str, list[WatchedEvent]] = {}

    def client(self, name: str) -> FaaSKeeperClient:
        if name not in self._clients:
            client = self._harness.client(session_timeout=TIMEOUT_S if name in self._ending else LASTING_S)
            client.start()
            self._clients[name] = client
            self._fired[name] = []
        return self._clients[name]

    def owner(self, session: str) -> int:
        """Id of a session."""
        return _session(self.client(session)).id

    def events(self) -> dict[str, list[list[str]]]:
        """Each session meets all that is committed; then its callback thread runs out of work."""
        seen = {}
        for name, client in self._clients.items():
            client.sync()
            _flush(client)
            fired = list(self._fired[name])
            self._fired[name].clear()
            if fired:
                seen[name] = [[EVENTS[str(event.event_type)], event.path] for event in fired]
        return seen

    def call(self, session: str, op: str, args: list[Any]) -> dict[str, Any]:
        """Perform an operation; raises Refused."""
        client = self.client(session)
        try:
            return self._perform(session, client, op, args)
        except FaaSKeeperException as error:
            code = CODES[type(error)]
            if code == "BadArguments" and op == "get" and not args[0].startswith("/"):
                code = "NoNode"  # the client says so before it asks
            raise Refused(code) from error

    def _perform(self, session: str, client: FaaSKeeperClient, op: str, args: list[Any]) -> dict[str, Any]:
        watch = self._fired[session].append if len(args) > 1 and args[1] is True else None
        if op.startswith("create"):
            node = self._create(client, op, args)
            return {"path": node.path, "stat": node.stat}
        if op == "set":
            return {"stat": client.set_data(args[0], content(args[1]), args[2]).stat}
        if op == "delete":
            client.delete(args[0], args[1])
        elif op == "get":
            node = client.get_data(args[0], watch)
            return {"data": node.data.decode(), "stat": node.stat}
        elif op == "exists":
            found = client.exists(args[0], watch)
            if found is None:
                raise NodeDoesntExistException(args[0])
            return {"stat": found.stat}
        elif op == "children":
            nodes = client.get_children(args[0], watch=watch)
            return {"children": [node.path.rsplit("/", 1)[1] for node in nodes]}
        elif op == "children2":
            names, stat = client.get_children_with_stat(args[0], watch)
            return {"children": names, "stat": stat}
        elif op == "all_children_number":
            return {"number": client.all_children_number(args[0])}
        elif op == "get_ephemerals":
            return {"paths": client.get_ephemerals(args[0])}
        elif op == "sync":
            return {"path": client.sync(args[0])}
        elif op == "set_acl":
            return {"stat": client.set_acls(args[0], [tuple(acl) for acl in args[1]], args[2]).stat}
        elif op == "get_acl":
            acls, stat = client.get_acls(args[0])
            return {"acl": [list(acl) for acl in acls], "stat": stat}
        elif op == "auth":
            client.add_auth(args[0], args[1])
        elif op == "whoami":
            return {"ids": [list(identity) for identity in client.who_am_i()]}
        elif op == "multi_read":
            return {"results": self._read_together(client, args[0])}
        elif op == "multi":
            return {"results": self._multi(client, args[0])}
        elif op == "add_watch":
            client.add_watch(args[0], self._fired[session].append, recursive=bool(args[1]))
        elif op == "check_watches":
            client.check_watches(args[0], KINDS[args[1]])  # type: ignore[arg-type]
        elif op == "remove_watches":
            client.remove_watches(args[0], KINDS[args[1]])  # type: ignore[arg-type]
        elif op == "close":
            del self._clients[session]
            client.stop()
        elif op == "expire":
            del self._clients[session]
            _expire(self._harness, client, list(self._clients.values()))
        else:
            raise AssertionError(f"no scenario has had {op!r} so far")
        return {}

    @staticmethod
    def _create(client: FaaSKeeperClient, op: str, args: list[Any]) -> Node:
        path, value = args[0], content(args[1])
        if op == "create_container":
            return client.create(path, value, container=True)
        if op == "create_ttl":
            return client.create(path, value, sequential=args[2] == 6, ttl=args[3])
        acl = [tuple(entry) for entry in args[3]] if len(args) > 3 else None
        return client.create(path, value, bool(args[2] & 1), bool(args[2] & 2), acl=acl)

    @staticmethod
    def _multi(client: FaaSKeeperClient, parts: list[Any]) -> list[dict[str, Any]]:
        transaction = client.transaction()
        for part in parts:
            if part[0] == "create":
                transaction.create(part[1], content(part[2]), bool(part[3] & 1), bool(part[3] & 2))
            elif part[0] == "set":
                transaction.set_data(part[1], content(part[2]), part[3])
            elif part[0] == "delete":
                transaction.delete(part[1], part[2])
            else:
                transaction.check(part[1], part[2])
        results = transaction.commit()
        failed = any(isinstance(each, FaaSKeeperException) for each in results)
        shown: list[dict[str, Any]] = []
        for part, each in zip(parts, results, strict=True):
            if failed:
                code = CODES[type(each)] if isinstance(each, FaaSKeeperException) else "Ok"
                shown.append({"error": code})
            elif part[0] == "create":
                assert isinstance(each, Node)
                shown.append({"op": "create", "path": each.path})
            else:
                shown.append({"op": part[0], **({"stat": each.stat} if isinstance(each, Node) else {})})
        return shown

    @staticmethod
    def _read_together(client: FaaSKeeperClient, parts: list[Any]) -> list[dict[str, Any]]:
        reads = client.multi_read()
        for op, path in parts:
            (reads.get_data if op == "get" else reads.get_children)(path)
        shown: list[dict[str, Any]] = []
        for each in reads.commit():
            if isinstance(each, FaaSKeeperException):
                shown.append({"error": CODES[type(each)]})
            elif isinstance(each, Node):
                shown.append({"op": "get", "data": each.data.decode(), "stat": each.stat})
            else:
                assert each is not None
                shown.append({"op": "children", "children": [node.path.rsplit("/", 1)[1] for node in each]})
        return shown

    def stop(self) -> None:
        for client in self._clients.values():
            client.stop()


class SemanticsSuite(_Suite):
    """Every scenario observed on a real ZooKeeper server, through the client."""

    @pytest.mark.parametrize("scenario", golden.SCENARIOS, ids=golden.name_of)
    def test_the_client_shows_what_the_server_showed(
        self, scenario: dict[str, Any], harness: Harness, root: str
    ) -> None:
        adapter = _Adapter(harness, golden.ending(scenario))
        try:
            golden.run(scenario, adapter, root)
        finally:
            adapter.stop()


# ---- sessions --------------------------------------------------------------------------------


class SessionSuite(_Suite):
    """Sessions: order, exactly once, ephemerals, expiry, handing over."""

    def test_a_session_s_writes_happen_in_its_order_and_its_reads_after_them(
        self, start: Callable[..., FaaSKeeperClient], root: str
    ) -> None:
        client = start()
        futures = [client.set_data_async(root, b"%d" % number) for number in range(100)]
        assert client.get_data(root).data == b"99"
        assert [future.get(PATIENCE_S).stat.version for future in futures] == list(range(1, 101))

    def test_concurrent_changes_each_count_once(
        self, start: Callable[..., FaaSKeeperClient], root: str
    ) -> None:
        clients = [start() for _ in range(4)]
        clients[0].set_data(root, b"0")

        def count(client: FaaSKeeperClient) -> None:
            for _ in range(10):
                while True:
                    node = client.get_data(root)
                    try:
                        client.set_data(root, b"%d" % (int(node.data) + 1), node.stat.version)
                    except BadVersionError:
                        continue
                    break

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(count, clients))
        clients[0].sync()
        assert clients[0].get_data(root).data == b"40"

    def test_transactions_are_seen_whole(self, start: Callable[..., FaaSKeeperClient], root: str) -> None:
        writer, reader = start(), start()
        with writer.transaction() as transaction:
            for name in "abc":
                transaction.create(f"{root}/{name}", b"0")
        stop = threading.Event()

        def write() -> None:
            for number in itertools.count(1):
                if stop.is_set():
                    return
                with writer.transaction() as transaction:
                    for name in "abc":
                        transaction.set_data(f"{root}/{name}", b"%d" % number)

        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(write)
            try:
                shown: set[bytes] = set()
                while len(shown) < 5:
                    with reader.multi_read() as reads:
                        for name in "abc":
                            reads.get_data(f"{root}/{name}")
                    values = {each.data for each in reads.results if isinstance(each, Node)}
                    assert len(values) == 1
                    shown |= values
            finally:
                stop.set()
            writing.result(PATIENCE_S)

    def test_data_of_any_size_up_to_the_limit_comes_back(
        self, start: Callable[..., FaaSKeeperClient], root: str
    ) -> None:
        client, other = start(), start()
        for size in (0, 1, 4_096, 65_537, 300_000, 1024 * 1024):
            value = bytes(number % 251 for number in range(size))
            client.set_data(root, value)
            other.sync()
            assert other.get_data(root).data == value

    def test_many_children_are_listed_as_they_come_and_go(
        self, start: Callable[..., FaaSKeeperClient], root: str
    ) -> None:
        client, other = start(), start()
        names = [f"n{number:04d}" for number in range(400)]
        for future in [client.create_async(f"{root}/{name}") for name in names]:
            future.get(PATIENCE_S)
        other.sync()
        assert other.get_children_with_stat(root)[0] == names
        for deleted in [client.delete_async(f"{root}/{name}") for name in names[:390]]:
            deleted.get(PATIENCE_S)
        other.sync()
        assert other.get_children_with_stat(root)[0] == names[390:]

    def test_ephemerals_go_with_their_session(
        self, start: Callable[..., FaaSKeeperClient], root: str
    ) -> None:
        client, other = start(), start()
        client.create(f"{root}/e", ephemeral=True)
        gone = threading.Event()
        other.sync()
        assert other.exists(f"{root}/e", lambda event: gone.set()) is not None
        client.stop()
        assert gone.wait(PATIENCE_S)
        assert other.exists(f"{root}/e") is None

    def test_the_session_of_a_client_that_died_ends_and_no_other(
        self, harness: Harness, start: Callable[..., FaaSKeeperClient], root: str
    ) -> None:
        dead, alive = start(session_timeout=TIMEOUT_S), start()
        dead.create(f"{root}/dead", ephemeral=True)
        alive.create(f"{root}/alive", ephemeral=True)
        _expire(harness, dead, [alive])
        alive.sync()
        assert [node.path for node in alive.get_children(root)] == [f"{root}/alive"]

    def test_a_session_that_has_ended_is_refused(
        self, harness: Harness, start: Callable[..., FaaSKeeperClient], root: str
    ) -> None:
        client, other = start(session_timeout=TIMEOUT_S, heartbeat=False), start()
        session = _session(client)
        with harness.client() as witness:
            path = witness.create("/witness-", ephemeral=True, sequential=True).path
            harness.pass_time(TIMEOUT_S + 1)
            for alive in (other, witness):
                _session(alive).renew()
            deadline = time.monotonic() + PATIENCE_S
            connection = witness._connection
            assert connection is not None
            while connection.leases.get(session.id) is not None:
                assert time.monotonic() < deadline
                harness.beat()
                witness.set_data(path)
        with pytest.raises(SessionExpiredException):
            client.set_data(root, b"from beyond")
        other.sync()
        assert other.get_data(root).data == b""

    def test_another_process_goes_on_with_a_session_and_the_first_is_refused(
        self, start: Callable[..., FaaSKeeperClient], harness: Harness, root: str
    ) -> None:
        first = start()
        first.create(f"{root}/e", b"kept", ephemeral=True)
        second = harness.client()
        try:
            assert second.start(resume=first.ticket) == first.session_id
            assert second.get_data(f"{root}/e").data == b"kept"
            assert second.get_ephemerals(root) == [f"{root}/e"]
            with pytest.raises(SessionExpiredException):
                first.set_data(f"{root}/e", b"not mine any more")
            second.set_data(f"{root}/e", b"mine")
        finally:
            second.stop()


# ---- watches ---------------------------------------------------------------------------------


class WatchSuite(_Suite):
    """Watches: told to other clients, in order, before what they announce can be read."""

    def test_each_change_is_told_to_who_watched_before_it(
        self, start: Callable[..., FaaSKeeperClient], root: str
    ) -> None:
        writer, reader = start(), start()
        heard: list[WatchedEvent] = []
        more = threading.Semaphore(0)

        def hear(event: WatchedEvent) -> None:
            heard.append(event)
            more.release()

        for change, watch in (
            (lambda: writer.create(f"{root}/n"), lambda: reader.exists(f"{root}/n", hear)),
            (lambda: writer.set_data(f"{root}/n", b"1"), lambda: reader.get_data(f"{root}/n", hear)),
            (lambda: writer.create(f"{root}/n/c"), lambda: reader.get_children(f"{root}/n", watch=hear)),
            (lambda: writer.delete(f"{root}/n/c"), lambda: reader.get_children(f"{root}/n", watch=hear)),
            (lambda: writer.delete(f"{root}/n"), lambda: reader.get_data(f"{root}/n", hear)),
        ):
            watch()
            change()
            assert more.acquire(timeout=PATIENCE_S)
        told = [(str(event.event_type), event.path.removeprefix(root)) for event in heard]
        assert told == [
            ("NodeCreated", "/n"),
            ("NodeDataChanged", "/n"),
            ("NodeChildrenChanged", "/n"),
            ("NodeChildrenChanged", "/n"),
            ("NodeDeleted", "/n"),
        ]
        stamps = [event.timestamp for event in heard]
        assert stamps == sorted(stamps)

    def test_an_event_is_told_before_the_state_that_it_announces_is_read(
        self, start: Callable[..., FaaSKeeperClient], root: str
    ) -> None:
        """The writer sets the flag after the data: who reads the flag must have been told of the data."""
        writer, reader = start(), start()
        writer.create(f"{root}/data", b"0")
        writer.create(f"{root}/flag", b"0")
        for number in range(1, 21):
            told = threading.Event()
            reader.get_data(f"{root}/data", lambda event, told=told: told.set())  # type: ignore[misc]
            futures: list[Future[Node]] = [
                writer.set_data_async(f"{root}/{name}", b"%d" % number) for name in ("data", "flag")
            ]
            deadline = time.monotonic() + PATIENCE_S
            while reader.get_data(f"{root}/flag").data != b"%d" % number:
                assert time.monotonic() < deadline
            _flush(reader)
            assert told.is_set()
            assert reader.get_data(f"{root}/data").data == b"%d" % number
            for future in futures:
                future.get(PATIENCE_S)

    def test_a_recursive_watch_is_told_of_all_that_happens_below(
        self, start: Callable[..., FaaSKeeperClient], root: str
    ) -> None:
        writer, reader = start(), start()
        heard: list[tuple[str, str]] = []
        enough = threading.Event()

        def hear(event: WatchedEvent) -> None:
            heard.append((str(event.event_type), event.path.removeprefix(root)))
            if len(heard) == 4:
                enough.set()

        reader.add_watch(root, hear, recursive=True)
        writer.create(f"{root}/a")
        writer.create(f"{root}/a/b", b"1")
        writer.set_data(f"{root}/a/b", b"2")
        writer.delete(f"{root}/a/b")
        assert enough.wait(PATIENCE_S)
        assert heard == [
            ("NodeCreated", "/a"),
            ("NodeCreated", "/a/b"),
            ("NodeDataChanged", "/a/b"),
            ("NodeDeleted", "/a/b"),
        ]
        reader.remove_watches(root, watch=hear)
        writer.delete(f"{root}/a")
        reader.sync()
        _flush(reader)
        assert len(heard) == 4

    def test_what_sync_shows_is_at_least_what_was_committed(
        self, start: Callable[..., FaaSKeeperClient], root: str
    ) -> None:
        writer, reader = start(), start()
        for number in range(20):
            writer.set_data(root, b"%d" % number)
            reader.sync()
            assert reader.get_data(root).data == b"%d" % number


# ---- functions that die ----------------------------------------------------------------------


class CrashSuite(_Suite):
    """Functions die in the middle: what was acknowledged is there, once, and in order."""

    def test_every_acknowledged_write_is_there_once_although_functions_die(
        self, harness: Harness, start: Callable[..., FaaSKeeperClient], root: str
    ) -> None:
        clients = [start() for _ in range(3)]
        done = threading.Event()

        def load(number: int) -> list[str]:
            made: list[str] = []
            while not done.is_set():
                at = len(made)
                futures = [
                    clients[number].create_async(f"{root}/c{number}-", b"%d" % (at + each), False, True)
                    for each in range(5)
                ]
                made.extend(future.get(PATIENCE_S).path for future in futures)
            return made

        with ThreadPoolExecutor(3) as pool:
            loads = [pool.submit(load, number) for number in range(3)]
            try:
                for _ in range(_CRASHES):
                    harness.crash()
                    before = clients[0].create(f"{root}/alive-", sequential=True)  # somebody serves again
                    clients[0].delete(before.path)
            finally:
                done.set()
            paths = [each.result(PATIENCE_S * 3) for each in loads]
        reader = clients[0]
        reader.sync()
        nodes = {node.path: node for node in reader.get_children(root, include_data=True)}
        assert sorted(nodes) == sorted(path for some in paths for path in some)
        for some in paths:
            assert [nodes[path].data for path in some] == [b"%d" % number for number in range(len(some))]
            stamps = [nodes[path].stat.czxid for path in some]
            assert stamps == sorted(stamps)

    def test_watches_and_ephemerals_survive_functions_that_die(
        self, harness: Harness, start: Callable[..., FaaSKeeperClient], root: str
    ) -> None:
        owner, watcher = start(), start()
        owner.create(f"{root}/e", ephemeral=True)
        gone = threading.Event()
        watcher.sync()
        assert watcher.exists(f"{root}/e", lambda event: gone.set()) is not None
        harness.crash()
        owner.stop()
        deadline = time.monotonic() + PATIENCE_S
        while not gone.wait(0.2):  # a notification may die with its function; the renewal meets it
            assert time.monotonic() < deadline
            _session(watcher).renew()
        assert watcher.exists(f"{root}/e") is None
