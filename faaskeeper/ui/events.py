"""The stream of events of a page: server-sent events (the WHATWG's HTML, section 9.2)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from faaskeeper.cli.errors import Failed
from faaskeeper.core.errors import DriverError, StaleView
from faaskeeper.exceptions import FaaSKeeperException
from faaskeeper.ui.follower import Batch, Follower

_ALIVE_S = 10.0
"""How often a silent stream says that it is there."""
_WAITING = 50
"""Batches that wait for a page that is slow to read; with more it had better read everything again."""


def text_of(batch: Batch) -> str:
    """A batch as one event; its id is where a page goes on after it was away."""
    shown = {"events": batch.events, "reset": batch.reset, "down": batch.down}
    id = f"id: {batch.position}\n" if batch.position is not None and not batch.down else ""
    return f"{id}data: {json.dumps(shown)}\n\n"


def _since(request: Request) -> int | None:
    text = request.headers.get("last-event-id") or request.query_params.get("since", "")
    return min(int(text), 1 << 62) if text.isascii() and text.isdecimal() and len(text) < 100 else None


def _beyond(batch: Batch, known: int) -> Batch:
    """A batch without what a page knows that has everything up to a transaction."""
    new = [each for each in batch.events if each["txid"] > known]
    position = None if batch.position is None else max(batch.position, known)
    return batch._replace(events=new, position=position)


def put(waiting: asyncio.Queue[Batch], batch: Batch) -> None:
    """Put a batch in; in place of very many there is one that says that events were lost."""
    if waiting.qsize() >= _WAITING and not batch.down:
        while not waiting.empty():
            waiting.get_nowait()
        batch = Batch(batch.position, [], reset=True)
    waiting.put_nowait(batch)


async def events(request: Request) -> Response:
    """Route: everything that happens, from now on or after ``Last-Event-ID``."""
    follower: Follower = request.state.follower
    stopping: asyncio.Event = request.app.state.stopping
    loop = asyncio.get_running_loop()
    come: asyncio.Queue[Batch] = asyncio.Queue()

    def deliver(batch: Batch) -> None:
        loop.call_soon_threadsafe(put, come, batch)

    async def stream() -> AsyncIterator[str]:
        tasks: list[asyncio.Task[Any]] = []
        try:
            yield "retry: 1000\n\n"
            try:
                first = await run_in_threadpool(follower.subscribe, deliver, _since(request))
            except (DriverError, StaleView, Failed, FaaSKeeperException) as error:
                yield text_of(Batch(None, [], down=str(error)))
                return  # the page comes again
            yield text_of(first)
            known = first.position
            tasks[:] = loop.create_task(stopping.wait()), loop.create_task(come.get())
            ended, following = tasks
            while not stopping.is_set() and request.state.valid():  # until somebody logs out
                done, _ = await asyncio.wait(
                    {following, ended}, timeout=_ALIVE_S, return_when=asyncio.FIRST_COMPLETED
                )
                if following in done:
                    batch = following.result()
                    tasks[1] = following = loop.create_task(come.get())
                    yield text_of(batch if known is None else _beyond(batch, known))
                else:
                    yield ": \n\n"
        finally:  # also when the page goes away
            for each in tasks:
                each.cancel()
            follower.unsubscribe(deliver)

    return StreamingResponse(stream(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
