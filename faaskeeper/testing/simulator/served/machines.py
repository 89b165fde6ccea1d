"""Machines that run a server: start it, kill it, start it again."""

from __future__ import annotations

from typing import Any

from faaskeeper.config import Config
from faaskeeper.core.connection import Connection, connection_to
from faaskeeper.core.errors import DriverError, StaleView, Unavailable
from faaskeeper.core.log import Log
from faaskeeper.core.sessions import Lease, Leases
from faaskeeper.gateway.errors import ServerError
from faaskeeper.gateway.following import Following, ReadCounts
from faaskeeper.gateway.machine import Machine
from faaskeeper.gateway.server import Gateway, Settings
from faaskeeper.testing.simulator.environment import Process
from faaskeeper.testing.simulator.runtime import SimulatedLock
from faaskeeper.testing.simulator.served.embedded import EmbeddedService
from faaskeeper.testing.simulator.served.loop import SimulatedLoop, SimulatedPool
from faaskeeper.testing.simulator.served.network import Network
from faaskeeper.testing.simulator.served.plan import ServedPlan
from faaskeeper.testing.simulator.world import World

_STILL_MS = (20, 500, 3_000, 9_000, 40_000)
"""How long a process stands still."""


class Reached:
    """The leases, as far as a machine reaches them."""

    def __init__(self, leases: Leases, machine: ServerMachine) -> None:
        self._leases = leases
        self._machine = machine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._leases, name)

    def replace(self, lease: Lease) -> Lease:
        self._machine.reach(lease)
        return self._leases.replace(lease)


class Readable:
    """The log, as far as a machine can read it: answers fail or come late for some time."""

    def __init__(self, log: Log, machine: ServerMachine) -> None:
        self._log = log
        self._machine = machine

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._log, name)

        def call(*args: Any, **more: Any) -> Any:
            delay = self._machine.look()
            found = method(*args, **more)
            self._machine.wait(delay)
            return found

        return call


class ServerMachine:
    """A machine on which one server runs at a time. ``name``: the host's."""

    def __init__(self, world: World, plan: ServedPlan, network: Network, name: str) -> None:
        self._world = world
        self._plan = plan
        self._network = network
        self.name = name
        self.process: Process | None = None
        self.gateway: Gateway | None = None
        """The server, while it serves."""
        self.loops: list[SimulatedLoop] = []
        self.counts: list[ReadCounts] = []
        """Of each server that it has run."""
        self.stopping = False
        """It is not started again."""
        self.stopped = False
        self.away = False
        """Renewals of its lease do not get through."""
        self.blind = False
        """It cannot read the log, or only slowly."""

    def start(self) -> None:
        """Start a server in a new process."""
        self.stopping = self.stopped = False
        process = self.process = self._world.process(self.name, False)
        self._world.scheduler.spawn(self.name, lambda: self._run(process), process)

    def kill(self, silent: bool) -> None:
        """Kill the server. ``silent``: its clients hear nothing of that."""
        process = self.process
        if process is None or not process.alive:
            return
        self._world.scheduler.note(f"kills {self.name}")
        self._world.reached["a server of the protocol died"] += 1
        process.alive = False
        self.gateway = None
        self._world.scheduler.kill(process)
        self._network.died(process, silent)

    def stop(self) -> None:
        """Have the server stop in order."""
        self._world.reached["a server of the protocol stopped in order"] += 1
        self.stopping = True
        if self.process is None or not self.process.alive:
            self.stopped = True
        elif self.gateway is not None:
            self.gateway.stop()

    def _run(self, process: Process) -> None:
        world = self._world
        while process.alive and not self.stopping:
            try:
                connection = self._connection(process)
            except (DriverError, StaleView):
                world.scheduler.sleep(1_000)
                continue
            loop = SimulatedLoop(world.scheduler, self._network, self._still)
            self.loops.append(loop)
            try:
                loop.serve(self._serve(connection, process))
            except ServerError as error:
                world.scheduler.note(f"the server has ended: {error}")
                world.reached["a server could not start or go on"] += 1
                self._network.died(process, False)
                world.scheduler.sleep(1_000)
            else:
                self._network.died(process, False)
            connection.close()  # as the process that ends
            self.gateway = None
        self.stopped = True

    def _connection(self, process: Process) -> Connection:
        world = self._world
        if self._plan.embedded:
            return EmbeddedService(world, process).connection()
        deployment = world.deployment(process)
        log: Any = Readable(deployment.log, self) if self._plan.blind else deployment.log
        return connection_to(deployment, world.mail, leases=Reached(deployment.leases, self), log=log)

    async def _serve(self, connection: Connection, process: Process) -> None:
        scheduler = self._world.scheduler
        machine = Machine(
            now=lambda: scheduler.now / 1000,
            random=self._world.bytes,
            thread=scheduler.current,
            lock=lambda: SimulatedLock(scheduler),
            pool=lambda number, name: SimulatedPool(scheduler, process),
        )
        follow, memory = self._plan.follow, self._plan.memory
        settings = Settings(
            listen=((self.name, 2181),),
            max_connections=1_000,
            following=Following(follow / 1000, memory) if follow else None,
        )
        gateway = Gateway(connection, Config.local(name="simulated"), settings, machine)
        if gateway.hub.follower is not None:
            self.counts.append(gateway.hub.follower.counts)
        await gateway.start()
        self.gateway = gateway
        self._world.reached["a server started"] += 1
        if self.stopping:
            gateway.stop()
        await gateway.run()

    def _still(self) -> int:
        world = self._world
        if world.calm or not self._plan.still or world.random.random() >= self._plan.still:
            return 0
        world.reached["a server stood still"] += 1
        return world.random.choice(_STILL_MS)

    def reach(self, lease: Lease) -> None:
        """Raise Unavailable if the lease is the server's own, and it cannot reach that now."""
        gateway = self.gateway
        if self.away and gateway is not None and gateway.hub.lease.session == lease.session:
            self._world.reached["renewals of a server's lease do not get through"] += 1
            raise Unavailable("out of reach")

    def look(self) -> int:
        """The server reads the log: for how long (ms) the answer is on its way. Raises Unavailable."""
        if not self.blind or self.gateway is None:
            return 0
        delay = self._world.random.choice((0, 0, 2_000, 6_000))
        if not delay:
            self._world.reached["a server cannot read the log"] += 1
            raise Unavailable("the log cannot be read")
        self._world.reached["a server reads the log slowly"] += 1
        return delay

    def wait(self, delay: int) -> None:
        """Let some ms pass."""
        if delay:
            self._world.scheduler.sleep(delay)

    def discard(self) -> None:
        """Count what was reached and release the loops, after the history's end."""
        for counts in self.counts:
            self._world.reached["read from memory"] += counts.memory
            self._world.reached["read from storage by a server with a memory"] += counts.storage
            self._world.reached["following was late"] += counts.late
        for loop in self.loops:
            loop.discard()
