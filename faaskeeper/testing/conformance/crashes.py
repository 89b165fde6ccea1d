"""Crashes of a deployment's functions: acknowledged writes are there once, and in order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from faaskeeper.testing.conformance.blocking import Client
from faaskeeper.testing.conformance.harness import (
    Harness,
    Suite,
    session_of,
)
from faaskeeper.testing.patience import PATIENCE_S

_CRASHES = 5


class CrashSuite(Suite):
    """Functions die in the middle: acknowledged writes are there, once, and in order."""

    def test_every_acknowledged_write_is_there_once_although_functions_die(
        self, harness: Harness, start: Callable[..., Client], root: str
    ) -> None:
        clients = [start() for _ in range(3)]
        done = threading.Event()

        def load(number: int) -> list[str]:
            made: list[str] = []
            while not done.is_set():
                at = len(made)
                futures = [
                    clients[number].create_async(f"{root}/c{number}-", b"%d" % (at + each), False, True)
                    for each in range(5)
                ]
                made.extend(future.get(PATIENCE_S).path for future in futures)
            return made

        with ThreadPoolExecutor(3) as pool:
            loads = [pool.submit(load, number) for number in range(3)]
            try:
                for _ in range(_CRASHES):
                    harness.crash()
                    before = clients[0].create(f"{root}/alive-", sequential=True)  # the functions run again
                    clients[0].delete(before.path)
            finally:
                done.set()
            paths = [each.result(PATIENCE_S * 3) for each in loads]
        reader = clients[0]
        reader.sync()
        nodes = {node.path: node for node in reader.get_children(root, include_data=True)}
        assert sorted(nodes) == sorted(path for some in paths for path in some)
        for some in paths:
            assert [nodes[path].data for path in some] == [b"%d" % number for number in range(len(some))]
            stamps = [nodes[path].stat.czxid for path in some]
            assert stamps == sorted(stamps)

    def test_watches_and_ephemerals_survive_functions_that_die(
        self, harness: Harness, start: Callable[..., Client], root: str
    ) -> None:
        owner, watcher = start(), start()
        owner.create(f"{root}/e", ephemeral=True)
        gone = threading.Event()
        watcher.sync()
        assert watcher.exists(f"{root}/e", lambda event: gone.set()) is not None
        harness.crash()
        owner.stop()
        deadline = time.monotonic() + PATIENCE_S
        while not gone.wait(0.2):  # a notification may die with its function; the renewal meets it
            assert time.monotonic() < deadline
            session_of(watcher).renew()
        assert watcher.exists(f"{root}/e") is None
