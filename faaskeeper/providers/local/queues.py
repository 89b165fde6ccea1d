"""The in-process queue: hands a function what waits, together (group commit)."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue

from faaskeeper.core.errors import Denied, Unavailable

_BATCH = 1_000
_IDLE_S = 0.2
_RETRIES = 5

_log = logging.getLogger(__name__)


class LocalQueue:
    """Messages to one function, called from one thread with everything that waits.

    A call that fails is repeated with the same messages, a few times with growing pauses: the function
    is built for that. When it goes on failing the queue is ``broken``: what is sent then is
    refused with the reason, and ``on_broken`` is told.
    """

    ordered = True
    max_message_bytes = 1 << 30

    def __init__(
        self,
        name: str,
        handle: Callable[[Sequence[bytes]], None],
        idle: Callable[[], None],
        on_broken: Callable[[Exception], None],
    ) -> None:
        self._handle = handle
        self._idle = idle
        self._on_broken = on_broken
        self._waiting: SimpleQueue[bytes | None] = SimpleQueue()
        self._stopping = threading.Event()
        self._broken: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=f"faaskeeper-{name}", daemon=True)
        self._thread.start()

    def send(self, group: str, identity: str, body: bytes) -> None:
        """See :class:`faaskeeper.core.queue.Queue`."""
        if self._broken is not None:
            raise self._broken
        if self._stopping.is_set():
            raise Unavailable("the embedded service is stopped")
        self._waiting.put(body)

    def stop(self) -> None:
        """Finish what waits, then stop."""
        self._stopping.set()
        self._waiting.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        busy = False
        while True:
            try:
                body = self._waiting.get(timeout=_IDLE_S if busy else None)
            except Empty:
                busy = False
                self._attempt([])
                continue
            bodies: list[bytes] = []
            stop = body is None
            while body is not None:
                bodies.append(body)
                if len(bodies) >= _BATCH:
                    break
                try:
                    body = self._waiting.get_nowait()
                except Empty:
                    break
                stop = stop or body is None
            if bodies and self._broken is None:
                self._attempt(bodies)
                busy = True
            if stop:
                self._attempt([])
                return

    def _attempt(self, bodies: Sequence[bytes]) -> None:
        """Call the function, or without messages its ``idle``; again when it fails."""
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
                _log.exception("%s failed", self._thread.name)
                if not left or isinstance(error, Denied):
                    self._broken = Denied(
                        f"the embedded service stopped: {error}. Mend that, then start again"
                    )
                    self._on_broken(self._broken)
                    return
                self._stopping.wait(pause)
                pause *= 2


class DirectQueue:
    """The writer in the caller's own thread: no hop, for a process that writes one request at a time."""

    ordered = True
    max_message_bytes = 1 << 30

    def __init__(self, handle: Callable[[Sequence[bytes]], None]) -> None:
        self._handle = handle
        self._lock = threading.Lock()
        self._waiting: list[bytes] = []
        self._guard = threading.Lock()

    def send(self, group: str, identity: str, body: bytes) -> None:
        """See :class:`faaskeeper.core.queue.Queue`. Whoever finds the writer free writes for all that wait."""
        with self._guard:
            self._waiting.append(body)
        while self._lock.acquire(blocking=False):
            try:
                with self._guard:
                    bodies, self._waiting = self._waiting, []
                if bodies:
                    self._handle(bodies)
            finally:
                self._lock.release()
            if not self._waiting:
                return

    def stop(self) -> None:
        """Nothing waits here."""
