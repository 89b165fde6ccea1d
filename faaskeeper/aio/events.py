"""Asynchronous iterators of events and states."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, Protocol, Union

from faaskeeper.exceptions import FaaSKeeperException, NoWatcherException
from faaskeeper.session.states import SessionState
from faaskeeper.watch import WatchCallbackType, WatchedEvent, WatchType

_log = logging.getLogger(__name__)


class Client(Protocol):
    """The client whose events and states are iterated."""

    @property
    def state(self) -> SessionState:
        """State of the session."""

    def add_listener(self, listener: Callable[[SessionState], Any]) -> None:
        """Call a function whenever the state changes."""

    def remove_listener(self, listener: Callable[[SessionState], Any]) -> None:
        """No longer call it."""

    async def add_watch(self, path: str, watch: WatchCallbackType, recursive: bool = False) -> None:
        """Set a persistent watch."""

    async def remove_watches(
        self,
        path: str,
        kind: WatchType | Sequence[WatchType] | None = None,
        watch: WatchCallbackType | None = None,
    ) -> None:
        """Remove watches."""

    def spawn(self, coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run a coroutine that the session's end waits for."""

    def why_lost(self) -> FaaSKeeperException:
        """The error that ended the session."""


class Watch:
    """The events of a path (``recursive``: and of all paths below), in order and without a gap.

    The watch is set from the beginning of an ``async with`` block to its end. Within the block it
    may be iterated any number of times; each iteration continues where the last one stopped.
    Without a block, it is set for one iteration; after a ``break``, it is removed when Python drops
    the iterator.

    Events stay in memory until they are taken, even if the task that waits for one is cancelled.
    """

    def __init__(self, client: Client, path: str, recursive: bool) -> None:
        self._client = client
        self._path = path
        self._recursive = recursive
        self._events: asyncio.Queue[Union[WatchedEvent, FaaSKeeperException]] = asyncio.Queue()
        self._set = False
        self._ended = False

    async def __aenter__(self) -> Watch:
        if self._set:
            raise RuntimeError("this watch is set already: use another client.watch() beside it")
        self._set, self._ended, self._events = True, False, asyncio.Queue()
        self._client.add_listener(self._listen)
        try:
            await self._client.add_watch(self._path, self._events.put_nowait, self._recursive)
        except BaseException:
            self._forget()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Remove the watch. If the caller is cancelled, the session still removes it."""
        self._forget()
        if self._ended:
            return
        try:
            removing = self._client.spawn(self._remove(self._events), "remover")
        except FaaSKeeperException:
            return  # the session has ended, and its watches with it
        await asyncio.wait((removing,))

    def _forget(self) -> None:
        self._set = False
        self._client.remove_listener(self._listen)

    async def _remove(self, events: asyncio.Queue[Union[WatchedEvent, FaaSKeeperException]]) -> None:
        kind = WatchType.PERSISTENT_RECURSIVE if self._recursive else WatchType.PERSISTENT
        try:
            await self._client.remove_watches(self._path, kind, events.put_nowait)
        except NoWatcherException:
            pass
        except FaaSKeeperException as error:
            # It does not fire again, whatever failed; its row at the service is removed with the
            # session.
            _log.warning("the watch of %s was not removed from the service: %s", self._path, error)

    def _listen(self, state: SessionState) -> None:
        if state is SessionState.LOST and not self._ended:
            self._ended = True
            self._events.put_nowait(self._client.why_lost())

    def __aiter__(self) -> AsyncIterator[WatchedEvent]:
        return self if self._set else self._alone()

    async def __anext__(self) -> WatchedEvent:
        event = await self._events.get()
        if isinstance(event, FaaSKeeperException):
            self._events.put_nowait(event)  # for the next call
            raise event.with_traceback(None)
        return event

    async def _alone(self) -> AsyncIterator[WatchedEvent]:
        async with self:
            while True:
                yield await self.__anext__()


class States:
    """The states of a session, beginning with the present one."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._states: asyncio.Queue[SessionState] = asyncio.Queue()

    async def each(self) -> AsyncIterator[SessionState]:
        """Yield each state; end after LOST.

        If a change is announced but not yet delivered when this begins, ``client.state`` already
        shows it, and listeners that were added later do not receive it.
        """
        self._client.add_listener(self._states.put_nowait)
        try:
            state = self._client.state
            while True:
                yield state
                if state is SessionState.LOST:
                    return
                state = await self._states.get()
        finally:
            self._client.remove_listener(self._states.put_nowait)
