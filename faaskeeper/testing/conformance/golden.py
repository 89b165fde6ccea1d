"""The scenarios observed on a real ZooKeeper server (3.8.0), and the adapter that runs them.

``golden.json`` beside this file holds them; it was recorded through the server's wire protocol.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any, Protocol

from faaskeeper.core.znode import Stat

SCENARIOS: list[dict[str, Any]] = json.loads(
    files(__package__).joinpath("golden.json").read_text(encoding="utf-8")
)


def name_of(scenario: dict[str, Any]) -> str:
    """Area and name of a scenario."""
    return f"{scenario['area']}: {scenario['name']}"


def ending(scenario: dict[str, Any]) -> set[str]:
    """Names of the sessions whose clients die in a scenario: these alone need a short time-out."""
    return {step["session"] for step in scenario["steps"] if step["op"] == "expire"}


def content(value: Any) -> bytes:
    """Data as scenarios write it: a text, or so many zero bytes."""
    return bytes(value[1]) if isinstance(value, list) else value.encode()


class Refused(Exception):
    """The service's answer to a step is this error."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Adapter(Protocol):
    """Runs the operations of scenarios against something."""

    def call(self, session: str, op: str, args: list[Any]) -> dict[str, Any]:
        """Perform an operation; Stat values come as :class:`Stat`. Raises Refused."""

    def events(self) -> dict[str, list[list[str]]]:
        """What each session's watches reported since the last call, in order: [type, path]."""

    def owner(self, session: str) -> int:
        """Id of a session."""


class _Checker:
    """Compares replies with those observed; transaction ids by the step that showed them first."""

    def __init__(self, adapter: Adapter, root: str) -> None:
        self._adapter = adapter
        self._root = root
        self._first_seen: dict[int, int] = {}
        """Transaction ids, and the step in which each was first seen."""
        self.step = 0

    def see(self, txid: int) -> int:
        """The step in which a transaction id was first seen: this one, if it is new."""
        return self._first_seen.setdefault(txid, self.step)

    def check(self, observed: Any, shown: Any, ordered: bool) -> None:
        if isinstance(observed, dict) and "czxid" in observed:
            self._check_stat(observed, shown, ordered)
        elif isinstance(observed, dict):
            assert set(observed) == set(shown), (observed, shown)
            for key, value in observed.items():
                self.check(value, shown[key], ordered)
        elif isinstance(observed, list) and observed and isinstance(observed[0], dict):
            assert len(observed) == len(shown)
            for one, other in zip(observed, shown, strict=True):
                self.check(one, other, ordered)
        else:
            assert shown == observed

    def _check_stat(self, observed: dict[str, Any], stat: Stat, ordered: bool) -> None:
        for field, value in observed.items():
            got = getattr(stat, field)
            if field in ("czxid", "mzxid", "pzxid"):
                assert self.see(got) == value, f"{field} is {got}, of {self._first_seen}"
                for txid, step in self._first_seen.items() if ordered else ():
                    assert step == value or (step < value) == (txid < got), (self._first_seen, field)
            elif field == "ephemeralOwner":
                assert got == (0 if value is None else self._adapter.owner(value))
            else:
                assert got == value, f"{field} is {got}, observed was {value}"


def _absolute(root: str, args: list[Any], op: str) -> list[Any]:
    if op in ("close", "expire", "auth", "whoami"):
        return list(args)
    if op in ("multi", "multi_read"):
        return [[[part[0], *_absolute(root, part[1:], part[0])] for part in args[0]]]
    path = args[0]
    return [root if path == "/" else root + path, *args[1:]]


def _relative(root: str, value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _relative(root, each) for key, each in value.items()}
    if isinstance(value, list):
        return [_relative(root, each) for each in value]
    if isinstance(value, str) and value.startswith(root):
        return value[len(root) :] or "/"
    return value


def _perform(adapter: Adapter, session: str, op: str, args: list[Any]) -> tuple[dict[str, Any] | None, str]:
    try:
        return adapter.call(session, op, args), ""
    except Refused as refused:
        return None, refused.code


def run(scenario: dict[str, Any], adapter: Adapter, root: str) -> None:
    """Run a scenario below the fresh node ``root`` and compare every step."""
    checker = _Checker(adapter, root)
    created = adapter.call("root", "exists", [root])
    checker.see(created["stat"].czxid)
    for step in scenario["steps"]:
        op, args = step["op"], step["args"]
        raw = op == "raw"
        if raw:
            op, args = args[0], args[1:]
        else:
            args = _absolute(root, args, op)
        checker.step = step["step"]
        label = f"step {step['step']}: {op} {args!r:.80}"
        shown, error = _perform(adapter, step["session"], op, args)
        assert error == step.get("error", ""), f"{label}: {error or 'done'}"
        if shown is not None:
            shown = shown if raw else _relative(root, shown)
            checker.check(step["ok"], shown, ordered=not raw)
        events = _relative(root, adapter.events())
        assert {name: sorted(fired) for name, fired in events.items()} == step.get("events", {}), label
        if "order" in step:
            assert events == step["order"], label
