"""The first heartbeat of a deployment, which initializes it, and the wait for it."""

from __future__ import annotations

import time
from collections.abc import Callable

from faaskeeper.core.errors import DriverError, StaleView
from faaskeeper.deploy.deployment import Progress
from faaskeeper.deploy.gcp.rest import Rest
from faaskeeper.deploy.gcp.settling import WITHIN_S
from faaskeeper.exceptions import ProviderException
from faaskeeper.providers.gcp.service import GcpService

_PAUSE_S = 2.0
_AGAIN_S = 60.0
"""How often heartbeat is called. Its right to the databases, and that to call it, may be new, too."""


def await_heartbeat(
    service: GcpService,
    rest: Rest,
    progress: Progress,
    pause: Callable[[float], None],
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Run heartbeat, and wait until a deployment is initialized.

    Raises ProviderException if it is not within 15 minutes.
    """
    config = service.config
    job = (
        f"projects/{service.project}/locations/{config.deployment_region}/jobs/{config.deployment_name}-beat"
    )
    made = service.deployment(b"", worker_queue=None, distributor_queue=None)
    began = clock()
    asked = float("-inf")
    while True:
        if clock() - asked >= _AGAIN_S:
            asked = clock()
            try:
                rest.call("cloudscheduler", f"v1/{job}:run", body={})
            except DriverError as error:
                progress(f"{error}; the schedule runs heartbeat")
        try:
            made.checkpoints.header()
        except (DriverError, StaleView) as error:
            problem = str(error)
        else:
            progress("heartbeat ran")
            return
        if clock() - began > WITHIN_S:
            raise ProviderException(f"the resources exist, but heartbeat does not run: {problem}")
        if clock() - asked < _PAUSE_S:
            progress(f"waiting for heartbeat: {problem}")
        pause(_PAUSE_S)
