"""Who holds and who waits is seen from the names of the contenders' nodes."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.core import paths
from faaskeeper.recipes import Lock, Party, ReadLock, Semaphore, WriteLock
from faaskeeper.recipes.places import HOLDS, MEMBER, UNKNOWN, WAITS, Place, places, recipe_of

Start = Callable[..., FaaSKeeperClient]
_ID = "0123456789abcdef0123456789abcdef"
_CURATOR = "_c_01234567-89ab-cdef-0123-456789abcdef-"


@pytest.mark.parametrize(
    "order",
    [
        "LL", "RRW", "WRR", "RLR", "LRR", "RWRW", "WWR", "RRL",
    ],
)  # fmt: skip
def test_what_the_names_say_is_what_the_contenders_know(order: str, connect: Start) -> None:
    kinds = {"L": Lock, "R": ReadLock, "W": WriteLock}
    looker = connect()
    waiting: list[tuple[Lock, threading.Thread]] = []
    locks: list[Lock] = []
    for number, letter in enumerate(order):
        lock = kinds[letter](connect(), "/lock", str(number))
        locks.append(lock)
        thread = threading.Thread(target=lock.acquire, daemon=True)
        thread.start()
        waiting.append((lock, thread))
        while len(lock.contenders()) <= number:
            looker.sync()
        looker.sync()
    for _ in range(200):
        names = [paths.name(each.path) for each in looker.get_children("/lock")]
        seen = {each.name: each.role == HOLDS for each in places(names)}
        known = {paths.name(lock.node or ""): lock.held for lock in locks}
        if seen == known:
            break
        waiting[-1][1].join(0.05)  # a holder may not know yet
    assert seen == known
    for lock, _ in waiting:
        lock.release()
    for lock, thread in waiting:
        lock.release()
        thread.join()
        lock.release()


def test_how_many_hold_a_semaphore_is_not_in_the_names(connect: Start) -> None:
    held = [Semaphore(connect(), "/s", 2, str(number)) for number in range(3)]
    for each in held[:2]:
        assert each.acquire()
    thread = threading.Thread(target=held[2].acquire)
    thread.start()
    while len(held[0].contenders()) < 3:
        held[0].contenders()
    names = [paths.name(each.path) for each in connect().get_children("/s")]
    assert [each.role for each in places(names, 2)] == [HOLDS, HOLDS, WAITS]
    assert [each.role for each in places(names)] == [HOLDS, UNKNOWN, UNKNOWN]
    held[0].release()
    thread.join()
    for each in held:
        each.release()


def test_members_of_a_party_are_members(connect: Start) -> None:
    client = connect()
    party = Party(client, "/party", "me")
    party.join()
    names = [paths.name(each.path) for each in client.get_children("/party")]
    assert [(each.recipe, each.role) for each in places(names)] == [("Party", MEMBER)]


def test_kazoo_s_and_curator_s_names_are_known() -> None:
    names = [
        f"{_ID}__lock__0000000003",
        f"{_ID}__rlock__0000000001",
        f"{_ID}__rlock__0000000002",
        f"{_ID}__rlock__0000000004",
    ]
    assert [each.role for each in places(names)] == [HOLDS, HOLDS, WAITS, WAITS]
    names = [
        f"{_CURATOR}__WRIT__0000000012",
        f"{_CURATOR}__READ__0000000010",
        f"{_CURATOR}__READ__0000000013",
    ]
    assert [(each.name[-2:], each.role) for each in places(names)] == [
        ("10", HOLDS),
        ("12", WAITS),
        ("13", WAITS),
    ]
    for name, recipe in ((f"{_CURATOR}lock-0000000000", "Curator InterProcessMutex"),
                         (f"{_CURATOR}latch-0000000000", "Curator LeaderLatch")):  # fmt: skip
        assert places([name]) == [Place(name, recipe, HOLDS)]
    assert places([_ID]) == [Place(_ID, "kazoo Semaphore or DoubleBarrier", HOLDS)]


@pytest.mark.parametrize("name", ["lock-", "lock-0000000001", "config", "entry-100-0000000001", "x" * 32, ""])
def test_other_nodes_are_no_contenders(name: str) -> None:
    assert recipe_of(name) is None
    assert places([name]) == []
