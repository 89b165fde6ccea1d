"""Calls the instances of a service in turn: ``python caller.py SERVICE``, a call for each line of input.

``python caller.py SERVICE --follow`` prints who is there, now and whenever that changes.
"""

from __future__ import annotations

import json
import sys
import threading
import urllib.request

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from faaskeeper.exceptions import NodeDoesntExistException, NodeExistsException
from faaskeeper.recipes import ChildrenWatch


class Service:
    """The instances of a service, kept up to date by a watch; a call takes no request to the registry."""

    def __init__(self, client: FaaSKeeperClient, name: str, follow: bool = False) -> None:
        self._client = client
        self._path = f"/services/{name}"
        self._follow = follow
        self._known: dict[str, dict[str, str]] = {}
        self._turn = 0
        try:
            client.create(self._path, makepath=True)
        except NodeExistsException:
            pass
        ChildrenWatch(client, self._path, self._changed)

    def _changed(self, names: list[str]) -> None:
        known = {name: self._known.get(name) or self._read(name) for name in sorted(names)}
        self._known = {name: entry for name, entry in known.items() if entry}
        if self._follow:
            print("there:", *(entry["name"] for entry in self._known.values()), flush=True)

    def _read(self, name: str) -> dict[str, str]:
        try:
            entry: dict[str, str] = json.loads(self._client.get_data(f"{self._path}/{name}").data)
        except NodeDoesntExistException:
            return {}  # gone since the list was read: the watch fires again
        return entry

    def call(self) -> str:
        """The answer of the next instance that answers.

        One that has died is in the list until its session has ended: the next one is asked.
        """
        entries = list(self._known.values())
        for _ in entries:
            self._turn += 1
            entry = entries[self._turn % len(entries)]
            try:
                with urllib.request.urlopen(f"http://{entry['address']}/", timeout=5) as answer:
                    return str(answer.read().decode().strip())
            except OSError:
                print(f"{entry['name']} does not answer", flush=True)
        return "nobody is there"


def main() -> None:
    """Call, or follow, until the end of input."""
    follow = "--follow" in sys.argv
    with FaaSKeeperClient(Config.load("service.json")) as client:
        service = Service(client, sys.argv[1], follow)
        if follow:
            threading.Event().wait()
        for _ in sys.stdin:
            print(service.call(), flush=True)


if __name__ == "__main__":
    main()
