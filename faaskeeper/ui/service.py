"""Route to what the service does now: what ``fk top`` shows, queues, and how long stages take."""

from __future__ import annotations

import threading
from time import perf_counter
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from faaskeeper.cli.errors import Failed
from faaskeeper.cli.measuring import Meter
from faaskeeper.client import FaaSKeeperClient
from faaskeeper.clocks import elapsed_s
from faaskeeper.core.errors import DriverError
from faaskeeper.deploy.providers import dead_letters_of, doctor_of, translated_errors
from faaskeeper.exceptions import FaaSKeeperException
from faaskeeper.ui.access import Access, access_of
from faaskeeper.ui.follower import Follower

_WINDOW_S = 10.0
_CLOUD_S = 60.0
"""How often the cloud is asked for its queues: each look is a call or two that it bills."""


class Gauge:
    """Looks at one deployment for the pages that show it."""

    def __init__(self, access: Access, servers: tuple[tuple[str, int], ...]) -> None:
        self._access = access
        self._servers = servers
        self._lock = threading.Lock()
        self._meter: tuple[FaaSKeeperClient, Meter] | None = None
        self._cloud: tuple[float, dict[str, Any]] | None = None

    def look(self, follower: Follower) -> dict[str, Any]:
        """What the service does now. Raises DriverError."""
        with self._lock:
            client = self._access.client
            if self._meter is None or self._meter[0] is not client:
                self._meter = client, Meter(client, self._access.config, self._servers, _WINDOW_S)
            found = self._meter[1].look()
            found["paths"] = [each for each in found["paths"] if self._access.lists(each["path"])]
            found["stages"] = self._stages(client, follower)
            found["queue"] = self._access.config.worker_queue.value
            found.update(self._asked())
            return found

    def _stages(self, client: FaaSKeeperClient, follower: Follower) -> dict[str, float | None]:
        """Ms: to read a node, to read the log's end, and from a commit until its event was here."""
        began = perf_counter()
        client.exists("/")
        read = perf_counter()
        client.connection.log.after(client.connection.applied(), 1)
        log = perf_counter()
        delays = sorted(follower.delays)
        return {
            "read": round((read - began) * 1000, 2),
            "log": round((log - read) * 1000, 2),
            "event": delays[len(delays) // 2] if delays else None,
        }

    def _asked(self) -> dict[str, Any]:
        """What the cloud is asked for: requests that wait in the queue, and those that were given up."""
        now = elapsed_s()
        if self._cloud is None or now - self._cloud[0] > _CLOUD_S:
            self._cloud = now, {"waiting": self._waiting(), "letters": self._letters()}
        return self._cloud[1]

    def _waiting(self) -> str:
        try:
            with translated_errors():
                doctor = doctor_of(self._access.config)
                try:
                    return doctor.queue().message
                finally:
                    doctor.close()
        except (DriverError, FaaSKeeperException, Failed) as error:
            return str(error)

    def _letters(self) -> dict[str, Any]:
        if not self._access.config.provider_spec.dead_letters:
            return {"why": "this deployment has no queues that could give up a message"}
        try:
            with translated_errors():
                return {"counts": dict(dead_letters_of(self._access.config).counts())}
        except (DriverError, FaaSKeeperException, Failed) as error:
            return {"why": str(error)}


def service(request: Request) -> Response:
    """Route: one look."""
    access = access_of(request)
    if access.connection is None:
        return JSONResponse({"servers": _servers(request)})
    gauge: Gauge = request.state.gauge
    return JSONResponse(gauge.look(request.state.follower))


def _servers(request: Request) -> list[dict[str, Any]]:
    """What the servers of ``--server`` count: all that there is to see of a ZooKeeper server."""
    from faaskeeper.cli.servers import numbers

    found: list[dict[str, Any]] = []
    for host, port in request.app.state.settings.servers:
        try:
            found.append({"server": f"{host}:{port}", "numbers": numbers((host, port))})
        except Failed as error:
            found.append({"server": f"{host}:{port}", "error": str(error)})
    return found
