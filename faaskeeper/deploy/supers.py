"""Saves the super user of a deployment on a cloud, which no function's environment holds.

A configuration without ``super-digest`` says nothing of the super user: clients' configurations never
have it, and may be deployed again. An empty one removes the super user.
"""

from __future__ import annotations

from faaskeeper.config import Config
from faaskeeper.deploy.deployment import Progress
from faaskeeper.providers.cloud.service import CloudService
from faaskeeper.providers.cloud.supers import set_super_user


def super_user_notes(config: Config) -> tuple[str, ...]:
    """Lines for a plan."""
    if config.sets_super_user and not config.super_digest:
        return ("the super user, if there is one, is removed: 'super-digest' is empty",)
    return ()


def save_super_user(service: CloudService, progress: Progress) -> None:
    """Write the configuration's super user to the settings, or remove it.

    Raises DriverError.
    """
    if not service.config.sets_super_user:
        return
    digest = service.config.super_digest
    set_super_user(service.table("settings"), digest)
    progress(f"the super user is {digest.split(':', 1)[0]}" if digest else "there is no super user")
