"""The four functions of one process on any cloud: created once, reused by warm invocations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from faaskeeper.core.deployment import Deployment
from faaskeeper.core.distribution import DistributorFunction
from faaskeeper.core.heartbeat import Heartbeat
from faaskeeper.core.watches import Secrets, WatchFunction
from faaskeeper.core.writer import Writer
from faaskeeper.providers.cloud.service import CloudService
from faaskeeper.providers.cloud.serving import LOSSES

Handle = Callable[[Sequence[bytes]], None]


class Warm:
    """A deployment's functions. ``begins``: heartbeat's process, which initializes it."""

    def __init__(self, service: CloudService, begins: bool) -> None:
        self._service = service
        key = service.initialize() if begins else service.key()
        _, fields = service.contended(LOSSES)
        self.deployment: Deployment = service.deployment(key, **fields)
        self._handles: dict[str, Handle] = {}

    def handle_of(self, which: str) -> Handle:
        """The handler of the writer's, the distributor's or the watch function's messages."""
        handle = self._handles.get(which)
        if handle is None:
            deployment = self.deployment
            if which == "writer":
                handle = Writer(deployment).handle
            elif which == "distributor":
                handle = DistributorFunction(deployment).handle
            else:
                secrets = Secrets(deployment.key)
                handle = WatchFunction(
                    deployment.watches, deployment.channel, secrets, deployment.gather, deployment.key
                ).handle
            self._handles[which] = handle
        return handle

    def beat(self, sweep: bool) -> dict[str, Any]:
        """One heartbeat or, with ``sweep``, one sweep."""
        beat = Heartbeat(self.deployment, self._service.table("heartbeat"))
        if sweep:
            beat.tend()
            return {}
        return beat.beat()
