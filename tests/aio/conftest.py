"""Tests that are coroutines: each runs in asyncio's loop and in uvloop's, in debug mode."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from tests.aio.stage import Stage, far, near

WAIT_S = 60


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if inspect.iscoroutinefunction(metafunc.function):
        metafunc.fixturenames.append("loop_factory")
        metafunc.parametrize("loop_factory", ["asyncio", "uvloop"])


def factory_of(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    if name == "asyncio":
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    test = pyfuncitem.obj
    if not inspect.iscoroutinefunction(test):
        return None
    given = pyfuncitem.funcargs
    arguments = {name: given[name] for name in pyfuncitem._fixtureinfo.argnames}
    run(test(**arguments), factory_of(pyfuncitem.callspec.params["loop_factory"]))
    return True


def run(test: Any, loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Run a test to its end; fails where it leaves a task or a thread, or the loop was shown an exception."""
    odd: list[dict[str, Any]] = []
    before = set(threading.enumerate())  # clients of other tests that were left to die

    async def whole() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: odd.append(context))
        async with asyncio.timeout(WAIT_S):
            await test
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"tasks are left: {left}"

    logging.getLogger("asyncio").setLevel(logging.ERROR)  # debug mode warns of slow steps: machines are slow
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with asyncio.Runner(debug=True, loop_factory=loop_factory) as runner:
            runner.run(whole())
    assert not odd, odd
    for thread in set(threading.enumerate()) - before:
        if thread.name.startswith("faaskeeper-aio"):
            thread.join(WAIT_S)
            assert not thread.is_alive(), f"a thread is left: {thread.name}"


@pytest.fixture(params=["near", "far"])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    """A deployment, in this process or behind calls that may wait; both can be interfered with."""
    with near(tmp_path) if request.param == "near" else far() as stage:
        yield stage


@pytest.fixture
def far_stage() -> Iterator[Stage]:
    with far() as stage:
        yield stage


@pytest.fixture
def near_stage(tmp_path: Path) -> Iterator[Stage]:
    with near(tmp_path) as stage:
        yield stage


@pytest.fixture
def near_hybrid(tmp_path: Path) -> Iterator[Stage]:
    """One that keeps large data apart."""
    with near(tmp_path, **{"user-storage": "hybrid"}) as stage:
        yield stage
