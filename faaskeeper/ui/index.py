"""Search over the paths and the data of a tree, as somebody types.

The paths are read once, at the first search, and kept as events tell while a page is open: so each
further letter costs a look at memory. The reading goes on when a letter ends the search before it:
the next one joins it. Data is read anew for each search, after the paths have been
looked at.
"""

from __future__ import annotations

import json
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator
from copy import copy
from itertools import islice
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from faaskeeper.core import paths
from faaskeeper.core.errors import DriverError, StaleView
from faaskeeper.exceptions import FaaSKeeperException, NoAuthException, NodeDoesntExistException
from faaskeeper.node import Node
from faaskeeper.ui.access import Access, access_of
from faaskeeper.ui.follower import Batch, Follower

_RESULTS = 200
_TOGETHER = 64
_DATA_TOGETHER = 16
_MOST = 1_000_000
"""Nodes of a tree that are looked at."""
_BREATH_S = 0.5
_LINE = 120


class Walk:
    """Paths as a thread of its own reads them: a search that is given up does not end it."""

    def __init__(self, read: Iterator[str], done: Callable[[list[str] | None], None]) -> None:
        self._read = read
        self._done = done
        self._found: list[str] = []
        self._over = False
        self._error: Exception | None = None
        self._more = threading.Condition()
        threading.Thread(target=self._run, name="fk ui index", daemon=True).start()

    def _run(self) -> None:
        try:
            for path in islice(self._read, _MOST):
                with self._more:
                    self._found.append(path)
                    self._more.notify_all()
        except Exception as error:  # who searches is told
            self._error = error
        self._done(None if self._error else self._found)
        with self._more:
            self._over = True
            self._more.notify_all()

    def paths(self) -> Iterator[str | None]:
        """All of them from the first on; None now and then while the next ones are read."""
        at = 0
        while True:
            with self._more:
                self._more.wait_for(lambda: len(self._found) > at or self._over, _BREATH_S)
                some, over = self._found[at:], self._over
            yield from some or (None,)
            at += len(some)
            if over and not some:
                if self._error is not None:
                    raise copy(self._error)
                return


class Index:
    """All paths that a session may list, up to a number. The first walk fills it, events keep it."""

    def __init__(self, access: Access, follower: Follower) -> None:
        self._access = access
        self._follower = follower
        self._lock = threading.Lock()
        self._paths: set[str] | None = None
        self._walking: Walk | None = None
        self._late: list[Batch] = []
        """What happened during the walk."""
        self._follows = False

    def _deliver(self, batch: Batch) -> None:
        with self._lock:
            if self._paths is not None:
                self._apply(self._paths, batch)
            elif self._walking is not None:
                self._late.append(batch)
                self._follows = self._follows and not batch.reset

    def _apply(self, known: set[str], batch: Batch) -> None:
        if batch.reset:
            self._paths = None
            return
        for event in batch.events:
            if event["kind"] == "created":
                known.add(event["path"])
            elif event["kind"] == "deleted":
                known.discard(event["path"])

    def paths(self) -> Iterator[str | None]:
        """Every path, as it is read if they are not known; None now and then when that takes long."""
        with self._lock:
            found = None if self._paths is None else sorted(self._paths)
            if found is None and self._walking is None:
                self._late = []
                self._follows = self._follower.listen(self._deliver)  # else nothing is kept
                self._walking = Walk(self._walk(), self._walked)
            walk = self._walking
        if found is None and walk is not None:
            yield from walk.paths()
        else:
            yield from found or ()

    def _walked(self, found: list[str] | None) -> None:
        with self._lock:
            self._walking = None
            late, self._late = self._late, []
            if found is None or not self._follows or len(found) >= _MOST:
                return
            read = set(found)
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


def _found_in(data: bytes, wanted: re.Pattern[str]) -> str | None:
    """The line of data that has some text; None: none has."""
    text = data.decode(errors="replace")
    found = wanted.search(text)
    if found is None:
        return None
    begin = max(text.rfind("\n", 0, found.start()) + 1, found.start() - _LINE // 2)
    return text[begin : begin + _LINE].split("\n")[0]


def _results(access: Access, index: Index, query: str, with_data: bool) -> Iterator[dict[str, Any] | None]:
    """What is found; None now and then while nothing is: a search that is given up ends there."""
    wanted, number, looked = re.compile(re.escape(query), re.IGNORECASE), 0, 0
    every: list[str] = []
    for path in index.paths():
        if path is None:
            yield None
            continue
        looked += 1
        if wanted.search(path):
            number += 1
            if number <= _RESULTS:
                yield {"path": path}
        elif with_data:
            every.append(path)
    for at in range(0, len(every), _DATA_TOGETHER):
        if number >= _RESULTS:
            break
        yield None
        reads = [("data", path) for path in every[at : at + _DATA_TOGETHER]]
        for node in access.client.read_together(reads):
            if isinstance(node, Node) and (line := _found_in(node.data, wanted)) is not None:
                number += 1
                yield {"path": node.path, "line": line}
    yield {
        "done": True, "looked": looked, "found": number, "more": number > _RESULTS, "cut": looked >= _MOST,
    }  # fmt: skip


def search(request: Request) -> Response:
    """Route: paths, and nodes whose data, have a text: a line of JSON each, as they are found."""
    query = request.query_params.get("q", "")
    with_data = request.query_params.get("data") == "1"
    access, index = access_of(request), request.state.index

    def lines() -> Iterator[str]:
        try:
            for each in _results(access, index, query, with_data):
                yield "\n" if each is None else json.dumps(each) + "\n"
        except (DriverError, StaleView, FaaSKeeperException) as error:
            yield json.dumps({"done": True, "error": str(error)}) + "\n"

    return StreamingResponse(lines(), media_type="application/x-ndjson")
