"""Every scenario observed on a real server, over the wire, with nothing checked on the client's side."""

from __future__ import annotations

import itertools
import select
from collections.abc import Collection, Iterator
from typing import Any

import pytest

from faaskeeper.core.znode import Stat
from faaskeeper.gateway.following import Following
from faaskeeper.testing.conformance import golden
from faaskeeper.testing.conformance.golden import Refused, content
from tests.gateway import raw
from tests.gateway.raw import Body, Closed, Raw, acls, number, string
from tests.gateway.servers import Server
from tests.gateway.threads import InThread, far

ERRORS = {
    0: "Ok",
    -2: "RuntimeInconsistency",
    -8: "BadArguments",
    -101: "NoNode",
    -102: "NoAuth",
    -103: "BadVersion",
    -108: "NoChildrenForEphemerals",
    -110: "NodeExists",
    -111: "NotEmpty",
    -114: "InvalidACL",
    -121: "NoWatcher",
}
EVENTS = {1: "created", 2: "deleted", 3: "changed", 4: "children"}
OPS = {
    "get": raw.GET,
    "exists": raw.EXISTS,
    "children": raw.CHILDREN,
    "children2": raw.CHILDREN2,
    "check_watches": raw.CHECK_WATCHES,
    "remove_watches": raw.REMOVE_WATCHES,
    "add_watch": raw.ADD_WATCH,
    "all_children_number": raw.NUMBER,
    "get_ephemerals": raw.EPHEMERALS,
}


class WireAdapter:
    def __init__(self, port: int, ending: Collection[str] = ()) -> None:
        self.port = port
        self.ending = ending
        self.sessions: dict[str, Raw] = {}
        self.ids: dict[str, int] = {}

    def session(self, name: str) -> Raw:
        if name not in self.sessions:
            timeout = {"timeout": 4_000} if name in self.ending else {}
            self.sessions[name] = Raw(self.port, **timeout)
            self.ids[name] = self.sessions[name].session
        return self.sessions[name]

    def owner(self, session: str) -> int:
        self.session(session)
        return self.ids[session]

    def events(self) -> dict[str, list[list[str]]]:
        seen = {}
        for name, session in self.sessions.items():
            session.ping()
            if session.events:
                seen[name] = [[EVENTS[kind], path] for kind, path in session.events]
                session.events.clear()
        return seen

    def call(self, session: str, op: str, args: list[Any]) -> dict[str, Any]:
        own = self.session(session)
        if op == "expire":
            return self.expire(session)
        if op == "close":
            assert own.ask(raw.CLOSE)[0] == 0
            with pytest.raises(Closed):
                own.receive()
            self.sessions.pop(session).close()
            return {}
        try:
            return self.perform(own, op, args)
        except Closed:
            self.sessions.pop(session).close()
            raise Refused("ConnectionLoss") from None

    def expire(self, session: str) -> dict[str, Any]:
        """Cut the connection; wait until somebody is told that its ephemeral has gone."""
        self.sessions.pop(session).close()
        while True:
            others = [each.socket for each in self.sessions.values()]
            if select.select(others, [], [], 1.0)[0]:
                return {}
            for each in self.sessions.values():
                each.ping()
                if each.events:
                    return {}

    def perform(self, own: Raw, op: str, args: list[Any]) -> dict[str, Any]:
        if op == "auth":
            error, record = own.ask(raw.AUTH, number(0) + string(args[0]) + string(args[1]), xid=-4)
        elif op == "whoami":
            error, record = own.ask(raw.WHO_AM_I)
        elif op in ("multi", "multi_read"):
            parts = b"".join(self.part(*self.request(each[0], each[1:])) for each in args[0])
            kind = raw.MULTI if op == "multi" else raw.MULTI_READ
            error, record = own.ask(kind, parts + b"\xff\xff\xff\xff\x01\xff\xff\xff\xff")
        else:
            error, record = own.ask(*self.request(op, args))
        if error:
            raise Refused(ERRORS[error])
        shown = self.results(args[0], record) if op.startswith("multi") else self.shown(op, record)
        record.end()
        return shown

    @staticmethod
    def part(kind: int, body: bytes) -> bytes:
        kind = 1 if kind == raw.CREATE2 else kind
        return number(kind) + b"\0" + number(-1) + body

    @staticmethod
    def request(op: str, args: list[Any]) -> tuple[int, bytes]:
        path = string(args[0])
        if op == "create":
            acl = args[3] if len(args) > 3 else raw.OPEN
            return raw.CREATE2, path + string(content(args[1])) + acls(acl) + number(args[2])
        if op == "create_container":
            return raw.CONTAINER, path + string(content(args[1])) + acls(raw.OPEN) + number(4)
        if op == "create_ttl":
            body = path + string(content(args[1])) + acls(raw.OPEN) + number(args[2])
            return raw.TTL, body + args[3].to_bytes(8, "big", signed=True)
        if op == "set":
            return raw.SET, path + string(content(args[1])) + number(args[2])
        if op in ("delete", "check"):
            return (raw.DELETE if op == "delete" else raw.CHECK), path + number(args[1])
        if op == "set_acl":
            return raw.SET_ACL, path + acls(args[1]) + number(args[2])
        if op in ("get_acl", "sync"):
            return (raw.GET_ACL if op == "get_acl" else raw.SYNC), path
        if op in ("get", "exists", "children", "children2"):
            return OPS[op], path + bytes([bool(args[1:] and args[1])])
        if op in ("check_watches", "remove_watches", "add_watch"):
            return OPS[op], path + number(args[1])
        return OPS[op], path

    @staticmethod
    def shown(op: str, record: Body) -> dict[str, Any]:
        shown: dict[str, Any] = {}
        if op.startswith("create") or op == "sync":
            shown["path"] = record.string()
        if op == "get":
            shown["data"] = record.buffer().decode()
        if op.startswith("children"):
            shown["children"] = sorted(record.strings())
        if op == "get_acl":
            shown["acl"] = [
                [record.take("i"), record.string(), record.string()] for _ in range(record.take("i"))
            ]
        if op.startswith("create") or op in ("get", "exists", "set", "children2", "get_acl", "set_acl"):
            shown["stat"] = Stat(*record.stat())
        if op == "whoami":
            shown["ids"] = [[record.string(), record.string()] for _ in range(record.take("i"))]
        if op == "all_children_number":
            shown["number"] = record.take("i")
        if op == "get_ephemerals":
            shown["paths"] = sorted(record.strings())
        if op == "add_watch":
            assert record.take("i") == 0
        return shown

    def results(self, parts: list[Any], record: Body) -> dict[str, Any]:
        rows = []
        for part in itertools.chain(parts, [None]):
            kind, done, error = record.take("ibi")
            if part is None:
                assert (kind, done, error) == (-1, 1, -1)
            elif kind == -1:
                assert record.take("i") == error
                rows.append({"error": ERRORS[error]})
            elif part[0] == "create":
                rows.append({"op": "create", "path": record.string()})
            else:
                rows.append({"op": part[0], **self.shown(part[0], record)})
        return {"results": rows}


def run(scenario: dict[str, Any], port: int) -> None:
    adapter = WireAdapter(port, golden.ending(scenario))
    root = f"/golden{next(_NUMBERS)}"
    try:
        adapter.session("root").create(root)
        golden.run(scenario, adapter, root)
    finally:
        for session in adapter.sessions.values():
            session.close()


@pytest.fixture(scope="module", params=[None, Following(0.05)], ids=["storage", "memory"])
def distant(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InThread]:
    """A server whose stores are called in a pool of threads, as a cloud's are."""
    server = InThread(tmp_path_factory.mktemp("far"), far, following=request.param)
    yield server
    server.stop()


_NUMBERS = itertools.count()


@pytest.mark.parametrize("scenario", golden.SCENARIOS, ids=golden.name_of)
def test_the_wire_shows_what_the_server_showed(scenario: dict[str, Any], shared: Server) -> None:
    run(scenario, shared.port)


@pytest.mark.parametrize("scenario", golden.SCENARIOS, ids=golden.name_of)
def test_a_server_far_from_its_stores_shows_the_same(scenario: dict[str, Any], distant: InThread) -> None:
    run(scenario, distant.port)
