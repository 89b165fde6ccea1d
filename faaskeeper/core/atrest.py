"""A deployment at rest: its stores, which hold all that was committed, and which nobody changes.

A session's first read shows everything that was committed before the session opened, because the
session waits until user storage has it. Where user storage has everything already, and no process
can commit, records are shown as they are: that is what a session would show. So a program that only
reads, and then ends, needs no session, and writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from faaskeeper.core.acl import SuperUser
from faaskeeper.core.drivers.storage import ObjectStore
from faaskeeper.core.records import Records
from faaskeeper.core.tuples import NamedTuple
from faaskeeper.core.znode import MAX_DATA_BYTES


class AtRest(NamedTuple):
    """The stores, until ``close`` is called: it lets other processes have the deployment.

    ``applied``: the mark, which is the log's end. ``peer`` and ``super_digest``: see
    :class:`~faaskeeper.core.deployment.Deployment`.
    """

    records: Records
    applied: int
    close: Callable[[], None]
    peer: str
    super_digest: SuperUser
    blobs: ObjectStore | None = None
    inline_bytes: int = MAX_DATA_BYTES
