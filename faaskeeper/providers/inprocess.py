"""The in-process queue: passes all waiting messages to a function at once (group commit).

The function runs in the queue's thread for senders that continue, and in the sender's thread for
one that only waits for the reply (:class:`PromptQueue`), whichever is faster. One call runs at a
time. The thread that ends a call checks for new messages, so none is left behind.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from faaskeeper.core import logs
from faaskeeper.core.errors import Denied, DriverError, Unavailable
from faaskeeper.core.forks import Inherited, register

_BATCH = 1_000
_IDLE_S = 0.2
_RETRIES = 5
_PROMPT_BATCHES = 4
"""Maximum number of batches that a thread processes while it waits for its own reply."""

_log = logs.logger(__name__)


class LocalQueue(Inherited):
    """Messages to one function.

    A failed call is repeated with the same messages, a few times with growing pauses; functions are
    idempotent. After that the queue is broken: it rejects further messages with the reason, and
    calls ``on_broken``.
    """

    ordered = True
    max_message_bytes = 1 << 30

    def __init__(
        self,
        name: str,
        handle: Callable[[Sequence[Any]], None],
        idle: Callable[[], None],
        on_broken: Callable[[Exception], None],
        whose: str = "the embedded service",
    ) -> None:
        self._handle = handle
        self._idle = idle
        self._on_broken = on_broken
        self._whose = whose
        self._waiting: deque[object] = deque()
        self._running = threading.Lock()
        self._signal = threading.Semaphore(0)
        self._stopping = threading.Event()
        self._broken: Exception | None = None
        self._calls = 0
        self._idle_due = False
        self._thread = threading.Thread(target=self._run, name=f"faaskeeper-{name}", daemon=True)
        self._thread.start()
        register(self)

    def forked(self, why: str) -> None:
        self._broken = Denied(f"{self._whose}: {why}")
        self._waiting.clear()
        self._running = threading.Lock()
        self._signal = threading.Semaphore(0)
        self._stopping = threading.Event()

    def send(self, group: str, identity: str, body: bytes) -> None:
        self._put(body)
        if not self._running.locked():  # otherwise the running thread checks again
            self._signal.release()

    def send_prompt(self, body: bytes) -> None:
        """Send; runs the function in this thread if it is free, for a few batches."""
        self.serve_promptly((body,))

    def serve_promptly(self, bodies: Sequence[object]) -> None:
        """The same for several messages, which are processed together."""
        for body in bodies:
            self._put(body)
        if not self._serve(_PROMPT_BATCHES):
            return
        if self._waiting:  # other senders continue: leave the rest to the queue's thread
            self._signal.release()
        elif not self._idle_due:
            self._idle_due = True
            self._signal.release()

    def check(self) -> None:
        """Raise what broke the queue, if anything has."""
        if self._broken is not None:
            raise self._broken

    def _put(self, body: object) -> None:
        self.check()
        if self._stopping.is_set():
            raise Unavailable(f"{self._whose} has stopped")
        self._waiting.append(body)

    def stop(self) -> None:
        """Process the waiting messages, then stop."""
        self._stopping.set()
        self._signal.release()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            calls = self._calls
            signalled = self._signal.acquire(timeout=_IDLE_S if self._idle_due else None)
            self._serve()
            if signalled or self._calls != calls:
                self._idle_due = True
            else:
                self._rest()
        self._serve()
        with self._running:
            self._attempt([])

    def _rest(self) -> None:
        """The queue was idle for a while: let the function do deferred work."""
        if self._running.acquire(blocking=False):
            try:
                self._idle_due = False
                self._attempt([])
            finally:
                self._running.release()
            if self._waiting:  # a sender found the function busy and left the message
                self._signal.release()

    def _serve(self, most: int = 0) -> bool:
        """Call the function until none waits, or ``most`` times; False if another thread does."""
        batches = 0
        while self._waiting and not (most and batches >= most):
            batches += 1
            if not self._running.acquire(blocking=False):
                return False
            try:
                bodies: list[object] = []
                while self._waiting and len(bodies) < _BATCH:
                    bodies.append(self._waiting.popleft())
                if bodies:
                    self._calls += 1
                    self._attempt(bodies)
            finally:
                self._running.release()
        return True

    def _attempt(self, bodies: Sequence[object]) -> None:
        """Call the function or, without messages, its ``idle``; retries failures."""
        pause = 0.05
        for left in reversed(range(_RETRIES)):
            if self._broken is not None:
                return
            try:
                if bodies:
                    self._handle(bodies)
                else:
                    self._idle()
                return
            except Exception as error:
                known = isinstance(error, DriverError)  # its message is sufficient
                _log.error("%s failed: %s", self._thread.name, error, exc_info=not known)
                if not left or isinstance(error, Denied):
                    self._broken = Denied(
                        f"{self._whose} has stopped: {error}. Fix that, then start it again"
                    )
                    self._on_broken(self._broken)
                    return
                self._stopping.wait(pause)
                pause *= 2


class PromptQueue:
    """A :class:`LocalQueue` for senders that only wait: the function may run in their thread."""

    ordered = True
    max_message_bytes = LocalQueue.max_message_bytes

    def __init__(self, queue: LocalQueue) -> None:
        self._queue = queue

    def send(self, group: str, identity: str, body: bytes) -> None:
        self._queue.send_prompt(body)
