"""Events and states as asynchronous iterators."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Union

from faaskeeper.exceptions import (
    FaaSKeeperException,
    NoWatcherException,
    SessionClosingException,
    SessionExpiredException,
)
from faaskeeper.session.states import SessionState
from faaskeeper.watch import WatchedEvent, WatchType

if TYPE_CHECKING:
    from faaskeeper.aio.client import AsyncClient


class Watch:
    """Events of a path, and of what is below it if it is ``recursive``, in order; none is left out.

    Events that are not taken yet are kept in memory.
    """

    def __init__(self, client: AsyncClient, path: str, recursive: bool) -> None:
        self._client = client
        self._path = path
        self._recursive = recursive
        self._events: asyncio.Queue[Union[WatchedEvent, FaaSKeeperException]] = asyncio.Queue()
        self._set = False

    async def open(self) -> None:
        """Set the watch, unless it is set."""
        if not self._set:
            self._set = True
            try:
                self._client.add_listener(self._listen)
                await self._client.add_watch(self._path, self._events.put_nowait, self._recursive)
            except BaseException:
                self._forget()
                raise

    def _forget(self) -> None:
        self._set = False
        self._client.remove_listener(self._listen)

    async def close(self) -> None:
        """Remove the watch."""
        if self._set:
            self._forget()
            kind = WatchType.PERSISTENT_RECURSIVE if self._recursive else WatchType.PERSISTENT
            with suppress(NoWatcherException, SessionClosingException, SessionExpiredException):
                await self._client.remove_watches(self._path, kind, self._events.put_nowait)

    def _listen(self, state: SessionState) -> None:
        if state is SessionState.LOST:
            self._events.put_nowait(self._client.why_lost())

    async def __aenter__(self) -> Watch:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def __aiter__(self) -> AsyncIterator[WatchedEvent]:
        return self._each()

    async def _each(self) -> AsyncIterator[WatchedEvent]:
        await self.open()
        try:
            while True:
                event = await self._events.get()
                if isinstance(event, FaaSKeeperException):
                    raise event
                yield event
        finally:
            await self.close()


class States:
    """A session's states, the present one first."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._states: asyncio.Queue[SessionState] = asyncio.Queue()

    async def each(self) -> AsyncIterator[SessionState]:
        """Each state; ends after LOST."""
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
