"""What people build on ZooKeeper, over the client alone: locks, elections, counters."""

from faaskeeper.recipes.counter import Counter
from faaskeeper.recipes.election import Election
from faaskeeper.recipes.lock import Lock, LockLost, ReadLock, WriteLock

__all__ = ["Counter", "Election", "Lock", "LockLost", "ReadLock", "WriteLock"]
