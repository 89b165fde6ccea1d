"""Every error of the package goes to other processes, and is copied, as it is."""

from __future__ import annotations

import copy
import importlib
import inspect
import multiprocessing
import pickle
import pkgutil
from collections.abc import Iterator

import pytest

import faaskeeper
from faaskeeper import exceptions
from faaskeeper.core import errors
from faaskeeper.exceptions import FaaSKeeperException, NodeExistsException, TimeoutException
from faaskeeper.testing.patience import PATIENCE_S

ARGUMENTS = {
    "Code": errors.Code.NO_NODE,
    "str": "/a path",
    "int": 7,
    "bool": True,
    "float": 1.5,
    "set[str]": {"/a path"},
    "OSError": OSError(28, "No space left on device"),
}


def kinds() -> Iterator[type[BaseException]]:
    """All classes of errors that the package defines, those of optional parts as far as these are there."""
    seen: dict[type[BaseException], None] = {}
    for module in pkgutil.walk_packages(faaskeeper.__path__, "faaskeeper."):
        if module.name.endswith("__main__"):
            continue
        try:
            found = vars(importlib.import_module(module.name))
        except ModuleNotFoundError:
            continue
        for each in found.values():
            if isinstance(each, type) and issubclass(each, BaseException) and each.__module__ == module.name:
                seen[each] = None
    return iter(seen)


def made(kind: type[BaseException]) -> BaseException:
    """An error, of arguments of the types that its class asks for, with a note and a field of its own."""
    own = next(each for each in kind.__mro__ if "__init__" in vars(each))
    if own.__module__.startswith("faaskeeper"):
        parameters = list(inspect.signature(own.__init__).parameters.values())[1:]
        error = kind(*(ARGUMENTS[str(each.annotation)] for each in parameters))
    else:
        error = kind("what is wrong")
    error.add_note("a note")
    error.more = ["a field"]  # type: ignore[attr-defined]
    return error


KINDS = list(kinds())


def test_the_enumeration_finds_those_that_are_known() -> None:
    for module in (exceptions, errors):
        known = {
            each for each in vars(module).values() if isinstance(each, type) and issubclass(each, Exception)
        }
        assert known <= set(KINDS)
    assert len(KINDS) > 40


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__qualname__)
def test_a_copy_of_an_error_is_like_it(kind: type[BaseException]) -> None:
    error = made(kind)
    copies = [pickle.loads(pickle.dumps(error, each)) for each in range(pickle.HIGHEST_PROTOCOL + 1)]
    for again in (*copies, copy.copy(error), copy.deepcopy(error)):
        assert type(again) is kind
        assert again is not error
        assert (str(again), again.args, repr(again)) == (str(error), error.args, repr(error))
        assert vars(again) == vars(error)


def test_a_message_that_was_given_stays() -> None:
    error = TimeoutException(2.5, "create /n was not answered")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.time) == ("create /n was not answered", 2.5)


def raising(number: int) -> None:
    raise (NodeExistsException("/n"), TimeoutException(1.5))[number]


def test_a_pool_s_worker_hands_its_error_on() -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        for number, message in enumerate(("the node /n exists", "no reply within 1.5 s")):
            with pytest.raises(FaaSKeeperException, match=message):
                pool.apply_async(raising, (number,)).get(PATIENCE_S)
