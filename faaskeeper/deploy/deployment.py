"""The interface of a deployment on any cloud."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from faaskeeper.config import Config

Progress = Callable[[str], None]
"""Called after each step, with a line of text."""


class Deployment(Protocol):
    """A deployment on a cloud.

    Each method may raise DriverError and the exceptions of :mod:`faaskeeper.exceptions`. The
    messages say how to fix the problem.
    """

    config: Config

    def changes(self) -> list[str]:
        """The changes that :meth:`deploy` would make, and drift, one per line; read-only."""

    def deploy(self, progress: Progress) -> dict[str, object]:
        """Create or update the deployment; returns the client configuration."""

    def update_code(self, progress: Progress) -> None:
        """Update only the functions' code, to this version."""

    def holdings(self) -> list[str]:
        """Resources that :meth:`clean` would remove, one per line."""

    def clean(self, progress: Progress) -> None:
        """Remove the deployment and all its data."""

    def close(self) -> None:
        """Close all connections."""


def client_configuration(config: Config, section: Mapping[str, object]) -> dict[str, object]:
    """The client configuration, a JSON object, without secrets. ``section``: the provider's section."""
    return {
        "cloud-provider": config.provider_name,
        "deployment-name": config.deployment_name,
        "deployment-region": config.deployment_region,
        "user-storage": config.user_storage.value,
        "worker-queue": config.worker_queue.value,
        "distributor-queue": config.distributor_queue.value,
        "client-channel": config.client_channel.value,
        "heartbeat-frequency": config.heartbeat_frequency,
        "session-timeout": config.session_timeout,
        "port": config.port,
        "verbose": config.verbose,
        config.provider_name: dict(section),
    }
