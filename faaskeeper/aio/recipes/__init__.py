"""Recipes for asyncio: locks, elections, barriers, queues and more, over :class:`AsyncClient`.

Their rules are those of :mod:`faaskeeper.recipes`. An object represents one participant: tasks that
exclude each other need one object each. A task that is cancelled while it waits leaves no node
behind: the delete is requested before the CancelledError propagates, and the session completes it.
"""

from faaskeeper.aio.recipes.barrier import Barrier, DoubleBarrier
from faaskeeper.aio.recipes.counter import Counter
from faaskeeper.aio.recipes.election import Election
from faaskeeper.aio.recipes.lock import Lock, LockLost, ReadLock, Semaphore, WriteLock
from faaskeeper.aio.recipes.party import Party
from faaskeeper.aio.recipes.queue import LockingQueue, Queue
from faaskeeper.aio.recipes.watchers import ChildrenWatch, DataWatch

__all__ = [
    "Barrier",
    "ChildrenWatch",
    "Counter",
    "DataWatch",
    "DoubleBarrier",
    "Election",
    "Lock",
    "LockLost",
    "LockingQueue",
    "Party",
    "Queue",
    "ReadLock",
    "Semaphore",
    "WriteLock",
]
