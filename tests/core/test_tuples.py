"""A named tuple of ours is like one of typing's."""

from __future__ import annotations

import copy
import pickle
import typing
from typing import Generic, TypeVar, Union

from faaskeeper.core.tuples import NamedTuple

T = TypeVar("T")


class Ours(NamedTuple):
    """Two fields."""

    path: str
    version: int = -1

    @property
    def shown(self) -> str:
        return f"{self.path} {self.version}"


class Theirs(typing.NamedTuple):
    """Two fields."""

    path: str
    version: int = -1

    @property
    def shown(self) -> str:
        return f"{self.path} {self.version}"


class Held(NamedTuple, Generic[T]):
    held: T


Answer = Union[Held[T], None]


class Nothing(NamedTuple):
    """No field."""


def test_a_named_tuple_is_made_shown_compared_and_changed_like_one_of_typing() -> None:
    ours, theirs = Ours("/a"), Theirs("/a")
    assert tuple(ours) == tuple(theirs) == ("/a", -1)
    assert repr(ours) == repr(theirs).replace("Theirs", "Ours")
    assert ours.shown == theirs.shown == "/a -1"
    assert ours._replace(version=3) == Ours("/a", 3) == Ours._make(["/a", 3])
    assert ours._asdict() == theirs._asdict()
    for name in ("_fields", "_field_defaults", "__doc__", "__match_args__", "__module__", "__slots__"):
        assert getattr(Ours, name) == getattr(Theirs, name)
    assert Ours.__qualname__ == "Ours"


def test_a_named_tuple_can_be_pickled_and_copied() -> None:
    ours = Ours("/a", 2)
    assert type(pickle.loads(pickle.dumps(ours))) is Ours
    assert pickle.loads(pickle.dumps(ours)) == copy.deepcopy(ours) == ours


def test_annotations_of_a_named_tuple_can_be_resolved() -> None:
    assert typing.get_type_hints(Ours) == {"path": str, "version": int}


def test_a_named_tuple_may_be_generic_or_empty() -> None:
    of_strings = Held[str]
    assert of_strings("a") == ("a",)
    answer: typing.Any = Answer
    assert answer[int] == Union[Held[int], None]
    assert len(Nothing()) == 0
