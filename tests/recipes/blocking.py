"""The recipes for asyncio with the interface of those for threads: for tests of what both promise.

A recipe runs in the event loop of its client, which is the conformance suites' adapter of the
asyncio client. Its calls wait; what it calls (``on_loss``, the function of a leader) runs in a
thread of its own, and may block.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Self

from faaskeeper.aio import recipes
from faaskeeper.testing.conformance.blocking import BlockingClient


class _Recipe:
    kind: type[Any]

    def __init__(
        self,
        client: BlockingClient,
        *args: Any,
        on_loss: Callable[[], object] | None = None,
        **more: Any,
    ) -> None:
        if on_loss is not None:
            more["on_loss"] = partial(client.call_later, on_loss)
        self._client = client
        self._real = client.in_loop(partial(self.kind, client.client, *args, **more))

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)
        if inspect.ismethod(found):
            return lambda *args, **more: self._client.in_loop(partial(found, *args, **more))
        return found

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


class _Counter(_Recipe):
    @property
    def value(self) -> int:
        return self._client.in_loop(self._real.value)  # type: ignore[no-any-return]


class _Election(_Recipe):
    def run(self, lead: Callable[[Any], None]) -> bool:
        async def leads(_: object) -> None:
            await asyncio.to_thread(lead, self)

        return self._client.in_loop(self._real.run, leads)  # type: ignore[no-any-return]


class _Party(_Recipe):
    def __iter__(self) -> Iterator[str]:
        return iter(self.members())

    def __len__(self) -> int:
        return self.size()  # type: ignore[no-any-return]

    @property
    def joined(self) -> bool:
        return self._client.in_loop(self._real.joined)  # type: ignore[no-any-return]


class _Queue(_Recipe):
    def __len__(self) -> int:
        return self.size()  # type: ignore[no-any-return]


class _Watch(_Recipe):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.start()


_SPECIAL = {
    "ChildrenWatch": _Watch,
    "Counter": _Counter,
    "DataWatch": _Watch,
    "Election": _Election,
    "Party": _Party,
    "Queue": _Queue,
}


def blocking(name: str) -> type[Any]:
    """The recipe of that name."""
    return type(name, (_SPECIAL.get(name, _Recipe),), {"kind": getattr(recipes, name)})
