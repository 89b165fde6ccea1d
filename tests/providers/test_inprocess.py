"""The in-process queue: nothing that was sent is left lying, whatever the function was doing then."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import pytest

from faaskeeper.providers.inprocess import LocalQueue
from faaskeeper.testing.patience import PATIENCE_S


@pytest.mark.parametrize("how", ["send", "send_prompt", "serve_promptly"])
def test_what_comes_while_the_function_idles_is_handed_over_when_it_is_done(how: str) -> None:
    idling, go_on, handled = threading.Event(), threading.Event(), threading.Event()
    seen: list[bytes] = []

    def handle(bodies: Sequence[bytes]) -> None:
        seen.extend(bodies)
        if b"second" in seen:
            handled.set()

    def idle() -> None:
        if seen == [b"first"]:
            idling.set()
            assert go_on.wait(PATIENCE_S)

    queue = LocalQueue("test", handle, idle, lambda error: None)
    queue.send("", "", b"first")
    assert idling.wait(PATIENCE_S)
    ways: dict[str, Callable[[], None]] = {
        "send": lambda: queue.send("", "", b"second"),
        "send_prompt": lambda: queue.send_prompt(b"second"),
        "serve_promptly": lambda: queue.serve_promptly([b"second"]),
    }
    ways[how]()
    assert not handled.is_set()
    go_on.set()
    assert handled.wait(PATIENCE_S)
    queue.stop()
