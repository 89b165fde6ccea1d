"""The scenarios observed on a real ZooKeeper server, run through the client."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest

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
from faaskeeper.testing.conformance import golden
from faaskeeper.testing.conformance.blocking import Client
from faaskeeper.testing.conformance.golden import Refused, content
from faaskeeper.testing.conformance.harness import (
    LASTING_S,
    TIMEOUT_S,
    Harness,
    Suite,
    expire,
    flush,
    session_of,
)
from faaskeeper.watch import WatchedEvent, WatchType

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


class ClientAdapter:
    """Runs the operations of scenarios through clients: see :class:`golden.Adapter`."""

    def __init__(self, harness: Harness, ending: set[str]) -> None:
        """``ending``: the sessions of clients that are to die."""
        self._harness = harness
        self._ending = ending
        self._clients: dict[str, Client] = {}
        self._fired: dict[str, list[WatchedEvent]] = {}

    def client(self, name: str) -> Client:
        if name not in self._clients:
            client = self._harness.client(session_timeout=TIMEOUT_S if name in self._ending else LASTING_S)
            client.start()
            self._clients[name] = client
            self._fired[name] = []
        return self._clients[name]

    def owner(self, session: str) -> int:
        """Id of a session."""
        return session_of(self.client(session)).id

    def events(self) -> dict[str, list[list[str]]]:
        """Sync each session and let its callbacks run; then collect the events."""
        seen = {}
        for name, client in self._clients.items():
            client.sync()
            flush(client)
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

    def _perform(self, session: str, client: Client, op: str, args: list[Any]) -> dict[str, Any]:
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
            expire(self._harness, client, list(self._clients.values()))
        else:
            raise AssertionError(f"an operation of no scenario: {op!r}")
        return {}

    @staticmethod
    def _create(client: Client, op: str, args: list[Any]) -> Node:
        path, value = args[0], content(args[1])
        if op == "create_container":
            return client.create(path, value, container=True)
        if op == "create_ttl":
            return client.create(path, value, sequential=args[2] == 6, ttl=args[3])
        acl = [tuple(entry) for entry in args[3]] if len(args) > 3 else None
        return client.create(path, value, bool(args[2] & 1), bool(args[2] & 2), acl=acl)

    @staticmethod
    def _multi(client: Client, parts: list[Any]) -> list[dict[str, Any]]:
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
    def _read_together(client: Client, parts: list[Any]) -> list[dict[str, Any]]:
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
        with ExitStack() as stack:  # one that cannot stop leaves no other running
            for client in self._clients.values():
                stack.callback(client.stop)


class SemanticsSuite(Suite):
    """Every scenario observed on a real ZooKeeper server, through the client."""

    @pytest.mark.parametrize("scenario", golden.SCENARIOS, ids=golden.name_of)
    def test_the_client_shows_what_the_server_showed(
        self, scenario: dict[str, Any], harness: Harness, root: str
    ) -> None:
        adapter = ClientAdapter(harness, golden.ending(scenario))
        try:
            golden.run(scenario, adapter, root)
        finally:
            adapter.stop()
