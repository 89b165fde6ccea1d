"""One of several nodes that elect a leader: ``python node.py NAME [CONFIG]``.

The leader counts. A node that is killed, stopped or cut off loses its leadership, the next one takes over,
and the count goes on where it was: no number is left out, and none comes twice.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from faaskeeper.exceptions import BadVersionError, FaaSKeeperException, NodeExistsException
from faaskeeper.recipes import Election

COUNT = "/app/count"
PAUSE_S = 0.1


class Node:
    """A candidate that leads until it is told to stop, or not allowed to go on."""

    def __init__(self, client: FaaSKeeperClient, name: str, ended: threading.Event) -> None:
        self.client = client
        self.name = name
        self.ended = ended
        self.over = threading.Event()
        """This node does not lead any more: it was told so, or it is to end."""

    def run(self) -> None:
        """Volunteer, lead, and volunteer again, until the program is to end."""
        election = Election(self.client, "/app/election", identifier=f"{self.name} {os.getpid()}")
        print(f"{self.name} is a candidate", flush=True)
        while not self.ended.is_set():
            self.over.clear()
            election.run(self.lead, on_loss=self.over.set, timeout=1.0)

    def lead(self, election: Election) -> None:
        """Count, in the name of this leadership."""
        token = election.token
        print(f"{self.name} leads with token {token}", flush=True)
        while not self.ended.is_set() and self.count(token):
            self.over.wait(PAUSE_S)
            if self.over.is_set():
                break
        print(f"{self.name} leads no more", flush=True)

    def count(self, token: int) -> bool:
        """Add one; returns whether this leader may go on.

        The token is written with the number. A leader that was stopped for a while finds a higher one there,
        or the version has changed between its look and its write.
        """
        node = self.client.get_data(COUNT)
        state = json.loads(node.data or b"{}")
        if state.get("token", 0) > token:
            return False
        new = {"count": state.get("count", 0) + 1, "token": token, "by": self.name}
        try:
            self.client.set_data(COUNT, json.dumps(new).encode(), version=node.stat.version)
        except BadVersionError:
            return False
        return True


def main() -> None:
    """Run a node until SIGTERM or SIGINT; a lost session begins anew."""
    name, config = sys.argv[1], Config.load(sys.argv[2] if len(sys.argv) > 2 else "service.json")
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    while not ended.is_set():
        try:
            with FaaSKeeperClient(config) as client:
                try:
                    client.create(COUNT, makepath=True)
                except NodeExistsException:
                    pass
                Node(client, name, ended).run()
        except FaaSKeeperException as error:
            print(f"{name} begins again: {error}", flush=True)
            ended.wait(1)
    print(f"{name} has ended", flush=True)


if __name__ == "__main__":
    main()
