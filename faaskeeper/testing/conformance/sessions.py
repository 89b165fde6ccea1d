"""Sessions of a deployment: order, exactly once, ephemerals, expiry, resuming."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from faaskeeper.exceptions import (
    BadVersionError,
    SessionExpiredException,
)
from faaskeeper.node import Node
from faaskeeper.testing.conformance.blocking import Client
from faaskeeper.testing.conformance.harness import (
    TIMEOUT_S,
    Harness,
    Suite,
    expire,
    session_of,
)
from faaskeeper.testing.patience import PATIENCE_S


class SessionSuite(Suite):
    """Sessions: order, exactly once, ephemerals, expiry, resuming."""

    def test_a_session_s_writes_happen_in_its_order_and_its_reads_after_them(
        self, start: Callable[..., Client], root: str
    ) -> None:
        client = start()
        futures = [client.set_data_async(root, b"%d" % number) for number in range(100)]
        assert client.get_data(root).data == b"99"
        assert [future.get(PATIENCE_S).stat.version for future in futures] == list(range(1, 101))

    def test_concurrent_changes_each_count_once(self, start: Callable[..., Client], root: str) -> None:
        clients = [start() for _ in range(4)]
        clients[0].set_data(root, b"0")

        def count(client: Client) -> None:
            for _ in range(10):
                while True:
                    node = client.get_data(root)
                    try:
                        client.set_data(root, b"%d" % (int(node.data) + 1), node.stat.version)
                    except BadVersionError:
                        continue
                    break

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(count, clients))
        clients[0].sync()
        assert clients[0].get_data(root).data == b"40"

    def test_transactions_are_seen_whole(self, start: Callable[..., Client], root: str) -> None:
        writer, reader = start(), start()
        with writer.transaction() as transaction:
            for name in "abc":
                transaction.create(f"{root}/{name}", b"0")
        stop = threading.Event()

        def write() -> None:
            for number in itertools.count(1):
                if stop.is_set():
                    return
                with writer.transaction() as transaction:
                    for name in "abc":
                        transaction.set_data(f"{root}/{name}", b"%d" % number)

        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(write)
            try:
                shown: set[bytes] = set()
                while len(shown) < 5:
                    with reader.multi_read() as reads:
                        for name in "abc":
                            reads.get_data(f"{root}/{name}")
                    values = {each.data for each in reads.results if isinstance(each, Node)}
                    assert len(values) == 1
                    shown |= values
            finally:
                stop.set()
            writing.result(PATIENCE_S)

    def test_data_of_any_size_up_to_the_limit_comes_back(
        self, start: Callable[..., Client], root: str
    ) -> None:
        client, other = start(), start()
        for size in (0, 1, 4_096, 65_537, 300_000, 1024 * 1024):
            value = bytes(number % 251 for number in range(size))
            client.set_data(root, value)
            other.sync()
            assert other.get_data(root).data == value

    def test_many_children_are_listed_as_they_come_and_go(
        self, start: Callable[..., Client], root: str
    ) -> None:
        client, other = start(), start()
        names = [f"n{number:04d}" for number in range(400)]
        for future in [client.create_async(f"{root}/{name}") for name in names]:
            future.get(PATIENCE_S)
        other.sync()
        assert other.get_children_with_stat(root)[0] == names
        for deleted in [client.delete_async(f"{root}/{name}") for name in names[:390]]:
            deleted.get(PATIENCE_S)
        other.sync()
        assert other.get_children_with_stat(root)[0] == names[390:]

    def test_ephemerals_go_with_their_session(self, start: Callable[..., Client], root: str) -> None:
        client, other = start(), start()
        client.create(f"{root}/e", ephemeral=True)
        gone = threading.Event()
        other.sync()
        assert other.exists(f"{root}/e", lambda event: gone.set()) is not None
        client.stop()
        assert gone.wait(PATIENCE_S)
        assert other.exists(f"{root}/e") is None

    def test_the_session_of_a_client_that_died_ends_and_no_other(
        self, harness: Harness, start: Callable[..., Client], root: str
    ) -> None:
        dead, alive = start(session_timeout=TIMEOUT_S), start()
        dead.create(f"{root}/dead", ephemeral=True)
        alive.create(f"{root}/alive", ephemeral=True)
        expire(harness, dead, [alive])
        alive.sync()
        assert [node.path for node in alive.get_children(root)] == [f"{root}/alive"]

    def test_a_session_that_has_ended_is_refused(
        self, harness: Harness, start: Callable[..., Client], root: str
    ) -> None:
        client, other = start(session_timeout=TIMEOUT_S, heartbeat=False), start()
        session = session_of(client)
        with harness.client() as witness:
            path = witness.create("/witness-", ephemeral=True, sequential=True).path
            harness.pass_time(TIMEOUT_S + 1)
            for alive in (other, witness):
                session_of(alive).renew()
            deadline = time.monotonic() + PATIENCE_S
            connection = session_of(witness).connection
            while connection.leases.get(session.id) is not None:
                assert time.monotonic() < deadline
                harness.beat()
                witness.set_data(path)
        with pytest.raises(SessionExpiredException):
            client.set_data(root, b"from beyond")
        other.sync()
        assert other.get_data(root).data == b""

    def test_another_process_goes_on_with_a_session_and_the_first_is_refused(
        self, start: Callable[..., Client], harness: Harness, root: str
    ) -> None:
        first = start()
        first.create(f"{root}/e", b"kept", ephemeral=True)
        second = harness.client()
        try:
            assert second.start(resume=first.ticket) == first.session_id
            assert second.get_data(f"{root}/e").data == b"kept"
            assert second.get_ephemerals(root) == [f"{root}/e"]
            with pytest.raises(SessionExpiredException):
                first.set_data(f"{root}/e", b"not mine any more")
            second.set_data(f"{root}/e", b"mine")
        finally:
            second.stop()
