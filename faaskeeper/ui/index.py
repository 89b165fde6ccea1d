"""Search over the paths and the data of a tree, as somebody types.

The paths are read once, at the first search, and kept as events tell while a page is open: so each
further letter costs a look at memory. Data is read anew for each search, after the paths have been
looked at.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from faaskeeper.core import paths
from faaskeeper.exceptions import FaaSKeeperException, NoAuthException, NodeDoesntExistException
from faaskeeper.node import Node
from faaskeeper.ui.access import Access, access_of
from faaskeeper.ui.follower import Batch, Follower

_RESULTS = 200
_TOGETHER = 64
_DATA_TOGETHER = 16
_MOST = 1_000_000
_LINE = 120


class Index:
    """All paths that a session may list. The first walk fills it, events keep it."""

    def __init__(self, access: Access, follower: Follower) -> None:
        self._access = access
        self._follower = follower
        self._building = threading.Lock()
        self._lock = threading.Lock()
        self._paths: set[str] | None = None
        self._late: list[Batch] = []
        """What happened during the walk."""
        self._follows = False

    def _deliver(self, batch: Batch) -> None:
        with self._lock:
            if self._paths is None:
                self._late.append(batch)
                self._follows = self._follows and not batch.reset
            else:
                self._apply(self._paths, batch)

    def _apply(self, known: set[str], batch: Batch) -> None:
        if batch.reset:
            self._paths, self._follows = None, False
            return
        for event in batch.events:
            if event["kind"] == "created":
                known.add(event["path"])
            elif event["kind"] == "deleted":
                known.discard(event["path"])

    def paths(self) -> Iterator[str]:
        """Every path: at the first time, or after events were lost, as they are read."""
        with self._building:
            with self._lock:
                found = None if self._paths is None else sorted(self._paths)
            if found is not None:
                yield from found
                return
            with self._lock:
                self._late = []
                self._follows = True
            if not self._follower.listen(self._deliver):
                yield from self._walk()  # no page is open that hears of changes: nothing is kept
                return
            read: set[str] = set()
            for path in self._walk():
                read.add(path)
                yield path
                if len(read) >= _MOST:
                    return  # too many to be kept
            with self._lock:
                late, self._late = self._late, []
                if self._follows:
                    for batch in late:
                        self._apply(read, batch)
                    self._paths = read

    def _walk(self) -> Iterator[str]:
        client = self._access.client
        yield "/"
        waiting = deque(["/"])
        while waiting:
            above = waiting.popleft()
            try:
                names, _ = client.get_children_with_stat(above)
            except (NodeDoesntExistException, NoAuthException):
                continue
            for at in range(0, len(names), _TOGETHER):
                below = [paths.child(above, name) for name in names[at : at + _TOGETHER]]
                yield from below
                stats = client.read_together([("exists", path) for path in below])
                waiting += [each.path for each in stats if isinstance(each, Node) and each.stat.numChildren]


def _found_in(data: bytes, wanted: bytes) -> str | None:
    """The line of data that has some text, which is in lower case; None: none has."""
    at = data.lower().find(wanted)
    if at < 0:
        return None
    begin = max(data.rfind(b"\n", 0, at) + 1, at - _LINE // 2)
    return data[begin : begin + _LINE].split(b"\n")[0].decode(errors="replace")


def _results(access: Access, index: Index, query: str, with_data: bool) -> Iterator[dict[str, Any]]:
    wanted, number, looked = query.lower(), 0, 0
    every: list[str] = []
    for path in index.paths():
        looked += 1
        if wanted in path.lower():
            number += 1
            if number <= _RESULTS:
                yield {"path": path}
        elif with_data:
            every.append(path)
    for at in range(0, len(every), _DATA_TOGETHER):
        if number >= _RESULTS:
            break
        reads = [("data", path) for path in every[at : at + _DATA_TOGETHER]]
        for node in access.client.read_together(reads):
            if isinstance(node, Node) and (line := _found_in(node.data, wanted.encode())) is not None:
                number += 1
                yield {"path": node.path, "line": line}
    yield {"done": True, "looked": looked, "found": number, "more": number > _RESULTS}


def search(request: Request) -> Response:
    """Route: paths, and nodes whose data, have a text: a line of JSON each, as they are found."""
    query = request.query_params.get("q", "")
    with_data = request.query_params.get("data") == "1"
    access, index = access_of(request), request.state.index

    def lines() -> Iterator[str]:
        try:
            for each in _results(access, index, query, with_data):
                yield json.dumps(each) + "\n"
        except FaaSKeeperException as error:
            yield json.dumps({"done": True, "error": str(error)}) + "\n"

    return StreamingResponse(lines(), media_type="application/x-ndjson")
