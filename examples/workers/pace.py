"""A rate for a whole fleet: how often its members may begin, whichever of them does."""

from __future__ import annotations

import time

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.exceptions import BadVersionError, NodeExistsException


class Pace:
    """At most ``rate`` beginnings a second, among all clients that use the same path.

    The node has the next free moment, in ms since 1970. Who takes it sets the next one, on condition that
    nobody was faster. So moments are never given out twice, and lie 1/``rate`` s apart. They are by the
    wall clocks of the members: where these differ, beginnings shift by as much, but never become more.
    """

    def __init__(self, client: FaaSKeeperClient, path: str, rate: float) -> None:
        self._client = client
        self._path = path
        self._interval = 1000 / rate
        try:
            client.create(path, b"0", makepath=True)
        except NodeExistsException:
            pass

    def take(self) -> float:
        """Take the next free moment (s since 1970), which may be in the future."""
        while True:
            node = self._client.get_data(self._path)
            moment = max(float(node.data), time.time() * 1000)
            following = repr(moment + self._interval).encode()
            try:
                self._client.set_data(self._path, following, version=node.stat.version)
            except BadVersionError:
                continue
            return moment / 1000

    def wait(self) -> float:
        """Wait for a moment of this caller's own; returns it."""
        moment = self.take()
        while (left := moment - time.time()) > 0:
            time.sleep(left)
        return moment
