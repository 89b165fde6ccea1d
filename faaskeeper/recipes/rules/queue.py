"""Queues of values: a consumer takes a value once, or holds it while it processes it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from faaskeeper.core import paths
from faaskeeper.exceptions import FaaSKeeperException, NodeDoesntExistException, NodeExistsException
from faaskeeper.recipes.rules.port import Alone, Pending, Port
from faaskeeper.recipes.rules.waiting import LOOK_S, Own, Waiting, ensure, raise_of, size
from faaskeeper.session.states import SessionState

_DIGITS = 3


def _prefix(priority: int) -> str:
    if not 0 <= priority < 10**_DIGITS:
        raise ValueError(f"a priority must be from 0 (first) to {10**_DIGITS - 1}, not {priority}")
    return f"entry-{priority:0{_DIGITS}d}-"


class QueueRules:
    """Values are sequential nodes, ordered by their names."""

    def __init__(self, port: Port, path: str) -> None:
        self._port = port
        self._path = path

    async def put(self, value: bytes, priority: int) -> None:
        """Put a value in."""
        await self._port.create(f"{self._path}/{_prefix(priority)}", value, sequential=True, makepath=True)

    async def put_all(self, values: Iterable[bytes], priority: int) -> None:
        """Put several in: all of them, or none."""
        await ensure(self._port, self._path)
        transaction = self._port.transaction()
        for value in values:
            transaction.create(f"{self._path}/{_prefix(priority)}", value, sequential=True)
        raise_of(await self._port.commit(transaction))

    async def get(self, timeout: float | None) -> bytes | None:
        """Take the first value; None after ``timeout`` seconds without one (None: no limit)."""
        waiting = Waiting(self._port, timeout)
        try:
            await ensure(self._port, self._path)
            while True:
                watch = waiting.wake if timeout != 0 else None
                for node in await self._port.get_children(self._path, watch=watch):
                    value = await self._take(node.path)
                    if value is not None:
                        return value
                if timeout == 0 or not await waiting.more():
                    return None
        finally:
            waiting.end()

    async def _take(self, path: str) -> bytes | None:
        """Take a value; None if another consumer was faster.

        If an interrupt comes meanwhile and this consumer took the value, put it back in its place.
        """
        taking: Pending[None] | None = None
        try:
            value = (await self._port.get_data(path)).data
            taking = self._port.ask_delete(path, prompt=True)
            while not await taking.wait(LOOK_S):
                pass  # until it is answered or the session ends
            taking.get()
            return value
        except NodeDoesntExistException:
            return None
        except FaaSKeeperException:
            raise
        except BaseException:
            if taking is not None:
                taking.add_callback(partial(self._put_back, path, value or b""))
            raise

    def _put_back(self, path: str, value: bytes, taking: Pending[None]) -> None:
        try:
            taking.get()
            self._port.ask_create(path, value, ephemeral=False)
        except FaaSKeeperException:
            return  # it was not taken, or the session is over

    async def size(self) -> int:
        """The number of values."""
        return await size(self._port, self._path)


class LockingQueueRules:
    """A consumer. Its mark, an ephemeral node, keeps others from the value that it holds."""

    def __init__(self, port: Port, path: str) -> None:
        self._port = port
        self._entries = f"{path}/entries"
        self._taken = f"{path}/taken"
        self.queue = QueueRules(port, self._entries)
        self._mark = Own(port)
        self._alone = Alone(
            port,
            f"another {port.worker} uses {self._entries} with this object, which is for one consumer: "
            f"create one for each {port.worker}",
        )

    async def get(self, timeout: float | None) -> bytes | None:
        """Hold the first free value; returns the same one until it is consumed or released."""
        with self._alone():
            if await self._mark.there():
                try:
                    return (await self._port.get_data(self._entry())).data
                except NodeDoesntExistException:
                    await self._mark.remove()  # another client deleted the value
            waiting = Waiting(self._port, timeout)
            try:
                await ensure(self._port, self._entries)
                await ensure(self._port, self._taken)
                while True:
                    value = await self._hold(waiting)
                    if value is not None or not await waiting.more():
                        return value
            finally:
                waiting.end()

    async def _hold(self, waiting: Waiting) -> bytes | None:
        marks = await self._port.get_children(self._taken, watch=waiting.wake)
        taken = {paths.name(node.path) for node in marks}
        for entry in await self._port.get_children(self._entries, watch=waiting.wake):
            name = paths.name(entry.path)
            if name in taken:
                continue
            try:
                await self._mark.make(f"{self._taken}/{name}")
            except NodeExistsException:
                continue  # another consumer was faster
            try:
                return (await self._port.get_data(entry.path)).data
            except NodeDoesntExistException:
                await self._mark.remove()  # consumed before the mark was made
            except BaseException as error:
                await self._mark.remove_after(error)
                raise
        return None

    def _entry(self) -> str:
        mark = self._mark.node
        if mark is None:
            raise ValueError("no value is held: get() one first")
        return f"{self._entries}/{paths.name(mark.path)}"

    @property
    def holds(self) -> bool:
        """Whether a value is held, as far as the client knows."""
        return self._port.state is SessionState.CONNECTED and self._mark.current

    async def consume(self) -> bool:
        """Remove the held value. False: it was no longer held; another consumer may process it."""
        with self._alone():
            entry, mark = self._entry(), self._mark.node
            if mark is None or not self._mark.current:
                await self._mark.remove()
                return False  # the mark was deleted with its session; another consumer may have one
            transaction = self._port.transaction().delete(entry).delete(mark.path)
            results = await self._port.commit(transaction)
            if any(isinstance(each, Exception) for each in results):
                await self._mark.remove()
                return False
            self._mark.node = None
            return True

    async def release(self) -> None:
        """Release the held value; does nothing if none is held."""
        with self._alone():
            await self._mark.remove()
