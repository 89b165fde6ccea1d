"""Requests of a session begin in an order in which each sees those before it, and no others."""

from __future__ import annotations

import random
from itertools import count

import pytest

from faaskeeper.session.order import Order

WRITE, READ = True, False


def order_of(*requests: str, most: int = 1) -> Order[str]:
    """An order to which requests were added: writes begin with ``w``."""
    order: Order[str] = Order(most)
    for request in requests:
        order.add(request.startswith("w"), request)
    return order


def begun(order: Order[str]) -> list[str]:
    """What begins now."""
    found: list[str] = []
    while (request := order.next()) is not None:
        found.append(request)
    return found


def test_writes_begin_together() -> None:
    order = order_of("w1", "w2", "w3")
    assert begun(order) == ["w1", "w2", "w3"]
    assert (order.writing, order.reading, len(order)) == (3, 0, 0)


def test_a_read_waits_for_every_write_before_it() -> None:
    order = order_of("w1", "w2", "r1")
    assert begun(order) == ["w1", "w2"]
    order.done(WRITE)
    assert begun(order) == []
    order.done(WRITE)
    assert begun(order) == ["r1"]


def test_a_write_waits_for_the_reads_before_it() -> None:
    order = order_of("r1", "r2", "w1", most=2)
    assert begun(order) == ["r1", "r2"]
    order.done(READ)
    assert begun(order) == []
    order.done(READ)
    assert begun(order) == ["w1"]


@pytest.mark.parametrize("most", [1, 3])
def test_as_many_reads_are_under_way_as_is_allowed(most: int) -> None:
    order = order_of("r1", "r2", "r3", "r4", "r5", most=most)
    assert begun(order) == ["r1", "r2", "r3", "r4", "r5"][:most]
    order.done(READ)
    assert len(begun(order)) == 1


def test_nothing_overtakes_a_request_that_waits() -> None:
    order = order_of("w1", "r1", "w2", "r2", most=2)
    assert begun(order) == ["w1"]
    assert not order.may_begin(WRITE)
    assert not order.may_begin(READ)
    order.done(WRITE)
    assert begun(order) == ["r1"]
    assert order.waiting() == ["w2", "r2"]


def test_a_request_that_is_alone_may_begin_at_once() -> None:
    order = order_of()
    assert order.may_begin(WRITE)
    assert order.may_begin(READ)
    order.begin(WRITE)
    assert order.may_begin(WRITE)
    assert not order.may_begin(READ)


def test_only_writes_begin_while_reads_may_not() -> None:
    order = order_of("w1", "r1")
    assert order.next(reads=False) == "w1"
    order.done(WRITE)
    assert order.next(reads=False) is None
    assert (order.reading, len(order)) == (0, 1)
    assert order.next() == "r1"


def test_reads_that_fit_join_the_one_that_has_begun_and_are_done_with_it() -> None:
    order = order_of("r1", "r2", "r3", "r4", "w1")
    assert order.next() == "r1"
    assert order.join(lambda each: each != "r4", 10) == ["r2", "r3"]
    assert order.waiting() == ["r4", "w1"]
    order.done(READ)
    assert begun(order) == ["r4"]


def test_no_write_joins_reads() -> None:
    order = order_of("r1", "r2", "w1", "r3")
    assert order.next() == "r1"
    assert order.join(lambda each: True, 10) == ["r2"]
    assert order.waiting() == ["w1", "r3"]


def test_no_more_reads_join_than_are_asked_for() -> None:
    order = order_of("r1", "r2", "r3", "r4")
    assert order.next() == "r1"
    assert order.join(lambda each: True, 2) == ["r2", "r3"]


@pytest.mark.parametrize("following", ["w2", "r1"])
def test_nothing_begins_during_a_hold(following: str) -> None:
    order = order_of("w1", following, most=4)
    assert order.next() == "w1"
    order.hold()
    assert begun(order) == []
    assert not order.may_begin(WRITE)
    order.done(WRITE)
    assert begun(order) == []
    assert not order.may_begin(WRITE)
    order.release()
    assert begun(order) == [following]


def test_a_request_that_waits_can_be_taken_back() -> None:
    order = order_of("w1", "r1", "r2")
    assert begun(order) == ["w1"]
    assert order.remove("r1")
    assert not order.remove("r1")
    assert not order.remove("w1")  # it has begun
    order.done(WRITE)
    assert begun(order) == ["r2"]


def test_what_waits_is_given_up_together() -> None:
    order = order_of("w1", "r1", "w2")
    assert begun(order) == ["w1"]
    assert order.abandon() == ["r1", "w2"]
    assert len(order) == 0
    order.done(WRITE)
    assert begun(order) == []


@pytest.mark.parametrize("seed", range(30))
def test_reads_and_writes_exclude_each_other_whatever_happens(seed: int) -> None:
    """Any interleaving begins all requests in the order in which they were added."""
    chance = random.Random(seed)
    most = chance.randint(1, 3)
    order: Order[str] = Order(most)
    numbers = count()
    added: list[str] = []
    started: list[str] = []
    under_way: list[str] = []
    while len(started) < 200:
        if chance.random() < 0.5:
            request = f"{chance.choice('wr')}{next(numbers)}"
            order.add(request.startswith("w"), request)
            added.append(request)
        elif under_way and chance.random() < 0.6:
            done = under_way.pop(chance.randrange(len(under_way)))
            order.done(done.startswith("w"))
        elif (request := order.next() or "") != "":
            started.append(request)
            under_way.append(request)
        writes = [each for each in under_way if each.startswith("w")]
        assert len(writes) == order.writing
        assert len(under_way) - len(writes) == order.reading <= most
        assert not (writes and order.reading)
    assert started == added[: len(started)]
