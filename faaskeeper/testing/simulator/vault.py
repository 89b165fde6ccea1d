"""A subtree to which the hostile client has no right, and the check that it never changes."""

from __future__ import annotations

from functools import partial

from faaskeeper.core.log import Entry
from faaskeeper.core.znode import Acl
from faaskeeper.exceptions import FaaSKeeperException, NodeExistsException
from faaskeeper.testing.simulator.environment import Process
from faaskeeper.testing.simulator.scheduler import Violation
from faaskeeper.testing.simulator.world import World

VAULT = "/vault"
_OWNER = "owner:secret"


class Vault:
    """The subtree. ``sealed``: the txid after which nothing may change it; 0: not filled yet."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.sealed = 0
        world.on_commit.append(self.committed)

    def fill(self) -> None:
        """Create the subtree, as an honest client."""
        world = self._world
        process = world.process("owner", False)
        task = world.scheduler.spawn("owner", partial(self._own, process), process)
        patience = 1_000
        while not task.done:
            world.scheduler.sleep(patience)
            patience = min(patience * 2, 600_000)
            world.beat()  # it may take days, if a call stalls
        self.sealed = world.model.head

    def _own(self, process: Process) -> None:
        mine: list[Acl] = [(31, "auth", "")]
        while True:
            client = self._world.client(process, 10.0)
            try:
                client.start()
                client.add_auth("digest", _OWNER)
                for path, size in ((VAULT, 0), (f"{VAULT}/x", 60), (f"{VAULT}/y", 5)):
                    try:
                        client.create(path, b"v" * size, acl=mine)
                    except NodeExistsException:
                        pass  # an earlier try took effect
                client.stop()
                return
            except FaaSKeeperException:
                if (session := client.session) is not None:
                    session.abandon()
                self._world.scheduler.sleep(1_000)

    def committed(self, entry: Entry) -> None:
        """Check that an entry changes nothing here."""
        for transaction in entry.transactions if self.sealed else ():
            for change in transaction.changes:
                if change.path == VAULT or change.path.startswith(f"{VAULT}/"):
                    raise Violation(f"without a right to it, {change.path} was changed: {transaction}")
