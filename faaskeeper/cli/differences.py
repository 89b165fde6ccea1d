"""How data differs: line by line, or value by value where both are JSON. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher, unified_diff
from typing import Any, Generic, NamedTuple, TypeVar

T = TypeVar("T")
ABSENT: Any = object()
"""In place of a value that is not there."""


class Difference(NamedTuple):
    """One value that differs, by its JSON pointer (RFC 6901). ``before``, ``after``: or ABSENT."""

    pointer: str
    before: Any
    after: Any


def parsed(data: bytes | None) -> Any:
    """The JSON object or array that data holds; ABSENT otherwise."""
    try:
        value = json.loads(data or b"")
    except (ValueError, RecursionError):
        return ABSENT
    return value if isinstance(value, (dict, list)) else ABSENT


def differences(before: Any, after: Any, pointer: str = "") -> Iterator[Difference]:
    """What differs between two JSON values, the smallest parts that do."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in dict.fromkeys((*before, *after)):
            below = f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}"
            yield from differences(before.get(key, ABSENT), after.get(key, ABSENT), below)
    elif isinstance(before, list) and isinstance(after, list):
        for place in range(max(len(before), len(after))):
            old = before[place] if place < len(before) else ABSENT
            new = after[place] if place < len(after) else ABSENT
            yield from differences(old, new, f"{pointer}/{place}")
    elif before is ABSENT or after is ABSENT or _text(before) != _text(after):
        yield Difference(pointer, before, after)


def leaves(value: Any, pointer: str = "") -> Iterator[tuple[str, str]]:
    """The parts of a JSON value that have none themselves: pointers and their JSON."""
    if isinstance(value, (dict, list)) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, below in items:
            yield from leaves(below, f"{pointer}/{str(key).replace('~', '~0').replace('/', '~1')}")
    else:
        yield pointer, _text(value)


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def shown(difference: Difference) -> str:
    """A difference on one line."""
    pointer = difference.pointer or "/"
    if difference.before is ABSENT:
        return f"+ {pointer}: {_text(difference.after)}"
    if difference.after is ABSENT:
        return f"- {pointer}: {_text(difference.before)}"
    return f"~ {pointer}: {_text(difference.before)} -> {_text(difference.after)}"


def lines_of(data: bytes | None) -> list[str] | None:
    """The lines of a text; None if the data is not UTF-8."""
    try:
        return (data or b"").decode().splitlines()
    except UnicodeDecodeError:
        return None


def unified(before: Sequence[str], after: Sequence[str]) -> Iterator[str]:
    """The changed parts of two texts, each with some lines around."""
    yield from list(unified_diff(before, after, lineterm=""))[2:]


class Blamed(Generic[T]):
    """The parts of data, each with the origin of its last change, as versions are taken in in order."""

    def __init__(self, by_value: bool) -> None:
        self._by_value = by_value
        self.parts: list[tuple[str, str, T]] = []
        """Pointer ("" of a line), text, origin."""

    def take(self, data: bytes | None, origin: T) -> None:
        """Take in the next version."""
        if self._by_value:
            value = parsed(data)
            known = {(pointer, text): was for pointer, text, was in self.parts}
            found = [] if value is ABSENT else list(leaves(value))
            self.parts = [(*each, known.get(each, origin)) for each in found]
            return
        lines = lines_of(data) or []
        before = [text for _, text, _ in self.parts]
        origins = [origin] * len(lines)
        for at, to, size in SequenceMatcher(None, before, lines, autojunk=False).get_matching_blocks():
            origins[to : to + size] = [was for _, _, was in self.parts[at : at + size]]
        self.parts = [("", line, was) for line, was in zip(lines, origins, strict=True)]
