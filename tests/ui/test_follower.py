"""Nothing is missed between the moment when a page begins and the first event, however slow the start is."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from faaskeeper.testing.patience import PATIENCE_S
from faaskeeper.ui.access import Access
from faaskeeper.ui.follower import Batch, Follower


@pytest.fixture
def access(config: Config) -> Iterator[Access]:
    made = Access(config)
    yield made
    made.close()


class Heard:
    """What a subscriber is told."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.resets = 0
        self.come = threading.Condition()

    def __call__(self, batch: Batch) -> None:
        with self.come:
            self.paths += [each["path"] for each in batch.events]
            self.resets += batch.reset
            self.come.notify_all()

    def wait_for(self, path: str) -> None:
        with self.come:
            assert self.come.wait_for(lambda: path in self.paths, PATIENCE_S), self.paths


def test_what_happens_at_once_after_the_beginning_is_told(access: Access, client: FaaSKeeperClient) -> None:
    for each in range(20):
        follower, heard = Follower(access), Heard()
        follower.subscribe(heard, None)
        client.create(f"/n{each}")
        heard.wait_for(f"/n{each}")
        follower.close()


def test_a_slow_start_misses_nothing(
    access: Access, client: FaaSKeeperClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower, heard, page = Follower(access), Heard(), access.client
    add_watch = page.add_watch

    def slowly(*args: Any, **named: Any) -> None:
        client.create("/before")
        add_watch(*args, **named)
        client.create("/after")

    monkeypatch.setattr(page, "add_watch", slowly)
    last = client.create("/known").stat.czxid
    first = follower.subscribe(heard, last)
    client.create("/end")
    heard.wait_for("/end")
    told = [*(each["path"] for each in first.events), *heard.paths]
    assert {"/before", "/after", "/end"} <= set(told)
    follower.close()


def test_who_only_listens_is_told_when_nobody_follows_any_more(
    access: Access, client: FaaSKeeperClient
) -> None:
    follower, page, listener = Follower(access), Heard(), Heard()
    assert not follower.listen(listener)
    follower.subscribe(page, None)
    assert follower.listen(listener)
    client.create("/a")
    listener.wait_for("/a")
    follower.unsubscribe(page)
    with listener.come:
        assert listener.come.wait_for(lambda: listener.resets == 1, PATIENCE_S)
    assert not follower.listen(listener)


def test_very_much_at_once_is_told_as_a_reset(
    access: Access, client: FaaSKeeperClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("faaskeeper.ui.follower._MOST", 10)
    last = client.create("/a").stat.czxid
    for each in range(20):
        client.create(f"/a/{each}")
    follower, heard = Follower(access), Heard()
    first = follower.subscribe(heard, last)
    assert (first.reset, first.events) == (True, [])
    assert first.position is not None
    assert first.position >= last + 20
    follower.close()
