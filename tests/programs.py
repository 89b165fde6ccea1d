"""Random programs of operations by several sessions, run on two systems that must show the same.

A program is a list of steps (session, operation, arguments) as scenarios have them
(``faaskeeper/testing/conformance/golden.json``); paths are relative to a node of the program's own. What
differs is made small: steps are left out as long as the difference stays.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

SESSIONS = "abc"
_PATHS = ("/", "/a", "/b", "/a/x", "/a/y", "/b/x", "/a/x/z")
_WRITING = frozenset(
    ("create", "create_container", "create_ttl", "set", "delete", "set_acl", "multi", "close", "set_watches")
)
_MODES = ("once", "once", "persistent", "recursive")
_OPEN = [[31, "world", "anyone"]]
_IDS = (
    ["world", "anyone"],
    ["world", "anyone"],
    ["auth", ""],
    ["digest", "u:Jq7wMyA/w2Vd5WIDAKdu4OIIFEQ="],
    ["digest", "other:unknown"],
    ["ip", "127.0.0.1"],
    ["ip", "10.0.0.0/8"],
)
_NO_IDS = (["ip", "10.0.0.0/33"], ["digest", "no colon"], ["bogus", "x"], ["world", "nobody"])


class Step(NamedTuple):
    """One request of a session."""

    session: str
    op: str
    args: list[Any]


Program = Sequence[Step]


class System(Protocol):
    """What a program runs on. :meth:`call` raises whatever has a ``code``: the error's name."""

    def call(self, session: str, op: str, args: list[Any]) -> dict[str, Any]:
        """Perform an operation."""

    def events(self) -> dict[str, list[list[str]]]:
        """What each session was told since the last call, in order: [type, path]."""

    def owner(self, session: str) -> int:
        """Id of a session."""


class _Maker:
    """Makes programs. ``live``: for a ZooKeeper server of release 3.8 over the wire.

    There a session's watches of one path are all of one mode, since the last one set takes the others' place
    (ZOOKEEPER-4466); checkWatches is left out, which finds other sessions' watches too; and programs have
    either watches or nodes that may not be read, since Debian's server is silent about those
    (CVE-2024-23944).
    """

    def __init__(self, seed: int, live: bool) -> None:
        self._random = random.Random(seed)
        self._live = live
        self._closed = live and seed % 3 == 0
        self._modes = {
            (session, path): self._random.choice(_MODES) for session in SESSIONS for path in _PATHS
        }

    def program(self, length: int) -> list[Step]:
        """So many steps, of which the first make something to work on."""
        steps = [Step("a", "create", [path, "", 0]) for path in _PATHS[1:5] if self._random.random() < 0.7]
        while len(steps) < length:
            steps.append(self._step())
        return steps

    def _step(self) -> Step:
        session = self._random.choice(SESSIONS)
        kinds: dict[Callable[[str], tuple[str, list[Any]]], int] = {
            self._write: 40,
            self._multi: 10,
            self._read: 18,
            self._watch: 0 if self._closed else 16,
            self._about: 8,
            self._auth: 2,
            self._close: 2,
        }
        make = self._random.choices(list(kinds), list(kinds.values()))[0]
        return Step(session, *make(session))

    def _path(self) -> str:
        return self._random.choice(_PATHS)

    def _version(self) -> int:
        return self._random.choice((-1, -1, -1, -1, 0, 1, 2))

    def _acl(self) -> list[list[Any]]:
        pick = self._random
        if pick.random() > 0.2:
            return _OPEN
        ids = [
            pick.choice(_NO_IDS if pick.random() < 0.05 else _IDS)
            for _ in range(pick.choice((0, 1, 1, 2, 3)))
        ]
        acl = [[pick.choice((31, 31, 1, pick.randint(0, 31))), *each] for each in ids]
        if acl and pick.random() < 0.2:
            acl.append(acl[0])
        return acl if self._closed or not self._live or not acl else [*acl, [1, "world", "anyone"]]

    def _write(self, _: str) -> tuple[str, list[Any]]:
        op = self._random.choices(
            ("create", "set", "delete", "set_acl", "create_container", "create_ttl"), (40, 20, 25, 4, 4, 4)
        )[0]
        return op, self._arguments(op)

    def _arguments(self, op: str) -> list[Any]:
        data = self._random.choice(("", "v", "value"))
        path = self._random.choice(_PATHS[1:])
        if op == "create":
            flags = self._random.choices((0, 1, 2, 3), (55, 20, 15, 10))[0]
            return [path + ("-" if flags > 1 else ""), data, flags, self._acl()]
        if op == "create_container":
            return [path, data]
        if op == "create_ttl":
            flags = self._random.choice((5, 5, 6))
            return [path, data, flags, self._random.choice((10_000_000, 10_000_000, 0, -5, 2**40))]
        if op == "set":
            return [self._path(), data, self._version()]
        if op == "set_acl":
            return [self._path(), self._acl(), self._version()]
        return [path if op == "delete" else self._path(), self._version()]

    def _multi(self, _: str) -> tuple[str, list[Any]]:
        if self._random.random() < 0.15:
            reads = self._random.choices(("get", "children"), k=self._random.randint(0, 4))
            return "multi_read", [[[op, self._path()] for op in reads]]
        if self._random.random() < 0.4:
            return "multi", [self._likely()]
        ops = self._random.choices(
            ("create", "set", "delete", "check", "create_container"),
            (40, 25, 25, 15, 4),
            k=self._random.randint(0, 5),
        )
        return "multi", [[[op, *self._arguments(op)] for op in ops]]

    def _likely(self) -> list[list[Any]]:
        """Operations of two paths in turns, some of which may all succeed."""
        some = self._random.sample(_PATHS[1:5], 2)
        there = {path: self._random.random() < 0.5 for path in some}
        parts: list[list[Any]] = []
        for _ in range(self._random.randint(2, 5)):
            path = self._random.choice(some)
            op = self._random.choice(("set", "delete")) if there[path] else "create"
            there[path] = op != "delete"
            parts.append(
                {"create": [op, path, "", 0], "set": [op, path, "v", -1], "delete": [op, path, -1]}[op]
            )
        return parts

    def _read(self, _: str) -> tuple[str, list[Any]]:
        return self._random.choice(("get", "exists", "children", "children2", "get_acl")), [self._path()]

    def _watch(self, session: str) -> tuple[str, list[Any]]:
        path = self._path()
        mode = self._modes[session, path] if self._live else self._random.choice(_MODES)
        if self._random.random() < 0.15:
            kinds = (1, 2, 3) if mode == "once" or not self._live else (3,)
            ops = ("remove_watches",) if self._live else ("check_watches", "remove_watches")
            return self._random.choice(ops), [path, self._random.choice(kinds)]
        if mode != "once":
            return "add_watch", [path, 0 if mode == "persistent" else 1]
        if self._live and self._random.random() < 0.2:
            watched = [each for each in _PATHS if self._modes[session, each] == "once"]
            some = [
                self._random.sample(watched, min(len(watched), self._random.randint(0, 2))) for _ in range(3)
            ]
            return "set_watches", [self._random.choice((0, 2**62)), *some]
        return self._random.choice(("get", "exists", "children", "children2")), [path, True]

    def _about(self, _: str) -> tuple[str, list[Any]]:
        op = self._random.choice(("sync", "get_ephemerals", "all_children_number", "whoami"))
        return op, [] if op == "whoami" else [self._path()]

    def _auth(self, _: str) -> tuple[str, list[Any]]:
        return "auth", ["digest", self._random.choice(("u:p", "other:pw"))]

    def _close(self, _: str) -> tuple[str, list[Any]]:
        return "close", []


def program(seed: int, length: int = 60, *, live: bool = False) -> list[Step]:
    """The program of a seed. ``live``: for a ZooKeeper server, with requests that only the wire has."""
    return _Maker(seed, live).program(length)


# ---- running -----------------------------------------------------------------------------------


def _under(root: str, value: Any) -> Any:
    """Arguments with absolute paths."""
    if isinstance(value, list):
        return [_under(root, each) for each in value]
    if isinstance(value, str) and value.startswith("/"):
        return root if value == "/" else root + value
    return value


class _Trace:
    """What a system shows, with transaction ids as the steps in which they were first seen."""

    def __init__(self, system: System, root: str) -> None:
        self._system = system
        self._root = root
        self._seen: dict[int, int] = {}
        self._owners: dict[int, str] = {}

    def step(self, number: int, step: Step) -> Any:
        """What a step shows, and tells others."""
        session, op, args = step
        self._owners[self._system.owner(session)] = session
        shown: Any
        try:
            shown = self._plain(self._system.call(session, op, _under(self._root, args)), number)
        except Exception as error:
            code = getattr(error, "code", None)
            if not isinstance(code, str):
                raise
            shown = code
        events = self._plain(self._system.events(), number) if op in _WRITING else {}
        if op == "close":  # in ZooKeeper ephemerals go in the order of a hash
            events = {name: sorted(told) for name, told in events.items()}
        if op == "whoami":
            shown["ids"].sort()
        return [shown, events]

    def _plain(self, value: Any, number: int) -> Any:
        if hasattr(value, "_asdict"):
            fields = value._asdict()
            del fields["ctime"], fields["mtime"]
            for name in ("czxid", "mzxid", "pzxid"):
                fields[name] = self._seen.setdefault(fields[name], number)
            if fields["ephemeralOwner"]:
                fields["ephemeralOwner"] = self._owners.get(fields["ephemeralOwner"], "somebody")
            return fields
        if isinstance(value, dict):
            return {name: self._plain(each, number) for name, each in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._plain(each, number) for each in value]
        if isinstance(value, str) and value.startswith(self._root):
            return value[len(self._root) :] or "/"
        return value

    def order(self) -> list[int]:
        """The steps of transaction ids, in the order of the ids."""
        return [self._seen[txid] for txid in sorted(self._seen)]


def run(program: Program, system: System, root: str) -> list[Any]:
    """What a system shows of each step, and at last the order of its transaction ids."""
    system.call("root", "create", [root, "", 0])
    trace = _Trace(system, root)
    shown = [trace.step(number, step) for number, step in enumerate(program)]
    return [*shown, trace.order()]


Run = Callable[[Program], list[Any]]


def difference(program: Program, one: Run, other: Run) -> int | None:
    """The first step of which two systems show different things (the number of steps: only their ids)."""
    with ThreadPoolExecutor(1) as beside:
        waiting = beside.submit(other, program)
        left, right = one(program), waiting.result()
    return next((at for at, pair in enumerate(zip(left, right, strict=True)) if pair[0] != pair[1]), None)


def shrunk(program: Program, one: Run, other: Run) -> list[Step]:
    """A small program that still shows a difference."""
    at = difference(program, one, other)
    assert at is not None
    steps = list(program[: at + 1])
    size = len(steps) // 2
    while size:
        at = 0
        while at < len(steps):
            fewer = steps[:at] + steps[at + size :]
            if fewer and difference(fewer, one, other) is not None:
                steps = fewer
            else:
                at += size
        size //= 2
    return steps


def assert_same(program: Program, one: Run, other: Run, names: tuple[str, str]) -> None:
    """Fail with a small program and what both show, where two systems differ."""
    if difference(program, one, other) is None:
        return
    steps = shrunk(program, one, other)
    left, right = one(steps), other(steps)
    lines = [json.dumps(step) for step in steps]
    for number, (mine, theirs) in enumerate(zip(left, right, strict=True)):
        if mine != theirs:
            which = f"step {number}" if number < len(steps) else "the order of transaction ids"
            lines.append(f"{which}:\n  {names[0]}: {json.dumps(mine)}\n  {names[1]}: {json.dumps(theirs)}")
    raise AssertionError("two systems differ:\n" + "\n".join(lines))
