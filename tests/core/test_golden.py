"""Every observed scenario against the bare core: writer, distributor and the client's rules, no threads."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from faaskeeper.core import paths
from faaskeeper.core.acl import ADMIN, ALL, READ, Identity, identities, masked, permits
from faaskeeper.core.errors import Code
from faaskeeper.core.firing import FIRED_BY
from faaskeeper.core.requests import (
    Check,
    Close,
    Create,
    Delete,
    Multi,
    Outcome,
    SetAcl,
    SetData,
    inline,
)
from faaskeeper.core.znode import CONTAINER, OPEN_ACL, Meta
from faaskeeper.testing.conformance import golden
from faaskeeper.testing.conformance.golden import Refused, content
from faaskeeper.testing.conformance.semantics import EVENTS
from tests.bare import Bare, BareSession

KINDS = {1: ["children"], 2: ["data", "exists"], 3: [*FIRED_BY]}
"""ZooKeeper's numbers for kinds of watch, and ours."""


def operation(op: str, args: list[Any]) -> Any:
    if op == "create":
        path, value, flags, *acl = args
        given = tuple(tuple(entry) for entry in acl[0]) if acl else OPEN_ACL
        return Create(path, inline(content(value)), bool(flags & 1), bool(flags & 2), given)
    if op == "create_container":
        return Create(args[0], inline(content(args[1])), ttl=CONTAINER)
    if op == "create_ttl":
        ttl = args[3] if args[3] not in (0, CONTAINER) else CONTAINER - 1  # those mean something else here
        return Create(args[0], inline(content(args[1])), sequential=args[2] == 6, ttl=ttl)
    if op == "set":
        return SetData(args[0], inline(content(args[1])), args[2])
    if op == "delete":
        return Delete(args[0], args[1])
    if op == "check":
        return Check(args[0], args[1])
    if op == "set_acl":
        return SetAcl(args[0], tuple(tuple(acl) for acl in args[1]), args[2])
    if op == "multi":
        return Multi(tuple(operation(part[0], part[1:]) for part in args[0]))
    raise AssertionError(f"no scenario has had {op!r} so far")


def result(op: str, outcome: Outcome) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    if op.startswith("create"):
        shown["path"] = outcome.path
    if outcome.meta is not None:
        shown["stat"] = outcome.meta.stat()
    return shown


class BareAdapter:
    def __init__(self, bare: Bare) -> None:
        self.bare = bare
        self.sessions: dict[str, BareSession] = {}
        self.gone: dict[str, int] = {}

    def session(self, name: str) -> BareSession:
        if name not in self.sessions:
            self.sessions[name] = self.bare.session(f"{name}{len(self.gone)}")
        return self.sessions[name]

    def owner(self, session: str) -> int:
        return self.session(session).id

    def events(self) -> dict[str, list[list[str]]]:
        self.bare.pump()
        seen = {}
        for name, session in self.sessions.items():
            session.receive()
            if session.fired:
                seen[name] = [[EVENTS[str(e.event_type)], e.path] for e in session.fired]
                session.fired.clear()
        return seen

    def call(self, session: str, op: str, args: list[Any]) -> dict[str, Any]:
        own = self.session(session)
        if op == "expire":
            return self.expire(session)
        if op == "close":
            del self.sessions[session]
            self.gone[session] = own.id
            own.do(Close())
            return {}
        if op in ("get", "exists", "children", "children2", "get_acl"):
            return self.read(own, op, args)
        if op == "multi_read":
            return {"results": self.read_together(own, args[0])}
        if op == "auth":
            own.auth = (*dict.fromkeys((*own.auth, (args[0], args[1]))),)
            return {}
        if op == "whoami":
            return {"ids": [[scheme, name.split(":")[0]] for scheme, name in self.who(own)]}
        if op == "add_watch":
            kind = "recursive" if args[1] else "persistent"
            own.drive(own.rules.add_watch(args[0], kind, own.fired.append))
            return {}
        if op in ("check_watches", "remove_watches"):
            return self.watches(own, op, args)
        if op == "all_children_number":
            return {"number": self.count(own, self.readable(own, own.read(args[0])), args[0])}
        if op == "get_ephemerals":
            view = self.bare.writer._view
            assert view is not None
            state = view.sessions.get(own.id)
            assert state is not None
            return {"paths": sorted(path for path in state.ephemerals if path.startswith(args[0]))}
        if op == "sync":
            return {"path": args[0]}
        outcome = own.do(operation(op, args))
        if op == "multi":
            return {"results": self.results(args[0], outcome)}
        if outcome.code is not Code.OK:
            raise Refused(outcome.code.value)
        return result(op, outcome)

    def results(self, parts: list[Any], outcome: Outcome) -> list[dict[str, Any]]:
        if outcome.code is not Code.OK:
            return [{"error": each.code.value} for each in outcome.results]
        shown = []
        for part, each in zip(parts, outcome.results, strict=True):
            row = {"op": part[0], **result(part[0], each)}
            if part[0] == "create":
                row.pop("stat")
            shown.append(row)
        return shown

    def expire(self, session: str) -> dict[str, Any]:
        gone = self.sessions.pop(session)
        self.gone[session] = gone.id
        self.bare.clock.now += 60_000
        for other in self.sessions.values():
            lease = self.bare.deployment.leases.get(other.id)
            assert lease is not None
            self.bare.deployment.leases.renew(other.id, lease.version, self.bare.clock.now + 10_000)
        assert self.bare.heartbeat.expire() == [gone.id]
        self.bare.pump()
        return {}

    def found(self, record: Any) -> Any:
        if record is None or record.meta is None:
            raise Refused("NoNode")
        return record

    def who(self, session: BareSession) -> tuple[Identity, ...]:
        return (("ip", "127.0.0.1"), *identities(session.auth))

    def may(self, session: BareSession, permission: int, meta: Meta) -> None:
        if not permits(meta.acl, permission, self.who(session)):
            raise Refused("NoAuth")

    def readable(self, session: BareSession, record: Any) -> Any:
        self.may(session, READ, self.found(record).meta)
        return record

    def read_together(self, session: BareSession, parts: list[Any]) -> list[dict[str, Any]]:
        found = session.drive(session.rules.snapshot([part[1] for part in parts]))
        shown: list[dict[str, Any]] = []
        for op, path in parts:
            try:
                record = self.readable(session, found[path])
            except Refused as refused:
                shown.append({"error": refused.code})
                continue
            if op == "get":
                shown.append({"op": op, "data": record.data.decode(), "stat": record.meta.stat()})
            else:
                shown.append({"op": op, "children": record.children})
        return shown

    def watches(self, session: BareSession, op: str, args: list[Any]) -> dict[str, Any]:
        kinds = KINDS[args[1]]
        if op == "check_watches":
            number = len(session.rules.found(args[0], kinds, None))
        else:
            number = session.drive(session.rules.remove_watches(args[0], kinds, None))
        if not number:
            raise Refused("NoWatcher")
        return {}

    def read(self, session: BareSession, op: str, args: list[Any]) -> dict[str, Any]:
        kind = {"get": "data", "exists": "exists"}.get(op, "children")
        asked = {"get_acl": READ | ADMIN, "exists": ALL}.get(op, READ)
        checked = partial(self.may, session, asked) if op != "exists" else lambda meta: None
        if len(args) > 1 and args[1]:
            record = session.watch(args[0], kind, checked)
        else:
            record = session.read(args[0])
        record = self.found(record)
        checked(record.meta)
        shown: dict[str, Any] = {}
        if op == "get":
            shown["data"] = record.data.decode()
        if op.startswith("children"):
            shown["children"] = sorted(record.children)
        if op == "get_acl":
            shown["acl"] = [list(acl) for acl in masked(record.meta.acl, self.who(session))]
        if op != "children":
            shown["stat"] = record.meta.stat()
        return shown

    def count(self, session: BareSession, record: Any, path: str) -> int:
        below = [paths.child(path, name) for name in record.children]
        return len(below) + sum(self.count(session, session.read(each), each) for each in below)


@pytest.fixture(params=["inline", "own distributor"])
def bare(request: pytest.FixtureRequest) -> Bare:
    return Bare(own_distributor=request.param == "own distributor")


@pytest.mark.parametrize("scenario", golden.SCENARIOS, ids=golden.name_of)
def test_the_core_does_what_the_server_did(scenario: dict[str, Any], bare: Bare) -> None:
    adapter = BareAdapter(bare)
    adapter.call("root", "create", ["/scenario", "", 0])
    golden.run(scenario, adapter, "/scenario")
