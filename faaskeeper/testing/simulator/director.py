"""The course of one history: clients and faults, then rest, then a check of what is left."""

from __future__ import annotations

from functools import partial
from typing import Any

from faaskeeper.client import SessionState
from faaskeeper.core import paths
from faaskeeper.core.blobs import parse_blob_name
from faaskeeper.core.counting import current
from faaskeeper.core.tally import Tally
from faaskeeper.exceptions import FaaSKeeperException, TimeoutException
from faaskeeper.testing.simulator.app import OVER, App
from faaskeeper.testing.simulator.fleet import Fleet
from faaskeeper.testing.simulator.hostile import Hostile
from faaskeeper.testing.simulator.scheduler import START_MS, Stuck, Violation
from faaskeeper.testing.simulator.vault import Vault
from faaskeeper.testing.simulator.world import World

STEPS = 400_000
"""Most steps of a history."""
STEPS_OF_DAYS = 1_500_000
"""Most steps of a history in which days pass, where clients retry all the time."""


class Director:
    """Starts a history, brings it to rest, and checks what is left."""

    def __init__(self, world: World) -> None:
        plan = world.plan
        self.world = world
        self.ended = False
        """The history has come to its end."""
        self.timeout = 3_600.0 if plan.long else 10.0
        """Of the clients' sessions, in s."""
        self.every = 1_200_000 if plan.long else 3_000
        """Heartbeat runs so often, in ms."""
        self.apps: list[App] = []
        self.apps.extend(App(world, number, self.timeout, self.apps) for number in range(plan.clients))
        for app in self.apps[: plan.crashes]:
            app.crashing = world.random.random() < 0.5
            if plan.cut:
                app.process.fuse = world.random.randint(1, 120)
                app.process.dies = app.died
        self.vault = Vault(world)
        self.fleet = Fleet(world) if plan.servers else None
        self.hostile = Hostile(world, plan.hostile) if plan.hostile else None
        if plan.mass:
            self.apps[-1].mass = plan.mass

    def run(self) -> None:
        """The whole history."""
        world, scheduler = self.world, self.world.scheduler
        if world.plan.cut:
            world.set_up()
        if world.plan.steps:
            scheduler.spawn("clocks", world.set_clocks, world.system)
        if self.fleet is not None:
            self.fleet.begin()
        if self.hostile is not None:
            self.vault.fill()
            scheduler.spawn("hostile", self.hostile.run, self.hostile.process)
        for app in self.apps:
            scheduler.spawn(app.name, app.run, app.process)
        others: tuple[Any, ...] = (self.hostile, self.fleet)
        while not all(app.worked for app in self.apps) or not all(
            each is None or each.done for each in others
        ):
            scheduler.sleep(self.every)
            world.beat()
            world.bounds.middle()
            if world.plan.cut and world.random.random() < 0.2:
                world.begin([])  # once more, although it is set up
            if world.plan.long and world.plan.expiring:
                world.expire()
            if scheduler.now - START_MS > (60 if world.plan.long else 1) * 86_400_000:
                raise Stuck("the clients do not come to an end")
            if world.random.random() < 0.1 or scheduler.steps > STEPS // 3:
                world.become_calm()
        world.become_calm()
        self.rest(3)
        for app in self.apps:
            self.check(app)
        for _ in range(10):
            if not (left := world.bounds.rows()):
                break
            scheduler.sleep(self.timeout * 1_000 + 10_000)
            self.rest(1)
        if left:
            raise Violation(f"left of sessions that have ended: {left}")
        for app in self.apps:
            if not app.over:
                stopping = scheduler.spawn(f"{app.name} stops", partial(self.stop, app), app.process)
                patience = 100
                while not stopping.done:
                    scheduler.sleep(patience)
                    patience = min(patience * 2, self.every)
        self.rest(3)
        for _ in range(10):
            if not world.rows["lease"].query("lease", "", 1).items:
                break
            scheduler.sleep(self.timeout * 1_000 + 10_000)
            self.rest(1)
        self.reap()
        if world.plan.inline_bytes < 1 << 20:
            for day in range(24):  # until parts and blobs without a reference are old enough to be swept
                scheduler.sleep(86_400_000)
                world.beat()
                scheduler.sleep(60_000)
                if day in (1, 3):
                    self.awake()
            world.bounds.old()
        self.leftovers()
        self.blobs()
        self.ended = True

    def rest(self, times: int) -> None:
        """Let time pass, with so many runs of heartbeat."""
        for _ in range(times):
            self.world.scheduler.sleep(max(self.every, 6_000))
            self.world.beat()

    def reap(self) -> None:
        """Let time pass until no container and no znode with a time to live is due."""
        for _ in range(20):
            head = self.world.model.head
            self.world.scheduler.sleep(60_000)  # a container is due when it was empty for so long
            self.rest(2)
            # the functions do what the last run of heartbeat asked for
            self.world.scheduler.sleep(60_000)
            if self.world.model.head == head:
                return

    def check(self, app: App) -> None:
        """Check that a client which lives has received every event and answer."""
        session = app.client.session if app.client is not None else None
        over = app.over or session is None or session.error is not None
        if session is not None and not over and not self.world.model.sessions[session.id].closed:
            self.world.scheduler.sleep(self.timeout * 1_000)
            if app.over or self.world.model.sessions[session.id].closed:
                return  # it died meanwhile, or its session expired since its renewal stalls
            if self.world.plan.sharing and session.state is SessionState.SUSPENDED:
                # Another process has resumed the session. This one's renewal stalls: it does not
                # know that, and is suspended.
                self.world.reached["moved without knowing"] += 1
                return
            app.view.settle()
            self.world.bounds.client(session)

    def awake(self) -> None:
        """After days of rest a new client starts, writes and stops."""
        app = App(self.world, 90, self.timeout, [])
        app.left = 3
        self.world.scheduler.spawn(app.name, app.run, app.process)
        patience = 1_000
        while not app.worked:
            self.world.scheduler.sleep(patience)
            patience = min(patience * 2, 86_400_000)
            if patience == 86_400_000:
                self.world.beat()  # the client may be away for days, heartbeat never is
        self.stop(app)

    def stop(self, app: App) -> None:
        """Close a session."""
        try:
            app.started().stop()
        except TimeoutException:
            # A batch that stalled before the last fault may block an ordered queue for longer.
            self.world.reached["stopped without an answer"] += 1
        except FaaSKeeperException as error:
            if not isinstance(error, OVER):
                raise Violation(f"{app.name} could not stop: {error}") from error
        app.over = True

    def blobs(self) -> None:
        """Check that every blob that a znode names exists, and no other."""
        world, model = self.world, self.world.model
        named = {image.meta.blob for image in model.tree().values() if image.meta and image.meta.blob}
        for name in list(named):
            said = parse_blob_name(name)
            if said is not None and said.session in model.hostile:
                named.discard(name)  # it may name a blob that does not exist in its own znode
        there = {key for key in world.bucket if key.startswith("b/")}
        if named - there:
            raise Violation(f"Z5: the data of {named - there} is gone")
        if there - named:
            raise Violation(f"left in the object store: {there - named}")
        if named:
            world.reached["data in a blob"] += 1

    def leftovers(self) -> None:
        """Check that user storage is the tree, and that nothing else is left."""
        world, model = self.world, self.world.model
        for id, session in model.sessions.items():
            if not session.closed:
                raise Violation(f"session {id} was never closed")
        left = dict(world.rows["lease"].partitions)
        left.pop("transient", None)
        if left or world.bounds.rows():
            raise Violation(f"left of sessions: {left} {world.bounds.rows()}")
        deployment = world.deployment(world.system)
        tree = model.tree()
        size = sum(len(path) + len(image.data) for path, image in tree.items())
        if not any(image.meta and image.meta.blob for image in tree.values()):
            owned = sum(1 for image in tree.values() if image.meta and image.meta.owner)
            counted, right = current(deployment.log, deployment.checkpoints), Tally(len(tree), size, owned)
            if counted != right:
                raise Violation(f"{counted} is counted, there is {right}")
        rows = list(deployment.transients.all())
        for row in rows:
            if not world.plan.steps and row.due < world.scheduler.now - 2 * max(self.every, 60_000):
                raise Violation(f"the index of znodes that go by themselves keeps {row}")
        for path, images in model.history.items():
            due = None if images[-1].meta is None else images[-1].meta.due_at()
            if due is not None and not any(row.path == path and row.due <= due for row in rows):
                raise Violation(f"the index of znodes that go by themselves lacks {path}: {images[-1].meta}")
        for path, images in model.history.items():
            last = images[-1]
            record = deployment.records.get(path)
            if record is None and last.meta is None and model.lapsed(path, last.txid):
                continue
            if record is None or record.txid != last.txid:
                raise Violation(f"Z5: user storage has {record} of {path}, the log {last}")
            if (record.meta, record.data, tuple(record.children)) != last.stored():
                raise Violation(f"Z5: user storage has {record} of {path}, the log {last}")
            if last.meta is not None and paths.parent(path) != path and "//" not in path:
                above = model.at(paths.parent(path), model.head)
                if paths.name(path) not in above.children:
                    raise Violation(f"{path} is not among the children of its parent")
        if deployment.checkpoints.applied() < model.head:
            raise Violation(f"the mark is {deployment.checkpoints.applied()}, the log ends at {model.head}")
