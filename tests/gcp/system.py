"""A whole deployment on the emulators: the targets in processes of their own, fed by push subscriptions."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

from faaskeeper.config import Config
from faaskeeper.providers.gcp.service import connect
from faaskeeper.testing.emulation.targets import CallFailed, Target, Unruly
from tests.backends import free_port
from tests.deployment import Deployment
from tests.gcp import backends, weak

ROOT = Path(__file__).parent.parent.parent
FUNCTIONS = ("writer", "distributor", "watch", "heartbeat")
_UNDONE = 0.1
_UNDONE_IN_ORDER = 0.02
"""The chance that a message that is done is reported as failed. The emulator sends it again after a
second, and meanwhile nothing that is behind it in order."""


class System(Deployment):
    """A deployment of one configuration.

    ``watch_inline``: who distributes tells watchers, too. ``source``: of the targets. ``unruly``: messages
    overtake each other and come twice on their way to the functions.
    """

    def __init__(
        self,
        emulators: dict[str, str],
        options: dict[str, Any],
        *,
        watch_inline: bool = False,
        source: Path = Path(weak.__file__),
        unruly: bool = False,
    ) -> None:
        super().__init__()
        self._stack = ExitStack()
        self.directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="system-")))
        self.name = f"fk-{uuid4().hex[:8]}"
        self.project = backends.project()
        self.gcp = self._stack.enter_context(backends.gcp(self.project))
        weak.weaken(self.gcp)
        worker, distributor = (
            options.get("worker-queue", "pubsub"),
            options.get("distributor-queue", "inline"),
        )
        networks = {"client-networks": ["127.0.0.0/8"]} if options.get("client-channel") == "tcp" else {}
        self.data: dict[str, Any] = {
            "cloud-provider": "gcp",
            "deployment-name": self.name,
            "deployment-region": "us-central1",
            **options,
            "gcp": {
                "project-id": self.project,
                "data-bucket": backends.create_bucket(self.gcp),
                "worker-topic": f"{self.name}-worker",
                "peer": "127.0.0.1",
                **networks,
            },
        }
        self.config = Config.deserialize(self.data)
        section = dict(self.data["gcp"])
        if not watch_inline:
            section["watch-topic"] = f"{self.name}-watch"
        functions = {
            **self.data,
            "worker-queue": "pubsub" if worker == "direct" else worker,
            "gcp": section,
        }
        environment = {
            **emulators,
            "FAASKEEPER_CONFIG": json.dumps(functions),
            "FAASKEEPER_LOG_LEVEL": "INFO",
            "PYTHONPATH": str(ROOT),
        }
        self.targets = {
            name: Target(name, source, environment, self.directory / name, free_port())
            for name in FUNCTIONS
            if name != "distributor" or distributor != "inline"
        }
        for target in self.targets.values():
            target.start()
        for short in ("worker", "distributor", "watch", "clients", "dead"):
            backends.create_topic(self.gcp, f"{self.name}-{short}")
        ordered = {
            name
            for name, kind in (("writer", worker), ("distributor", distributor))
            if kind == "pubsub-ordered"
        }
        self.ways = {
            name: Unruly(target, 1, undone=_UNDONE_IN_ORDER if name in ordered else _UNDONE)
            for name, target in self.targets.items()
            if unruly
        }
        self._push("worker", "writer", ordered="writer" in ordered)
        if distributor != "inline":
            self._push("distributor", "distributor", ordered="distributor" in ordered)
        self._push("watch", "watch")
        try:
            self._begin()
        except BaseException:
            self.stop()
            raise
        self.connect = lambda config, port: connect(config, port, self.gcp)

    def _begin(self) -> None:
        """Have heartbeat begin the deployment; it is called again where its stores fail."""
        self.targets["heartbeat"].wait()
        for left in reversed(range(10)):
            try:
                self.beat()
            except CallFailed:
                if not left:
                    raise
            else:
                break
        for target in self.targets.values():
            target.wait()

    def _push(self, topic: str, function: str, *, ordered: bool = False) -> None:
        way = self.ways.get(function, self.targets[function])
        name, dead = f"{self.name}-{topic}", f"{self.name}-dead"
        backends.push(self.gcp, name, way.url, ordered=ordered, dead=dead)

    def output(self, which: str) -> str:
        """What a function said."""
        return (self.directory / which).read_text()

    def beat(self) -> None:
        """See :class:`Harness`."""
        self.targets["heartbeat"].call(b"{}")

    def crash(self, which: Iterable[str] = ("writer", "distributor", "watch")) -> None:
        """See :class:`Harness`."""
        for name in which:
            if name in self.targets:
                self.targets[name].crash()

    def stop(self) -> None:
        """End everything."""
        self.stop_clients()
        for target in self.targets.values():
            target.kill()
        for way in self.ways.values():
            way.stop()
        self._stack.close()
