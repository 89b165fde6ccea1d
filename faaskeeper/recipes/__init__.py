"""The recipes that people build on ZooKeeper: locks, elections, queues and more.

They use only the client's public operations.
"""

from faaskeeper.recipes.barrier import Barrier, DoubleBarrier
from faaskeeper.recipes.counter import Counter
from faaskeeper.recipes.election import Election
from faaskeeper.recipes.lock import Lock, LockLost, ReadLock, WriteLock
from faaskeeper.recipes.party import Party
from faaskeeper.recipes.queue import LockingQueue, Queue
from faaskeeper.recipes.semaphore import Semaphore
from faaskeeper.recipes.watchers import ChildrenWatch, DataWatch

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
