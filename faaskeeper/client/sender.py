"""Sends a session's requests from the callers' threads, and what they leave from the keeper's."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from faaskeeper.client.runtime import Lock, Runtime
from faaskeeper.core import logs
from faaskeeper.core.errors import DriverError
from faaskeeper.core.requests import Message, Request
from faaskeeper.exceptions import ProviderException
from faaskeeper.session import messages
from faaskeeper.session.incarnation import Incarnation
from faaskeeper.session.timing import RING_S

if TYPE_CHECKING:
    from faaskeeper.core.connection import Connection

_log = logs.logger(__name__)

MESSAGES_AT_ONCE = 4
"""The messages that a thread sends, including its own, before it leaves the rest to the keeper."""


class Sender:
    """Sends one message at a time, so messages keep their order. ``lock`` is the session's.

    ``signs``: whether messages are signed, beside those of the opening. ``suspended`` is called
    when the queue fails, ``leave`` to leave unsent requests to the keeper.
    """

    def __init__(
        self,
        connection: Connection,
        incarnation: Incarnation[Any],
        runtime: Runtime,
        lock: Lock,
        signs: bool,
        suspended: Callable[[], None],
        leave: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._incarnation = incarnation
        self._outbox = incarnation.outbox
        self._lock = lock
        self._sending = runtime.lock()
        self._signs = signs
        self._suspended = suspended
        self._leave = leave

    def forked(self, runtime: Runtime, lock: Lock) -> None:
        """In a forked child: new locks replace the parent's."""
        self._lock, self._sending = lock, runtime.lock()

    def flush(self, prompt: bool = False) -> None:
        """Send the unsent requests. If another thread is sending, leave them to that thread.

        ``prompt``: the caller will wait for the answer. Other threads may add requests for ever,
        and the sending thread has to return to its caller: after a few messages it leaves the rest
        to the keeper.
        """
        repeat = not self._connection.worker_queue.ordered
        for _ in range(MESSAGES_AT_ONCE):
            if not self._sending.acquire(blocking=False):
                return  # the thread that holds it checks for unsent requests after its release
            try:
                with self._lock:
                    requests = self._outbox.take(repeat)
                    acked = self._outbox.acked
                if requests:
                    self.send(requests, acked, prompt)
            finally:
                self._sending.release()
            with self._lock:
                if not self._outbox.unsent:
                    return
            prompt = False  # this thread does not wait for the other threads' requests
        self._leave()

    def send(self, requests: tuple[Request, ...], acked: int, prompt: bool = False) -> None:
        """Send requests, with the ``acked`` of the outbox when they were taken from it."""
        try:
            self.put(self._incarnation.message(requests, acked), prompt)
        except ProviderException as error:
            _log.warning("could not send a request, will retry: %s", error)
            self._suspended()

    def put(self, message: Message, prompt: bool = False, sign: bool = False) -> None:
        """Send a message, signed in any case if ``sign``. Raises ProviderException."""
        queue = self._connection.worker_queue
        if prompt:
            queue = self._connection.prompt_queue or queue
        signed = self._signs or sign
        try:
            messages.send(queue, message, self._incarnation.secret if signed else None)
        except DriverError as error:
            raise ProviderException(str(error)) from error

    def ring(self, pause: float) -> None:
        """Ask the service to apply the log; by a queue only if the ``pause`` (in s) is long."""
        if self._connection.ring is not None:
            self._connection.ring()
        elif pause > RING_S:
            with self._lock:
                message = self._incarnation.message(())
            self.put(message)
