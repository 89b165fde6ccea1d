"""Watches of a deployment: which events arrive, and in which order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from faaskeeper.client import Future
from faaskeeper.node import Node
from faaskeeper.testing.conformance.blocking import Client
from faaskeeper.testing.conformance.harness import (
    Suite,
    flush,
)
from faaskeeper.testing.patience import PATIENCE_S
from faaskeeper.watch import WatchedEvent


class WatchSuite(Suite):
    """Watches: events reach other clients, in order, before what they announce can be read."""

    def test_each_change_fires_the_watch_that_was_set_before_it(
        self, start: Callable[..., Client], root: str
    ) -> None:
        writer, reader = start(), start()
        fired: list[WatchedEvent] = []
        more = threading.Semaphore(0)

        def note(event: WatchedEvent) -> None:
            fired.append(event)
            more.release()

        for change, watch in (
            (lambda: writer.create(f"{root}/n"), lambda: reader.exists(f"{root}/n", note)),
            (lambda: writer.set_data(f"{root}/n", b"1"), lambda: reader.get_data(f"{root}/n", note)),
            (lambda: writer.create(f"{root}/n/c"), lambda: reader.get_children(f"{root}/n", watch=note)),
            (lambda: writer.delete(f"{root}/n/c"), lambda: reader.get_children(f"{root}/n", watch=note)),
            (lambda: writer.delete(f"{root}/n"), lambda: reader.get_data(f"{root}/n", note)),
        ):
            watch()
            change()
            assert more.acquire(timeout=PATIENCE_S)
        events = [(str(event.event_type), event.path.removeprefix(root)) for event in fired]
        assert events == [
            ("NodeCreated", "/n"),
            ("NodeDataChanged", "/n"),
            ("NodeChildrenChanged", "/n"),
            ("NodeChildrenChanged", "/n"),
            ("NodeDeleted", "/n"),
        ]
        stamps = [event.timestamp for event in fired]
        assert stamps == sorted(stamps)

    def test_an_event_comes_before_the_state_that_it_announces(
        self, start: Callable[..., Client], root: str
    ) -> None:
        """The flag is set after the data: a client that reads it has the event of the data."""
        writer, reader = start(), start()
        writer.create(f"{root}/data", b"0")
        writer.create(f"{root}/flag", b"0")
        for number in range(1, 21):
            fired = threading.Event()
            reader.get_data(f"{root}/data", lambda event, fired=fired: fired.set())  # type: ignore[misc]
            futures: list[Future[Node]] = [
                writer.set_data_async(f"{root}/{name}", b"%d" % number) for name in ("data", "flag")
            ]
            deadline = time.monotonic() + PATIENCE_S
            while reader.get_data(f"{root}/flag").data != b"%d" % number:
                assert time.monotonic() < deadline
            flush(reader)
            assert fired.is_set()
            assert reader.get_data(f"{root}/data").data == b"%d" % number
            for future in futures:
                future.get(PATIENCE_S)

    def test_a_recursive_watch_fires_for_all_changes_below(
        self, start: Callable[..., Client], root: str
    ) -> None:
        writer, reader = start(), start()
        fired: list[tuple[str, str]] = []
        enough = threading.Event()

        def note(event: WatchedEvent) -> None:
            fired.append((str(event.event_type), event.path.removeprefix(root)))
            if len(fired) == 4:
                enough.set()

        reader.add_watch(root, note, recursive=True)
        writer.create(f"{root}/a")
        writer.create(f"{root}/a/b", b"1")
        writer.set_data(f"{root}/a/b", b"2")
        writer.delete(f"{root}/a/b")
        assert enough.wait(PATIENCE_S)
        assert fired == [
            ("NodeCreated", "/a"),
            ("NodeCreated", "/a/b"),
            ("NodeDataChanged", "/a/b"),
            ("NodeDeleted", "/a/b"),
        ]
        reader.remove_watches(root, watch=note)
        writer.delete(f"{root}/a")
        reader.sync()
        flush(reader)
        assert len(fired) == 4

    def test_what_sync_shows_is_at_least_what_was_committed(
        self, start: Callable[..., Client], root: str
    ) -> None:
        writer, reader = start(), start()
        for number in range(20):
            writer.set_data(root, b"%d" % number)
            reader.sync()
            assert reader.get_data(root).data == b"%d" % number
