"""The four functions of one process, whatever the cloud: made once, kept warm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from faaskeeper.core.deployment import Deployment
from faaskeeper.core.distributor import DistributorFunction
from faaskeeper.core.heartbeat import Heartbeat
from faaskeeper.core.watches import Secrets, WatchFunction
from faaskeeper.core.writer import Writer
from faaskeeper.providers.cloud.service import CloudService
from faaskeeper.providers.cloud.serving import LOSSES

Handle = Callable[[Sequence[bytes]], None]


class Warm:
    """The functions on one deployment. ``begins``: heartbeat's process, which begins it where nobody has."""

    def __init__(self, service: CloudService, begins: bool) -> None:
        self._service = service
        key = service.initialize() if begins else service.key()
        _, fields = service.contended(LOSSES)
        self.deployment: Deployment = service.deployment(key, **fields)
        self._handles: dict[str, Handle] = {}

    def handle_of(self, which: str) -> Handle:
        """What handles the messages of the writer, the distributor or the watch function."""
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
        """A beat, or with ``sweep`` what is enough now and then."""
        beat = Heartbeat(self.deployment, self._service.table("heartbeat"))
        if sweep:
            beat.tend()
            return {}
        return beat.beat()
