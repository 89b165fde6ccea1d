"""An embedded service's directory at rest: see ``docs/architecture/embedded.md``, *Reads at rest*."""

from __future__ import annotations

import os
from contextlib import ExitStack

from faaskeeper.config import Config, StorageType
from faaskeeper.core.atrest import AtRest
from faaskeeper.core.checkpoint import Checkpoints
from faaskeeper.core.errors import Denied, Restoring, StaleView
from faaskeeper.core.records import TableRecords
from faaskeeper.providers.local.database import Database, Owner
from faaskeeper.providers.local.directories import directory_of
from faaskeeper.providers.local.matching import checked, layout_of
from faaskeeper.providers.local.tables import SqliteTable

PEER = "127.0.0.1"
"""The address of clients of an embedded service."""


def at_rest(config: Config) -> AtRest | None:
    """The records of a directory, which this process then owns; None if a service must read them.

    That is so if it is in use, does not exist yet, or was not left in order: then entries of the log
    may not be applied. Raises Denied as a service does whose files do not match.
    """
    directory = directory_of(config)
    if config.user_storage is not StorageType.KEY_VALUE or not os.path.exists(f"{directory}/state.db"):
        return None
    owner = Owner(directory)
    try:
        owner.acquire(shared=True)  # who comes meanwhile waits: this ends soon
    except Denied:
        return None  # in use, perhaps by this process: the service says what to do
    with ExitStack() as stack:
        stack.callback(owner.release)
        log_file = Database(f"{directory}/log.db", synced=True)
        state_file = Database(f"{directory}/state.db", synced=False)
        found = stack.enter_context(checked(directory, log_file, state_file))
        if found.log is None or found.state is None or layout_of(found.log) != config.user_storage.value:
            return None
        checkpoints = Checkpoints(SqliteTable(found.state, "checkpoint"), expiring=False)
        try:
            checkpoints.header()
        except Restoring as error:
            raise Denied(str(error)) from None
        except StaleView:
            return None  # its set-up was interrupted
        applied = checkpoints.applied()
        if applied != found.end:
            return None
        records = TableRecords(SqliteTable(found.state, "records"))
        return AtRest(records, applied, stack.pop_all().close, PEER, config.super_digest)
    raise AssertionError("the block returns")
