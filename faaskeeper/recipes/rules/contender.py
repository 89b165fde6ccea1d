"""A place in a queue of ephemeral sequential nodes: the common part of locks and elections.

A contender's node is deleted with its session. A contender that gives up, or is interrupted
wherever it waits, deletes its own node. Each waits for the nearest earlier node that blocks it, so
the deletion of a node wakes one contender, not all. Only if several places come first (a
semaphore), all are woken.

**Interrupts.** A caller may be interrupted at any ``await`` of :meth:`Contender.wait`, and again
while it leaves. The node is then in one of three states, and in each it is deleted: its create is
not answered, and :class:`Own` deletes the node that the answer names; it is known, and its delete
is sent before the caller waits for anything; or its session is over. A place that came first is
returned without another ``await``.

**States.** A contender has no node, or one of the client's present session (*queued*); a queued one
may be *first*. A suspended session removes *first* and leaves the node. If the lease is renewed in
time, no other contender came in between, so the next wait continues with that node. Otherwise the
node is deleted with the session, and the next wait, in the client's next session, queues again.
"""

from __future__ import annotations

from collections.abc import Callable

from faaskeeper.core import paths
from faaskeeper.exceptions import FaaSKeeperException, SessionExpiredException
from faaskeeper.recipes.rules.port import Port
from faaskeeper.recipes.rules.waiting import LOOK_S, Deadline, Own, may_wait, number
from faaskeeper.session.states import SessionState

Blocks = Callable[[str], bool]
"""Whether an earlier contender, given the name of its node, blocks this one."""


class Contender:
    """One place in the queue below ``path``: :meth:`wait` takes it, :meth:`leave` releases it.

    ``places``: how many places come first. ``on_loss`` is called once, where the client runs its
    callbacks, when a place that came first is no longer certain: the session is suspended or lost.

    One caller at a time may wait; a second one is refused. A call of :meth:`leave` ends the wait.
    """

    def __init__(
        self,
        port: Port,
        path: str,
        prefix: str,
        data: bytes,
        blocks: Blocks,
        on_loss: Callable[[], None],
        places: int = 1,
    ) -> None:
        self._port = port
        self._path = path
        self._prefix = prefix
        self._data = data
        self._blocks = blocks
        self._on_loss = on_loss
        self._places = places
        self._changed = port.signal()
        self._own = Own(port)
        self._guard = port.guard()
        """Guards the fields below; never held during a wait."""
        self._first = False
        self._waiting = False
        self._leaving = False
        self._given_up = False

    @property
    def first(self) -> bool:
        """Whether this place is among those that come first, as far as the client knows."""
        return self._first and self._own.current and self._port.state is SessionState.CONNECTED

    @property
    def node(self) -> str | None:
        """The path of this contender's node; None if it has none, as far as the client knows."""
        node = self._own.node
        return None if node is None or not self._own.current else node.path

    @property
    def token(self) -> int:
        """The fencing token: the czxid of this contender's node, higher than all earlier ones.

        Send it with each request to the resource that the lock protects; the resource must refuse
        tokens lower than the highest that it has seen.
        """
        node = self._own.node
        if node is None or not self.first:
            raise ValueError("only the holder has a token: acquire first")
        return node.stat.czxid

    async def wait(self, timeout: float | None) -> bool:
        """Enter the queue, and wait at most ``timeout`` seconds to be first; leave it on failure.

        Raises FaaSKeeperException if this place is first already, or if another caller waits or
        leaves.
        """
        with self._guard:
            if self._waiting or self._leaving:
                raise FaaSKeeperException(
                    f"another {self._port.worker} acquires or releases {self._path} with this object, "
                    f"which is for one contender: create one for each {self._port.worker}"
                )
            if self.first:
                raise FaaSKeeperException(f"this object holds {self._path} already; it is not re-entrant")
            self._waiting, self._given_up, self._first = True, False, False
        reached = False
        try:
            self._port.remove_listener(self._listen)  # still there if the session was suspended
            self._port.add_listener(self._listen)
            reached = await self._wait(Deadline(timeout))
            if not reached:
                await self._go()
            return reached
        except BaseException as error:
            await self._go_after(error)
            raise
        finally:
            if not reached:
                self._waiting = False

    async def _wait(self, deadline: Deadline) -> bool:
        known = self._own.current  # from before the session was suspended
        if not known and not await self._queue_up(deadline):
            return False
        while not self._given_up:
            suspended = self._port.state is SessionState.SUSPENDED
            if not suspended:
                try:
                    if await self._is_next() and self._come_first():
                        return True
                    known = False
                except SessionExpiredException:
                    if not known or not await self._queue_up(deadline):
                        raise
                    known = False
                    continue
            left = deadline.left()
            if left == 0:
                return False
            may_wait(self._port)
            if suspended or self._port.state is SessionState.SUSPENDED:
                left = LOOK_S if left is None else min(left, LOOK_S)
            await self._changed.wait(left)
            self._changed.clear()
        return False

    async def _queue_up(self, deadline: Deadline) -> bool:
        return await self._own.make_numbered(f"{self._path}/{self._prefix}", self._data, deadline)

    async def _is_next(self) -> bool:
        """Whether no earlier contender blocks this one; otherwise watch the nearest that does.

        Raises SessionExpiredException if this contender's node is gone.
        """
        node = self._own.node
        if node is None or not self._own.current:
            raise SessionExpiredException("the session has ended, and this contender's node with it")
        own = paths.name(node.path)
        while True:
            watch = self._wake if self._places > 1 else None
            children = await self._port.get_children(self._path, watch=watch)
            names = [paths.name(child.path) for child in children]
            if own not in names:
                raise SessionExpiredException(
                    "this contender's node is gone: its session has ended, or a client has deleted it"
                )
            before = [name for name in names if number(name) < number(own) and self._blocks(name)]
            if len(before) < self._places:
                return True
            if watch is not None:
                return False
            nearest = max(before, key=number)
            if await self._port.exists(f"{self._path}/{nearest}", self._wake) is not None:
                return False

    def _come_first(self) -> bool:
        """Be first, unless the session is suspended now, or another caller has given up."""
        with self._guard:
            if self._given_up:
                return False
            self._first = True  # before the check: a suspension sets the state, then reads this
            if not self.first:
                self._first = False
                return False
            self._waiting = False
            return True

    def _wake(self, event: object) -> None:
        self._changed.set()

    def _listen(self, state: SessionState) -> None:
        self._changed.set()
        if state is SessionState.CONNECTED:
            return
        with self._guard:
            lost, self._first = self._first, False
        if lost:
            self._on_loss()

    async def leave(self) -> None:
        """Release the place, if there is one. Ends the wait of another caller."""
        with self._guard:
            if self._waiting:
                self._given_up = True  # the waiting caller leaves by itself
                self._changed.set()
                return
            if self._leaving:
                return
            self._leaving = True
        try:
            await self._go()
        except BaseException as error:
            await self._go_after(error)
            raise
        finally:
            self._leaving = False

    async def _go(self) -> None:
        self._stop()
        await self._own.remove()

    async def _go_after(self, error: BaseException) -> None:
        self._stop()
        await self._own.remove_after(error)

    def _stop(self) -> None:
        self._first = False
        self._port.remove_listener(self._listen)
