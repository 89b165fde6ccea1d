"""Saves the super user of a deployment on a cloud, which no function's environment holds."""

from __future__ import annotations

from faaskeeper.core.errors import Denied
from faaskeeper.deploy.deployment import Progress
from faaskeeper.providers.cloud.service import CloudService
from faaskeeper.providers.cloud.supers import set_super_user


def save_super_user(service: CloudService, progress: Progress) -> None:
    """Write the configuration's super user to the settings; without one, remove it.

    Raises DriverError.
    """
    digest = service.config.super_digest
    try:
        set_super_user(service.table("settings"), digest)
    except Denied as error:
        if digest:
            raise
        # Deployers of earlier releases lack the right, and there is probably nothing to remove.
        progress(f"a super user that was set before, if any, stays: {error}")
    else:
        if digest:
            progress(f"the super user is {digest.split(':', 1)[0]}")
