"""The embedded provider: FaaSKeeper on one machine, on SQLite."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from faaskeeper.config import Config
    from faaskeeper.core.connection import Connection


def connect(config: Config, port: int) -> Connection:
    """Connect to the deployment of a configuration on this machine; ``port``: to listen to replies at."""
    from faaskeeper.providers.local.services import services  # what reads only, loads no service

    return services.connect(config, port)


__all__ = ["connect"]
