"""FaaSKeeper on AWS: Lambda, DynamoDB, S3, SQS. Needs boto3: ``pip install 'faaskeeper[aws]'``."""

from __future__ import annotations

from faaskeeper.config import Config
from faaskeeper.core.connection import Connection


def connect(config: Config, port: int) -> Connection:
    """Connect to the deployment of a configuration on AWS; ``port``: to listen to replies at."""
    from faaskeeper.providers.aws.service import connect as connect_to

    return connect_to(config, port)
