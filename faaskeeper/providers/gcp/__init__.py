"""FaaSKeeper on Google Cloud: Cloud Functions, Datastore, Pub/Sub, Cloud Storage.

Needs Google's libraries: ``pip install 'faaskeeper[gcp]'``.
"""

from __future__ import annotations

from faaskeeper.config import Config
from faaskeeper.core.connection import Connection


def connect(config: Config, port: int) -> Connection:
    """Connect to the deployment of a configuration on Google Cloud; ``port``: to listen to replies at."""
    from faaskeeper.providers.gcp.service import connect as connect_to

    return connect_to(config, port)
