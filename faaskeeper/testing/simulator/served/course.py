"""The course of a history with servers: clients, deaths and stalls, then rest, then what is left."""

from __future__ import annotations

import traceback
from collections import Counter

from faaskeeper.core.requests import Create, Multi, SetData
from faaskeeper.testing.simulator.director import Director
from faaskeeper.testing.simulator.histories import History, Kind
from faaskeeper.testing.simulator.scheduler import START_MS, Scheduler, Stuck, Violation
from faaskeeper.testing.simulator.served.client import Client
from faaskeeper.testing.simulator.served.loop import follow
from faaskeeper.testing.simulator.served.machines import ServerMachine
from faaskeeper.testing.simulator.served.network import Network
from faaskeeper.testing.simulator.served.plan import SIMPLER, ServedPlan, served_plan_of
from faaskeeper.testing.simulator.served.seen import Shared
from faaskeeper.testing.simulator.world import World

STEPS = 150_000
"""Most steps of a history."""
LONG_RUN = 3_000
"""A run of so many histories or more must reach every fault and rare branch."""
EXPECTED = frozenset(
    {
        "a client gave a connection up",
        "a client left its connection",
        "a client that reads slowly",
        "a client was silent",
        "a client was told that its session is over",
        "a connection used beside another",
        "a server could not start or go on",
        "a server goes on to write",
        "a server of the protocol died",
        "a server of the protocol stopped in order",
        "a server stood still",
        "a server cannot read the log",
        "a server reads the log slowly",
        "a server stops to read",
        "a session goes on by another connection",
        "a znode that was due is gone",
        "an embedded service ended itself",
        "an entry together with its records",
        "an epoch that names the log",
        "an event",
        "an event while watches are set again",
        "an intruder was refused",
        "answered early",
        "asked to resend",
        "bytes that come in pieces",
        "renewals of a server's lease do not get through",
        "children in pages",
        "data in a blob",
        "following was late",
        "read from memory",
        "read from storage by a server with a memory",
        "the writer runs in another thread",
        "watches set again",
    }
)
"""Names of faults and rare branches."""


class ServedDirector(Director):
    """Starts servers and their clients, brings a history to rest, and checks what is left."""

    def __init__(self, world: World, plan: ServedPlan) -> None:
        clients, plan.clients = plan.clients, 0  # none of the other kind
        super().__init__(world)
        plan.clients = clients
        self.plan = plan
        self.network = Network(world, plan)
        self.machines = [
            ServerMachine(world, plan, self.network, f"server{number + 1}") for number in range(plan.gateways)
        ]
        world.gateways = True
        self._killing = True
        hosts = [each.name for each in self.machines]
        shared = Shared()
        self.clients = [
            Client(world, plan, self.network, shared, number, hosts) for number in range(plan.clients)
        ]

    def run(self) -> None:
        """The whole history."""
        world, scheduler = self.world, self.world.scheduler
        for machine in self.machines:
            machine.start()
        scheduler.spawn("killer", self._kill, world.system)
        scheduler.spawn("divider", self._divide, world.system)
        if self.plan.blind:
            scheduler.spawn("blinder", self._blind, world.system)
        for client in self.clients:
            scheduler.spawn(client.name, client.run, client.process)
        turns = 0
        while not all(client.done for client in self.clients):
            scheduler.sleep(self.every)
            self._beat()
            turns += 1
            worked = all(client.worked for client in self.clients)
            if world.random.random() < (0.5 if worked else 0.02) or turns > 60:
                world.become_calm()
            if scheduler.now - START_MS > 86_400_000:
                raise Stuck("the clients do not come to an end")
        world.become_calm()
        self._once()
        while self._killing:
            scheduler.sleep(1_000)
        for machine in self.machines:
            machine.stop()
        while not all(machine.stopped for machine in self.machines):
            scheduler.sleep(1_000)
        for _ in range(40):
            if not world.rows["lease"].query("lease", "", 1).items:
                break
            scheduler.sleep(20_000)
            world.beat()
        self.reap()
        self.leftovers()
        self.ended = True

    def _beat(self) -> None:
        if not self.plan.embedded:  # there the service does it
            self.world.beat()
        self.world.bounds.middle()

    def _kill(self) -> None:
        """Have servers die, or stop in order, and start again."""
        self._kill_some()
        self._killing = False

    def _kill_some(self) -> None:
        random, scheduler = self.world.random, self.world.scheduler
        for _ in range(self.plan.kills):
            scheduler.sleep(random.choice((50, 1_000, 5_000, 15_000)))
            if self.world.calm:
                return
            machine = random.choice(self.machines)
            if random.random() < 0.4:
                machine.stop()
                while not machine.stopped:
                    scheduler.sleep(100)
            else:
                machine.kill(random.random() < 0.3)
            scheduler.sleep(random.choice((10, 2_000, 30_000)))
            machine.start()

    def _divide(self) -> None:
        """Keep servers away from their leases for some time: renewals do not get through."""
        random, scheduler = self.world.random, self.world.scheduler
        while self.plan.divided and not self.world.calm:
            scheduler.sleep(random.choice((1_000, 5_000, 20_000)))
            machine = random.choice(self.machines)
            machine.away = True
            scheduler.sleep(random.choice((1_000, 5_000, 40_000)))
            machine.away = False

    def _blind(self) -> None:
        """Keep servers from reading the log for some time."""
        random, scheduler = self.world.random, self.world.scheduler
        while not self.world.calm:
            scheduler.sleep(random.choice((200, 1_000, 5_000)))
            machine = random.choice(self.machines)
            machine.blind = True
            scheduler.sleep(random.choice((500, 2_000, 5_000, 20_000)))
            machine.blind = False

    def _once(self) -> None:
        """Check that no value was written twice."""
        model = self.world.model
        times: Counter[bytes] = Counter()
        for key, outcome in model.outcomes.items():
            operation = model.requests[key].operation
            for each in operation.operations if isinstance(operation, Multi) else (operation,):
                if isinstance(each, (Create, SetData)) and outcome.code.name == "OK":
                    times[self.world.blobs.get(each.data.blob, each.data.inline)] += 1
        for value, number in times.items():
            if number > 1:
                raise Violation(f"Z1: {value!r} was written {number} times")

    def discard(self) -> None:
        """Release what is left after the history's end."""
        for machine in self.machines:
            machine.discard()


def run_served(seed: int, plan: ServedPlan | None = None, trace: bool = False) -> History:
    """Run the history with servers of a seed, with the seed's plan if none is given."""
    plan = plan or served_plan_of(seed)
    scheduler = Scheduler(seed)
    scheduler.tracing = trace
    scheduler.on_switch = follow
    world = World(scheduler, plan)
    director = ServedDirector(world, plan)
    violation = ""
    scheduler.spawn("director", director.run, world.system)
    try:
        scheduler.run(STEPS)
        if not director.ended:
            violation = "the history stands still: a task waits for what never comes"
    except Violation as broken:
        violation = str(broken) or type(broken).__name__
    except Exception as error:
        violation = f"{type(error).__name__}: {error}"
        if trace:
            scheduler.trace.append(traceback.format_exc())
    scheduler.end()
    director.discard()
    follow(None)
    return History(
        seed, plan, violation, scheduler.steps, len(world.model.entries), world.reached, scheduler.trace
    )


SERVED = Kind(run_served, served_plan_of, SIMPLER, EXPECTED, LONG_RUN, " --servers")
"""Histories of servers and their clients."""
