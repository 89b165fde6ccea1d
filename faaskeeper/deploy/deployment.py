"""What every cloud's deployment can do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from faaskeeper.config import Config

Progress = Callable[[str], None]
"""Called with each step that was done, a line of text."""


class Deployment(Protocol):
    """A deployment on a cloud.

    Each method may raise DriverError and the exceptions of :mod:`faaskeeper.exceptions`, whose messages say
    what a person can do.
    """

    config: Config

    def changes(self) -> list[str]:
        """What :meth:`deploy` would change, and what drifted since the last one, a line each; read-only."""

    def deploy(self, progress: Progress) -> dict[str, object]:
        """Create or update it; returns the configuration that clients use."""

    def update_code(self, progress: Progress) -> None:
        """Give its functions this version's code, and nothing else."""

    def holdings(self) -> list[str]:
        """What :meth:`clean` would remove, a line each."""

    def clean(self, progress: Progress) -> None:
        """Remove it, with everything that it stores."""

    def close(self) -> None:
        """Close all connections."""


def client_configuration(config: Config, section: Mapping[str, object]) -> dict[str, object]:
    """The JSON object that clients of a deployment use. ``section``: the provider's."""
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
        "super-digest": config.super_digest,
        config.provider_name: dict(section),
    }
