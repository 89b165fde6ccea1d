"""The embedded provider: FaaSKeeper on one machine, on SQLite."""

from __future__ import annotations

from faaskeeper.config import Config
from faaskeeper.core.connection import Connection
from faaskeeper.providers.local.service import EmbeddedService
from faaskeeper.providers.local.services import Services

_services = Services()


def connect(config: Config, port: int) -> Connection:
    """Connect to the deployment of a configuration on this machine; ``port``: to listen to replies at."""
    return _services.connect(config, port)


__all__ = ["EmbeddedService", "connect"]
