"""An event loop of asyncio's whose time and turns are the scheduler's, and its pool of threads.

A loop is one task of the scheduler. Between two turns other tasks run, and wherever a callback
calls a driver. Callbacks run in the order that asyncio promises: what is left to chance is when
input comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any

from faaskeeper.testing.simulator.scheduler import START_MS, Scheduler, Task

if TYPE_CHECKING:
    from faaskeeper.testing.simulator.served.network import Network


def follow(task: Task | None) -> None:
    """Make the loop of the task that is about to run the running one; None: the history is over."""
    asyncio._set_running_loop(None if task is None else task.loop)


class SimulatedLoop(asyncio.BaseEventLoop):
    """The loop of one process. ``still``: returns for how long (ms) it stands still before a turn."""

    def __init__(self, scheduler: Scheduler, network: Network, still: Callable[[], int]) -> None:
        super().__init__()
        self._scheduler = scheduler
        self._network = network
        self._still = still
        self._selector = self
        self._selecting = False
        self._woken = False
        self._task: Task | None = None
        self._coroutines: list[tuple[asyncio.Task[Any], Any]] = []
        self.set_task_factory(self._make_task)

    # ---- what BaseEventLoop asks of a loop -----------------------------------------------

    def time(self) -> float:
        return (self._scheduler.now - START_MS) / 1000

    def select(self, timeout: float | None) -> list[Any]:
        """Wait for input, as a selector: for ``timeout`` seconds at most."""
        if still := self._still():
            self._scheduler.note(f"stands still for {still} ms")
            self._scheduler.sleep(still)
        if self._woken or (timeout is not None and timeout <= 0):
            self._scheduler.point("turn")
        else:
            self._selecting = True
            self._scheduler.block(None if timeout is None else timeout * 1000)
            self._selecting = False
        self._woken = False
        return []

    def _process_events(self, event_list: object) -> None:
        pass

    def _write_to_self(self) -> None:
        self._woken = True
        if self._selecting and self._task is not None:
            self._scheduler.wake(self._task)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Let nothing that a callback raises get lost: the gateway handles its errors itself."""
        error = context.get("exception")
        if error is not None and not self._scheduler.over:
            raise error

    # ---- tasks ---------------------------------------------------------------------------

    def _make_task(self, loop: Any, coroutine: Any, **more: Any) -> Any:
        task = asyncio.Task(coroutine, loop=loop, **more)
        self._coroutines = [each for each in self._coroutines if not each[0].done()]
        self._coroutines.append((task, coroutine))
        task.add_done_callback(self._done)
        return task

    @staticmethod
    def _done(task: asyncio.Task[Any]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, Exception):
            raise error

    def serve(self, main: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine to its end, in the scheduler's task that runs now."""
        self._task = self._scheduler.current()
        self._task.loop = self
        asyncio._set_running_loop(None)
        task = self.create_task(main)
        task.add_done_callback(lambda _: self.stop())
        try:
            self.run_forever()
        finally:
            self._task.loop = None
        if not task.cancelled():
            task.result()

    def discard(self) -> None:
        """Release what is left after the history's end."""
        for task, coroutine in self._coroutines:
            if not task.done():
                task.remove_done_callback(self._done)
                coroutine.close()
        self._coroutines.clear()
        if not self.is_running():
            self.close()

    async def create_server(self, protocol_factory: Any, host: Any = None, port: Any = None, **_: Any) -> Any:
        """Listen in the simulated network; see :class:`asyncio.AbstractEventLoop`."""
        return self._network.listen(str(host), int(port), self, protocol_factory)


class SimulatedPool(Executor):
    """Threads of a process: each call is a task of the scheduler."""

    def __init__(self, scheduler: Scheduler, process: object) -> None:
        self._scheduler = scheduler
        self._process = process

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except Exception as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        self._scheduler.spawn("pool", run, self._process)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        pass
