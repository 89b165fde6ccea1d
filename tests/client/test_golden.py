"""Every observed scenario through the client, on the embedded provider in several configurations."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.client.session import Session
from faaskeeper.config import Config
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
)
from faaskeeper.node import Node
from faaskeeper.providers.local import EmbeddedService
from faaskeeper.watch import WatchedEvent, WatchType
from tests import golden
from tests.bare import Clock
from tests.core.test_golden import EVENTS, data
from tests.golden import Refused

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
CONFIGURATIONS = {
    "key-value": {},
    "hybrid, own distributor": {"user-storage": "hybrid", "distributor-queue": "local"},
    "persistent, tcp": {"user-storage": "persistent", "client-channel": "tcp"},
}


class ClientAdapter:
    """Sessions of clients that share an embedded service whose clock stands still."""

    def __init__(self, config: Config, directory: Path) -> None:
        self.clock = Clock()
        self.service = EmbeddedService(config, directory, clock=self.clock, beat=False)
        self.config = config
        self.clients: dict[str, FaaSKeeperClient] = {}
        self.fired: dict[str, list[WatchedEvent]] = {}

    def client(self, name: str) -> FaaSKeeperClient:
        if name not in self.clients:
            client = FaaSKeeperClient(
                self.config,
                heartbeat=False,
                connect=lambda config, port: self.service.connection(0, lambda: None),
            )
            client.start()
            self.clients[name] = client
            self.fired[name] = []
        return self.clients[name]

    def session(self, name: str) -> Session:
        session = self.client(name)._session
        assert session is not None
        return session

    def owner(self, session: str) -> int:
        return self.session(session).id

    def events(self) -> dict[str, list[list[str]]]:
        """Each session meets all that is committed; then its callback thread runs out of work."""
        seen = {}
        for name, client in self.clients.items():
            client.sync()
            flush(self.session(name))
            fired = list(self.fired[name])
            self.fired[name].clear()
            if fired:
                seen[name] = sorted([EVENTS[str(e.event_type)], e.path] for e in fired)
        return seen

    def call(self, session: str, op: str, args: list[Any]) -> dict[str, Any]:
        client = self.client(session)
        try:
            return self.perform(session, client, op, args)
        except FaaSKeeperException as error:
            code = CODES[type(error)]
            if code == "BadArguments" and op == "get" and not args[0].startswith("/"):
                code = "NoNode"  # the client says so before it asks
            raise Refused(code) from error

    def perform(self, session: str, client: FaaSKeeperClient, op: str, args: list[Any]) -> dict[str, Any]:
        watch = self.fired[session].append if len(args) > 1 and args[1] is True else None
        if op == "create":
            acl = [tuple(entry) for entry in args[3]] if len(args) > 3 else None
            node = client.create(args[0], data(args[1]), bool(args[2] & 1), bool(args[2] & 2), acl=acl)
            return {"path": node.path, "stat": node.stat}
        if op == "create_container":
            node = client.create(args[0], data(args[1]), container=True)
            return {"path": node.path, "stat": node.stat}
        if op == "create_ttl":
            node = client.create(args[0], data(args[1]), sequential=args[2] == 6, ttl=args[3])
            return {"path": node.path, "stat": node.stat}
        if op == "set":
            return {"stat": client.set_data(args[0], data(args[1]), args[2]).stat}
        if op == "delete":
            client.delete(args[0], args[1])
            return {}
        if op == "get":
            node = client.get_data(args[0], watch)
            return {"data": node.data.decode(), "stat": node.stat}
        if op == "exists":
            found = client.exists(args[0], watch)
            if found is None:
                raise NodeDoesntExistException(args[0])
            return {"stat": found.stat}
        if op == "children":
            nodes = client.get_children(args[0], watch=watch)
            return {"children": [node.path.rsplit("/", 1)[1] for node in nodes]}
        if op == "children2":
            names, stat = client.get_children_with_stat(args[0], watch)
            return {"children": names, "stat": stat}
        if op == "all_children_number":
            return {"number": client.all_children_number(args[0])}
        if op == "get_ephemerals":
            return {"paths": client.get_ephemerals(args[0])}
        if op == "sync":
            return {"path": client.sync(args[0])}
        if op == "set_acl":
            return {"stat": client.set_acls(args[0], [tuple(acl) for acl in args[1]], args[2]).stat}
        if op == "get_acl":
            acls, stat = client.get_acls(args[0])
            return {"acl": [list(acl) for acl in acls], "stat": stat}
        if op == "auth":
            client.add_auth(args[0], args[1])
            return {}
        if op == "whoami":
            return {"ids": [list(identity) for identity in client.who_am_i()]}
        if op == "multi_read":
            return {"results": self.read_together(client, args[0])}
        if op == "add_watch":
            client.add_watch(args[0], self.fired[session].append, recursive=bool(args[1]))
            return {}
        if op == "check_watches":
            client.check_watches(args[0], KINDS[args[1]])
            return {}
        if op == "remove_watches":
            client.remove_watches(args[0], KINDS[args[1]])
            return {}
        if op == "multi":
            return {"results": self.multi(client, args[0])}
        if op == "close":
            del self.clients[session]
            client.stop()
            return {}
        if op == "expire":
            return self.expire(session)
        raise NotImplementedError(op)

    def multi(self, client: FaaSKeeperClient, parts: list[Any]) -> list[dict[str, Any]]:
        transaction = client.transaction()
        for part in parts:
            if part[0] == "create":
                ephemeral, sequential = bool(part[3] & 1), bool(part[3] & 2)
                transaction.create(part[1], data(part[2]), ephemeral, sequential)
            elif part[0] == "set":
                transaction.set_data(part[1], data(part[2]), part[3])
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

    def read_together(self, client: FaaSKeeperClient, parts: list[Any]) -> list[dict[str, Any]]:
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

    def expire(self, session: str) -> dict[str, Any]:
        gone = self.session(session)
        self.clock.now += 60_000
        for other in self.clients:
            if other != session:
                self.session(other).renew()
        assert self.service.heartbeat.expire() == [gone.id]
        witness = self.client("root")
        while witness.exists(f"/lost{gone.id}") is None:
            witness.create(f"/lost{gone.id}")  # answered after the close that was sent before it
        del self.clients[session]
        gone.abandon()
        return {}

    def stop(self) -> None:
        for client in self.clients.values():
            client.stop()
        self.service.stop()


def flush(session: Session) -> None:
    """Wait until the callbacks that are due now have run."""
    done = threading.Event()
    session.call_later(done.set)
    assert done.wait(30)


@pytest.fixture(params=CONFIGURATIONS)
def adapter(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ClientAdapter]:
    options = CONFIGURATIONS[request.param]
    data = {"cloud-provider": "local", "deployment-name": "golden", **options}
    adapter = ClientAdapter(Config.deserialize(data), tmp_path)
    yield adapter
    adapter.stop()


@pytest.mark.parametrize("scenario", golden.parameters())
def test_the_client_shows_what_the_server_showed(scenario: dict[str, Any], adapter: ClientAdapter) -> None:
    adapter.call("root", "create", ["/scenario", "", 0])
    golden.run(scenario, adapter, "/scenario")
