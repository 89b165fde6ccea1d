"""What operations cost: the calls on the drivers, counted, against the budget of the design."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from faaskeeper.core.requests import Close, Create, Delete, SetData, inline
from faaskeeper.core.znode import CONTAINER
from faaskeeper.providers.memory import MemoryTable
from tests.bare import Bare, BareSession


class Counting:
    """A table that counts the calls made on it."""

    def __init__(self, name: str, calls: Counter[str], table: MemoryTable | None = None) -> None:
        self._table = table or MemoryTable()
        self._name = name
        self._calls = calls
        self.max_item_bytes = self._table.max_item_bytes

    def __getattr__(self, method: str) -> Any:
        call = getattr(self._table, method)

        def counted(*args: Any, **options: Any) -> Any:
            self._calls[f"{self._name}.{method}"] += 1
            return call(*args, **options)

        return counted


class Told:
    """Notes the calls that were made before a client was answered."""

    def __init__(self, bare: Bare, calls: Counter[str]) -> None:
        self.before: Counter[str] = Counter()
        deliver = bare.mail.deliver

        def noting(address: str, message: bytes) -> bool:
            self.before = Counter(calls)
            return deliver(address, message)

        bare.mail.deliver = noting  # type: ignore[method-assign]


def warm(own_distributor: bool = False, znodes: int = 10) -> tuple[Bare, BareSession, Counter[str]]:
    """A deployment with a tree, whose functions have seen what the test will touch."""
    calls: Counter[str] = Counter()
    bare = Bare(table=lambda name: Counting(name, calls), own_distributor=own_distributor)
    session = bare.session()
    for number in range(znodes):
        session.ask(Create(f"/n{number}", inline(b"x" * 1024)))
    bare.pump()
    session.receive()
    session.do(Create("/p", inline(b"")))
    session.do(Create("/p/c", inline(b"")))
    bare.writer.idle()
    calls.clear()
    return bare, session, calls


def measure(bare: Bare, session: BareSession, calls: Counter[str], operation: Any) -> tuple[Any, Any]:
    """Calls before the answer, and all calls, of one operation."""
    told = Told(bare, calls)
    calls.clear()
    session.do(operation)
    return dict(told.before), dict(calls)


SET = SetData("/n3", inline(b"y" * 1024))


@pytest.mark.parametrize("znodes", [10, 5_000])
def test_a_set_is_one_append_and_one_record_before_the_answer_whatever_the_tree(znodes: int) -> None:
    before, total = measure(*warm(znodes=znodes), SET)
    assert before == {"log.put": 1, "records.put": 1}
    assert total == {"log.put": 1, "records.put": 1, "watch.query": 2}


def test_a_create_also_writes_the_parent() -> None:
    before, total = measure(*warm(), Create("/p/d", inline(b"")))
    assert before == {"log.put": 1, "records.put": 2}
    assert total == {"log.put": 1, "records.put": 2, "watch.query": 3}


def test_a_writer_that_does_not_distribute_looks_once_whether_a_name_it_never_saw_is_taken() -> None:
    before, _ = measure(*warm(own_distributor=True), Create("/p/d", inline(b"")))
    assert before == {"records.get_many": 1, "log.put": 1, "records.put": 2}


def test_the_first_child_of_a_znode_is_created_without_looking() -> None:
    before, total = measure(*warm(), Create("/n3/first", inline(b"")))
    assert before == {"log.put": 1, "records.get_many": 1, "records.put": 2}  # the parent's data is read
    assert total == {**before, "watch.query": 3}


def test_a_delete_also_writes_the_parent() -> None:
    before, total = measure(*warm(), Delete("/p/c"))
    assert before == {"log.put": 1, "records.put": 2}
    assert total == {"log.put": 1, "records.put": 2, "watch.query": 3}


def test_an_error_is_one_append() -> None:
    before, total = measure(*warm(), Delete("/p/none", 7))
    assert before == {"log.put": 1}
    assert total == {"log.put": 1}


def test_with_a_distributor_of_its_own_the_calls_are_the_same() -> None:
    before, total = measure(*warm(own_distributor=True), SET)
    assert before == {"log.put": 1, "records.put": 1}
    assert total == {"log.put": 1, "records.put": 1, "watch.query": 2}


def test_a_batch_of_sets_of_one_znode_is_one_append_and_one_record() -> None:
    bare, session, calls = warm()
    for number in range(100):
        session.ask(SetData("/n3", inline(b"%d" % number)))
    bare.pump()
    session.receive()
    assert calls == {"log.put": 1, "records.put": 1, "watch.query": 2}


def test_opening_and_closing_a_session_cost_an_append_a_lease_and_its_removal() -> None:
    bare, _, calls = warm()
    session = bare.session("another")
    assert calls == {"log.put": 1, "lease.put": 1}
    calls.clear()
    session.do(Close())
    assert calls == {"log.put": 1, "watch.query": 1, "lease.delete": 1}


@pytest.mark.parametrize("path", ["/n3", "/none", "/none/below"])
def test_a_read_is_one_get_whether_the_znode_is_there_or_not(path: str) -> None:
    _, session, calls = warm()
    session.read(path)
    assert calls == {"records.get": 1}


def test_a_watch_is_a_read_a_row_and_a_read_and_the_first_of_its_kind_an_index_row() -> None:
    _, session, calls = warm()
    session.watch("/n3", "data")
    assert calls == {"records.get": 2, "watch.put": 2}


def test_a_notification_costs_a_delete_of_the_row_for_each_watcher() -> None:
    bare, session, calls = warm()
    other = bare.session("other")
    other.watch("/n3", "data")
    _, total = measure(bare, session, calls, SET)
    assert total == {"log.put": 1, "records.put": 1, "watch.query": 2, "watch.delete": 1}
    other.receive()
    assert len(other.fired) == 1


def test_watchers_and_sessions_elsewhere_cost_nothing() -> None:
    bare, session, calls = warm()
    for number in range(200):
        bare.session(f"s{number}").watch("/n4", "data")
    _, total = measure(bare, session, calls, SET)
    assert total == {"log.put": 1, "records.put": 1, "watch.query": 2}


def test_recursive_watches_elsewhere_cost_a_query_for_each_path_above() -> None:
    bare, session, calls = warm()
    other = bare.session("other")
    other.drive(other.rules.add_watch("/n4", "recursive", other.fired.append))
    _, total = measure(bare, session, calls, SET)
    assert total == {"log.put": 1, "records.put": 1, "watch.query": 3}


def test_a_watch_that_stays_is_a_read_and_a_row_and_its_notification_costs_no_more() -> None:
    bare, session, calls = warm()
    other = bare.session("other")
    calls.clear()
    other.drive(other.rules.add_watch("/n3", "persistent", other.fired.append))
    assert calls == {"records.get": 1, "watch.put": 2}
    _, total = measure(bare, session, calls, SET)
    assert total == {"log.put": 1, "records.put": 1, "watch.query": 2}
    other.receive()
    assert len(other.fired) == 1


def test_heartbeat_reads_nothing_of_the_tree_while_nothing_is_due() -> None:
    bare, session, calls = warm(znodes=300)
    session.do(Create("/box", inline(b""), ttl=CONTAINER))
    session.do(Create("/later", inline(b""), ttl=100_000))
    calls.clear()
    assert bare.heartbeat.reap() == []
    assert calls == {"lease.query": 1}


def test_a_container_costs_one_row_when_it_loses_its_last_child_and_a_time_to_live_one_at_its_creation() -> (
    None
):
    bare, session, calls = warm()
    before, _ = measure(bare, session, calls, Create("/p/box", inline(b""), ttl=CONTAINER))
    assert before == {"log.put": 1, "records.put": 2}
    session.do(Create("/p/box/a", inline(b"")))
    before, _ = measure(bare, session, calls, Create("/p/box/b", inline(b"")))
    assert before == {"log.put": 1, "records.put": 2}
    before, _ = measure(bare, session, calls, Delete("/p/box/b"))
    assert before == {"log.put": 1, "records.put": 2}
    before, _ = measure(bare, session, calls, Delete("/p/box/a"))
    assert before == {"log.put": 1, "records.put": 2, "lease.put": 1}
    before, _ = measure(bare, session, calls, Create("/p/t", inline(b""), ttl=5))
    assert before == {"log.put": 1, "records.put": 2, "lease.put": 1}
    before, _ = measure(bare, session, calls, SetData("/p/t", inline(b"")))
    assert before == {"log.put": 1, "records.put": 1}


def test_an_acl_costs_nothing() -> None:
    bare, session, calls = warm()
    session.auth = (("digest", "user:secret"),)
    session.do(Create("/p/own", inline(b""), acl=((31, "auth", ""),)))
    before, _ = measure(bare, session, calls, SetData("/p/own", inline(b"mine")))
    assert before == {"log.put": 1, "records.put": 1}


def test_a_lease_is_renewed_with_one_call_and_the_beat_looks_with_one_a_page() -> None:
    bare, session, calls = warm()
    bare.deployment.leases.renew(session.id, 1, bare.clock() + 10_000)
    bare.heartbeat.expire()
    assert calls == {"lease.put": 1, "lease.query": 1}
