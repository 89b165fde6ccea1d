"""Put jobs into the queue, all or none: ``python produce.py JOB...``."""

from __future__ import annotations

import sys

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from faaskeeper.recipes import LockingQueue

if __name__ == "__main__":
    with FaaSKeeperClient(Config.load("service.json")) as client:
        LockingQueue(client, "/jobs").put_all(job.encode() for job in sys.argv[1:])
