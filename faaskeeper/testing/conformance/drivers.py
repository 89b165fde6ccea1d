"""The contracts of the drivers, as tests: see :mod:`faaskeeper.core.drivers.storage` and its neighbours."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import pytest

from faaskeeper.core.drivers.channel import Channel, ClientChannel
from faaskeeper.core.drivers.queue import Queue
from faaskeeper.core.drivers.storage import (
    IfAbsent,
    IfOlder,
    IfStamp,
    Item,
    Joint,
    ObjectStore,
    Table,
    Write,
    delete_all,
    delete_objects,
    every,
    in_turn,
)
from faaskeeper.core.errors import Conflict, TooLarge
from faaskeeper.testing.patience import PATIENCE_S

_ITEM: Item = {
    "stamp": 7,
    "word": "é中 \u0001 'quoted' \\",
    "number": 2**62,
    "negative": -5,
    "raw": bytes(range(256)),
    "empty": b"",
    "words": ["a", "", "é"],
    "none": [],
}


class TableSuite:
    """Tests of a :class:`~faaskeeper.core.drivers.storage.Table`; its fixture ``table`` is an empty one."""

    def test_an_item_is_read_as_it_was_put(self, table: Table) -> None:
        table.put("/p", "key", _ITEM)
        assert table.get("/p", "key") == _ITEM

    def test_an_absent_item_is_none(self, table: Table) -> None:
        table.put("/p", "key", _ITEM)
        assert table.get("/p", "other") is None
        assert table.get("/q", "key") is None

    def test_a_put_replaces_the_item_whole(self, table: Table) -> None:
        table.put("/p", "key", _ITEM)
        table.put("/p", "key", {"stamp": 1})
        assert table.get("/p", "key") == {"stamp": 1}

    def test_what_was_handed_out_is_not_what_is_stored(self, table: Table) -> None:
        item: Item = {"stamp": 1, "word": "before"}
        table.put("/p", "key", item)
        item["word"] = "after"
        found = table.get("/p", "key")
        assert found is not None
        found["word"] = "after"
        assert table.get("/p", "key") == {"stamp": 1, "word": "before"}

    def test_many_items_come_in_the_order_of_their_keys(self, table: Table) -> None:
        for number in range(120):
            table.put("/p", f"{number}", {"stamp": number})
        asked = [("/p", f"{number}") for number in (*range(119, -1, -1), 500)]
        found = table.get_many(asked)
        assert [None if item is None else item["stamp"] for item in found] == [
            *range(119, -1, -1),
            None,
        ]
        assert table.get_many([]) == []

    def test_put_if_absent_happens_once(self, table: Table) -> None:
        table.put("/p", "key", {"stamp": 1}, IfAbsent())
        with pytest.raises(Conflict):
            table.put("/p", "key", {"stamp": 2}, IfAbsent())
        assert table.get("/p", "key") == {"stamp": 1}

    def test_put_if_older_goes_over_nothing_and_over_less_only(self, table: Table) -> None:
        table.put("/p", "key", {"stamp": 5}, IfOlder(5))
        for stamp in (5, 4):
            with pytest.raises(Conflict):
                table.put("/p", "key", {"stamp": stamp}, IfOlder(stamp))
        table.put("/p", "key", {"stamp": 6}, IfOlder(6))
        assert table.get("/p", "key") == {"stamp": 6}

    def test_put_if_stamp_goes_over_that_one_only(self, table: Table) -> None:
        with pytest.raises(Conflict):
            table.put("/p", "key", {"stamp": 2}, IfStamp(1))
        assert table.get("/p", "key") is None
        table.put("/p", "key", {"stamp": 1})
        table.put("/p", "key", {"stamp": 9}, IfStamp(1))
        with pytest.raises(Conflict):
            table.put("/p", "key", {"stamp": 2}, IfStamp(1))
        assert table.get("/p", "key") == {"stamp": 9}

    def test_a_delete_leaves_nothing_and_deleting_nothing_is_no_error(self, table: Table) -> None:
        table.put("/p", "key", _ITEM)
        table.delete("/p", "key")
        assert table.get("/p", "key") is None
        table.delete("/p", "key")
        table.put("/p", "key", {"stamp": 1}, IfAbsent())

    def test_many_items_are_deleted_together_and_the_others_stay(self, table: Table) -> None:
        for number in range(620):
            table.put("/p", f"{number:03d}", {"stamp": number})
        table.put("/q", "000", {"stamp": 1})
        delete_all(table, [("/p", f"{number:03d}") for number in range(600)], in_turn)
        delete_all(table, [("/p", "000"), ("/p", "absent")], in_turn)
        delete_all(table, [], in_turn)
        assert [key for key, _ in every(table, "/p")] == [f"{number:03d}" for number in range(600, 620)]
        assert table.get("/q", "000") == {"stamp": 1}
        table.put("/p", "000", {"stamp": 1}, IfAbsent())  # no driver remembers what is gone

    def test_a_conditional_delete_takes_that_stamp_only(self, table: Table) -> None:
        with pytest.raises(Conflict):
            table.delete("/p", "key", IfStamp(1))
        table.put("/p", "key", {"stamp": 2})
        with pytest.raises(Conflict):
            table.delete("/p", "key", IfStamp(1))
        table.delete("/p", "key", IfStamp(2))
        assert table.get("/p", "key") is None

    def test_a_query_walks_one_partition_in_the_order_of_its_keys(self, table: Table) -> None:
        for number in (5, 1, 4, 2, 3):
            table.put("/p", f"{number:016d}", {"stamp": number})
        table.put("/p2", f"{9:016d}", {"stamp": 9})
        seen: list[int] = []
        after, more = "", True
        while more:
            items, more = table.query("/p", after, 2)
            assert len(items) <= 2
            for key, item in items:
                after = key
                seen.append(int(item["stamp"]))  # type: ignore[arg-type]
        assert seen == [1, 2, 3, 4, 5]
        assert [item["stamp"] for _, item in table.query("/p", f"{3:016d}", 10).items] == [4, 5]
        assert table.query("/none", "", 10) == ([], False)

    def test_partitions_and_keys_may_hold_anything_printable(self, table: Table) -> None:
        for partition in ("/", "/é中 b", "/a" * 400, "session 12"):
            for key in ("data 1", "children /a/b", "x" * 400):
                table.put(partition, key, {"stamp": len(key)})
                assert table.get(partition, key) == {"stamp": len(key)}

    def test_a_large_item_is_kept_whole(self, table: Table) -> None:
        size = min(table.max_item_bytes - 1_000, 2_000_000)
        table.put("/p", "key", {"stamp": 1, "raw": b"x" * size})
        found = table.get("/p", "key")
        assert found is not None
        assert found["raw"] == b"x" * size

    def test_of_many_that_put_if_absent_at_once_one_wins(self, table: Table) -> None:
        for turn in range(20):
            won = _race(
                8,
                lambda number, turn=turn: table.put(  # type: ignore[misc]
                    "/p", f"{turn}", {"stamp": number}, IfAbsent()
                ),
            )
            assert len(won) == 1
            assert table.get("/p", f"{turn}") == {"stamp": won[0]}

    def test_of_many_that_put_if_older_at_once_the_newest_stays(self, table: Table) -> None:
        for turn in range(20):
            _race(
                8,
                lambda number, turn=turn: table.put(  # type: ignore[misc]
                    "/p", f"{turn}", {"stamp": number}, IfOlder(number)
                ),
            )
            assert table.get("/p", f"{turn}") == {"stamp": 7}

    def test_a_version_counted_up_by_many_at_once_loses_no_step(self, table: Table) -> None:
        table.put("/p", "key", {"stamp": 0})

        def step(number: int) -> None:
            while True:
                found = table.get("/p", "key")
                assert found is not None
                stamp = int(found["stamp"])  # type: ignore[arg-type]
                try:
                    table.put("/p", "key", {"stamp": stamp + 1}, IfStamp(stamp))
                except Conflict:
                    continue
                return

        _race(32, step)
        assert table.get("/p", "key") == {"stamp": 32}


class JointSuite:
    """Tests of a :data:`~faaskeeper.core.drivers.storage.Joint`.

    Give it fixtures ``joint``, of two empty tables "log" and "records", and ``tables``, these by
    their names.
    """

    def test_all_puts_are_made(self, joint: Joint, tables: Mapping[str, Table]) -> None:
        joint([_append(1), _record("/a", 1), _record("/b", 1)])
        joint([_append(2), _record("/a", 2)])
        assert tables["log"].get("log", "2") == {"stamp": 2}
        assert tables["records"].get("/a", "node") == {"stamp": 2}
        assert tables["records"].get("/b", "node") == {"stamp": 1}

    def test_none_is_made_where_one_condition_does_not_hold(
        self, joint: Joint, tables: Mapping[str, Table]
    ) -> None:
        tables["log"].put("log", "1", {"stamp": 7})
        tables["records"].put("/new", "node", {"stamp": 9})
        with pytest.raises(Conflict):
            joint([_append(1), _record("/a", 1)])
        for _ in range(2):
            with pytest.raises(Conflict):
                joint([_append(2), _record("/b", 2), _record("/new", 2)])
        assert tables["log"].get("log", "1") == {"stamp": 7}
        assert tables["log"].get("log", "2") is None
        assert tables["records"].get_many([("/a", "node"), ("/b", "node")]) == [None, None]
        assert tables["records"].get("/new", "node") == {"stamp": 9}
        joint([_append(2), _record("/b", 2)])

    def test_of_many_that_append_at_once_one_wins_with_all_its_records(
        self, joint: Joint, tables: Mapping[str, Table]
    ) -> None:
        for turn in range(1, 11):
            won = _race(
                8,
                lambda number, turn=turn: joint(  # type: ignore[misc]
                    [_append(turn), _record("/a", turn), _record(f"/{turn}/{number}", turn)]
                ),
            )
            assert len(won) == 1
            assert tables["records"].get("/a", "node") == {"stamp": turn}
            found = tables["records"].get_many([(f"/{turn}/{number}", "node") for number in range(8)])
            assert [number for number, item in enumerate(found) if item is not None] == won


def _append(number: int) -> Write:
    return Write("log", "log", f"{number}", {"stamp": number}, IfAbsent())


def _record(path: str, txid: int) -> Write:
    return Write("records", path, "node", {"stamp": txid}, IfOlder(txid))


class ObjectStoreSuite:
    """Tests of an :class:`~faaskeeper.core.drivers.storage.ObjectStore`; its fixture ``store`` is empty."""

    def test_an_object_is_read_as_it_was_put(self, store: ObjectStore) -> None:
        for body in (b"", bytes(range(256)), b"x" * 1_100_000):
            tag = store.put("b/1/n/a", body)
            found = store.get("b/1/n/a")
            assert found == (body, tag)

    def test_an_absent_object_is_none(self, store: ObjectStore) -> None:
        assert store.get("b/none") is None

    def test_put_if_absent_happens_once(self, store: ObjectStore) -> None:
        store.put("key", b"1", absent=True)
        with pytest.raises(Conflict):
            store.put("key", b"2", absent=True)
        found = store.get("key")
        assert found is not None
        assert found.body == b"1"

    def test_put_if_match_goes_over_that_object_only(self, store: ObjectStore) -> None:
        with pytest.raises(Conflict):
            store.put("key", b"0", match="none")
        one = store.put("key", b"1")
        two = store.put("key", b"2", match=one)
        with pytest.raises(Conflict):
            store.put("key", b"3", match=one)
        assert store.get("key") == (b"2", two)

    def test_a_delete_leaves_nothing_and_deleting_nothing_is_no_error(self, store: ObjectStore) -> None:
        store.put("a/b", b"1")
        store.put("a/bc", b"2")
        store.delete("a/b")
        store.delete("a/b")
        assert store.get("a/b") is None
        assert store.list("a/", "", 10) == ["a/bc"]
        store.put("a/b", b"3", absent=True)

    def test_many_objects_are_deleted_together_and_the_others_stay(self, store: ObjectStore) -> None:
        names = [f"a/{number:03d} é" for number in range(120)]
        for name in [*names, "b", "a/other"]:
            store.put(name, b"1")
        delete_objects(store, names, in_turn)
        delete_objects(store, [names[0], "absent"], in_turn)
        delete_objects(store, [], in_turn)
        assert store.list("", "", 10) == ["a/other", "b"]

    def test_a_conditional_delete_takes_that_object_only(self, store: ObjectStore) -> None:
        for tag in ("none", "1"):
            with pytest.raises(Conflict):
                store.delete("key", match=tag)
        one = store.put("key", b"1")
        two = store.put("key", b"2")
        for tag in (one, "none"):
            with pytest.raises(Conflict):
                store.delete("key", match=tag)
        assert store.get("key") == (b"2", two)
        store.delete("key", match=two)
        assert store.get("key") is None
        with pytest.raises(Conflict):
            store.delete("key", match=two)
        store.put("key", b"3", absent=True)
        with pytest.raises(Conflict):
            store.delete("key", match=two)
        assert store.get("key") is not None

    def test_a_list_walks_the_keys_of_a_prefix_in_order(self, store: ObjectStore) -> None:
        for key in ("b/3", "b/1", "a/1", "b/2", "b/10"):
            store.put(key, b"")
        assert store.list("b/", "", 2) == ["b/1", "b/10"]
        store.delete("b/2")
        store.put("b/25", b"")
        assert store.list("b/", "b/10", 1) == ["b/25"]
        store.put("b/2", b"")
        assert store.list("b/", "b/10", 10) == ["b/2", "b/25", "b/3"]
        assert store.list("c/", "", 10) == []

    def test_keys_are_kept_apart_to_the_letter(self, store: ObjectStore) -> None:
        keys = ["r/", "r/a", "r/a/b", "r/A", "r/a b", "r/é中", "r/" + "x" * 960, "r/%o", "r/a%2Fb"]
        for key in keys:
            store.put(key, key.encode())
        for key in keys:
            found = store.get(key)
            assert found is not None
            assert found.body == key.encode()
        assert store.list("r/", "", 100) == sorted(keys)

    def test_of_many_that_put_if_absent_at_once_one_wins(self, store: ObjectStore) -> None:
        for turn in range(10):
            won = _race(8, lambda number, turn=turn: store.put(f"{turn}", b"%d" % number, absent=True))  # type: ignore[misc]
            assert len(won) == 1
            found = store.get(f"{turn}")
            assert found is not None
            assert found.body == b"%d" % won[0]


class ChannelSuite:
    """Tests of a channel; give it fixtures ``channel`` (service side) and ``client_channel``."""

    def test_messages_arrive_whole_and_in_order(
        self, channel: Channel, client_channel: ClientChannel
    ) -> None:
        received = _Received(202)
        listener = client_channel.listen(received)
        sent = [b"", b"x" * 1_000_000, *(b"%d" % number for number in range(200))]
        for message in sent:
            assert channel.deliver(listener.address, message)
        assert received.wait() == sent
        listener.close()

    def test_each_client_receives_its_own_messages(
        self, channel: Channel, client_channel: ClientChannel
    ) -> None:
        handlers = [_Received(20) for _ in range(3)]
        listeners = [client_channel.listen(handler) for handler in handlers]
        assert len({listener.address for listener in listeners}) == 3
        for number in range(20):
            for which, listener in enumerate(listeners):
                assert channel.deliver(listener.address, b"%d of %d" % (number, which))
        for which, handler in enumerate(handlers):
            assert handler.wait() == [b"%d of %d" % (number, which) for number in range(20)]
        for listener in listeners:
            listener.close()

    def test_an_address_where_nobody_listens_is_no_error(
        self, channel: Channel, client_channel: ClientChannel
    ) -> None:
        listener = client_channel.listen(lambda message: None)
        address = listener.address
        listener.close()
        for _ in range(3):  # a first message may still go into a connection that is being closed
            channel.deliver(address, b"?")
        assert channel.deliver("nobody at all", b"?") is False

    def test_one_client_s_failure_does_not_keep_another_from_its_message(
        self, channel: Channel, client_channel: ClientChannel
    ) -> None:
        def fail(message: bytes) -> None:
            raise ValueError("a client's own mistake")

        received = _Received(1)
        failing, fine = client_channel.listen(fail), client_channel.listen(received)
        channel.deliver(failing.address, b"1")
        assert channel.deliver(fine.address, b"2")
        assert received.wait() == [b"2"]
        failing.close()
        fine.close()


class _Received:
    """A handler that collects messages until it has enough."""

    def __init__(self, expected: int) -> None:
        self._expected = expected
        self._messages: list[bytes] = []
        self._enough = threading.Event()

    def __call__(self, message: bytes) -> None:
        self._messages.append(message)
        if len(self._messages) >= self._expected:
            self._enough.set()

    def wait(self) -> list[bytes]:
        assert self._enough.wait(PATIENCE_S), f"{len(self._messages)} of {self._expected} messages came"
        return self._messages


def _race(many: int, act: Callable[[int], object]) -> list[int]:
    """Run many threads at once; returns the numbers of those that met no Conflict."""
    together = threading.Barrier(many)

    def one(number: int) -> bool:
        together.wait()
        try:
            act(number)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(many) as pool:
        won = list(pool.map(one, range(many)))
    return [number for number, each in enumerate(won) if each]


class QueueHarness(Protocol):
    """A queue under test, and the messages that its function received."""

    queue: Queue

    def receive(self, number: int) -> list[bytes]:
        """Wait until the function received so many messages in all; returns them in their order."""


class QueueSuite:
    """Tests of a :class:`~faaskeeper.core.drivers.queue.Queue`; give it a fixture ``harness``: of an empty
    one.

    Messages may come twice; nothing may get lost.
    """

    def test_what_is_sent_is_handed_over_whole(self, harness: QueueHarness) -> None:
        bodies = [b"", bytes(range(256)), "é中".encode(), b"x" * 60_000]
        for number, body in enumerate(bodies):
            harness.queue.send("writer", f"whole {number}", body)
        assert set(harness.receive(len(bodies))) == set(bodies)

    def test_an_ordered_queue_keeps_the_order_of_a_group(self, harness: QueueHarness) -> None:
        bodies = [b"%d" % number for number in range(50)]
        for body in bodies:
            harness.queue.send("writer", body.decode(), body)
        came = harness.receive(len(bodies))
        if harness.queue.ordered:
            assert list(dict.fromkeys(came)) == bodies
        assert set(came) == set(bodies)

    def test_the_same_body_may_be_sent_again(self, harness: QueueHarness) -> None:
        for number in range(3):
            harness.queue.send("writer", f"again {number}", b"same")
        assert harness.receive(3) == [b"same"] * 3

    def test_many_may_send_at_once(self, harness: QueueHarness) -> None:
        def send(number: int) -> None:
            harness.queue.send("writer", f"many {number}", b"%d" % number)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(send, range(100)))
        assert set(harness.receive(100)) == {b"%d" % number for number in range(100)}

    def test_the_largest_message_fits_and_a_larger_one_is_refused(self, harness: QueueHarness) -> None:
        most = harness.queue.max_message_bytes
        body = b"x" * min(most, 10_000_000)
        harness.queue.send("writer", "largest", body)
        assert harness.receive(1) == [body]
        if most <= 10_000_000:
            with pytest.raises(TooLarge):
                harness.queue.send("writer", "too large", b"x" * (most + 1))
