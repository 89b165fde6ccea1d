"""Calls to a cloud: concurrent, measured, with errors mapped to core's kinds."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from faaskeeper.core.errors import Denied, DriverError

SIDE_BY_SIDE = 32
"""Maximum number of concurrent calls of :meth:`Calls.gather`."""
_THREADS = "faaskeeper-calls"

Observer = Callable[[str, float, Exception | None], None]
"""Called after each call with its name (``log.put``), ms, and its error (None: success)."""


class NoCredentials(Denied):
    """This machine has no credentials for the cloud: no call can be made. The message is the same
    for every call, and says how to set some."""

    def __init__(self, cloud: str, why: str, remedy: str) -> None:
        reason = f" ({why})" if why else ""
        super().__init__(f"no credentials for {cloud}{reason}: {remedy}")


class Calls(ABC):
    """Makes all calls to a cloud. Thread-safe."""

    errors: tuple[type[Exception], ...] = ()
    """The exceptions of the cloud's library."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._observers: list[Observer] = []

    @abstractmethod
    def core_error(self, what: str, error: Any) -> DriverError:
        """Map one of :attr:`errors` to core's kinds. ``what``: describes the call in messages."""

    def call(self, name: str, operation: Callable[..., Any], **parameters: Any) -> Any:
        """Make a call. Raises core's kinds of error. ``name``: for messages and counts."""
        began = time.perf_counter()
        failed: Exception | None = None
        try:
            return operation(**parameters)
        except self.errors as error:
            failed = self.core_error(name, error)
            raise failed from error
        except DriverError as error:
            failed = error
            raise
        finally:
            if self._observers:
                took = (time.perf_counter() - began) * 1000
                for observer in self._observers:
                    observer(name, took, failed)

    def observe(self, observer: Observer) -> None:
        """Report every call from now on."""
        self._observers.append(observer)

    def gather(self, calls: Any) -> list[Any]:
        if len(calls) <= 1 or threading.current_thread().name.startswith(_THREADS):  # never wait in the pool
            return [call() for call in calls]
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(SIDE_BY_SIDE, thread_name_prefix=_THREADS)
        others = [self._pool.submit(call) for call in calls[1:]]
        results: list[Any] = []
        failed: Exception | None = None
        try:
            results.append(calls[0]())
        except Exception as error:
            failed = error
        for other in others:
            try:
                results.append(other.result())
            except Exception as error:
                failed = failed or error
        if failed is not None:
            raise failed
        return results

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False)
