"""A worker of a fleet: ``python worker.py NAME [--seats N] [--rate R] [--config FILE]``.

Jobs are in a queue. At most N workers work at a time, and at most R jobs begin in a second, in the whole
fleet. A worker that is killed leaves its job and its seat to the others. Without work it waits.
"""

from __future__ import annotations

import argparse
import os
import threading

from pace import Pace

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from faaskeeper.recipes import LockingQueue, Semaphore


def work(job: str) -> None:
    """Stands for what a job is: ``hang`` takes for ever, the others no time."""
    if job.startswith("hang"):
        threading.Event().wait()


def main() -> None:
    """Work until the end of the process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--seats", type=int, default=2)
    parser.add_argument("--rate", type=float, default=10)
    parser.add_argument("--config", default="service.json")
    given = parser.parse_args()
    with FaaSKeeperClient(Config.load(given.config)) as client:
        client.create(f"/fleet/{given.name}", str(os.getpid()).encode(), ephemeral=True, makepath=True)
        queue = LockingQueue(client, "/jobs")
        seat = Semaphore(client, "/seats", given.seats, identifier=given.name)
        pace = Pace(client, "/pace", given.rate)
        while True:
            job = queue.get()  # waits for one
            assert job is not None
            with seat:  # waits until fewer than N work
                moment = pace.wait()  # waits until it is time
                print(f"{moment:.3f} {given.name} begins {job.decode()}", flush=True)
                work(job.decode())
                done = queue.consume()
            print(f"{given.name} {'has done' if done else 'lost'} {job.decode()}", flush=True)


if __name__ == "__main__":
    main()
