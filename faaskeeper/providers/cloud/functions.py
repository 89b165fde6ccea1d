"""The four functions of one process on any cloud: created once, reused by warm invocations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from faaskeeper.clocks import elapsed
from faaskeeper.core.deployment import Deployment
from faaskeeper.core.distribution import DistributorFunction
from faaskeeper.core.heartbeat import Heartbeat
from faaskeeper.core.sweeping import WITHIN_MS
from faaskeeper.core.watches import Secrets, WatchFunction
from faaskeeper.core.writer import Writer
from faaskeeper.providers.cloud.envelopes import opened
from faaskeeper.providers.cloud.seals import PrivateKeys
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
                handle = self._writer()
            elif which == "distributor":
                handle = DistributorFunction(deployment).handle
            else:
                secrets = Secrets(deployment.key)
                handle = WatchFunction(
                    deployment.watches, deployment.channel, secrets, deployment.gather, deployment.key
                ).handle
            self._handles[which] = handle
        return handle

    def _writer(self) -> Handle:
        """The writer's handler of what clients sealed."""
        writer = Writer(self.deployment)
        keys = PrivateKeys(self._service.table("settings"), elapsed)
        return lambda bodies: writer.handle([opened(each, keys) for each in bodies])

    def beat(self, content: Mapping[str, Any], within: int = WITHIN_MS) -> dict[str, Any]:
        """Heartbeat, as the content of the call asks for.

        ``{"sweep": true}``: one sweep, of about ``within`` ms at most; ``{"rotate": true}``: a new key
        pair for clients; otherwise one heartbeat.
        """
        if content.get("rotate"):
            return {"rotated": self._service.renew_seals(at_once=True)}
        beat = Heartbeat(self.deployment, self._service.table("heartbeat"))
        if not content.get("sweep"):
            return beat.beat()
        self._service.renew_seals()
        beat.tend(within)
        return {}
