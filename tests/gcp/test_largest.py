"""The largest entries and commits, on Google's emulator of Firestore in Datastore mode.

Its other emulator, on which all else is tested, is of Cloud Datastore: a transaction there has 25
entity groups at most. This one writes on condition of a version in transactions only, so the suite
of tables is not for it. Either refuses requests of more than 4 MiB, where the service takes 10.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from faaskeeper.core import log
from faaskeeper.core.changes import Change, Transaction
from faaskeeper.core.drivers.storage import JOINT_BYTES, JOINT_WRITES, IfAbsent, IfOlder, Joint, Table, Write
from faaskeeper.core.errors import Code
from faaskeeper.core.log import Entry, Log
from faaskeeper.core.requests import Create, Operation, SetData, inline
from faaskeeper.core.transactions import Limits
from faaskeeper.core.view import load
from faaskeeper.core.wide import size_of
from faaskeeper.core.znode import Meta
from faaskeeper.providers.gcp.clients import Gcp
from faaskeeper.providers.gcp.service import ENTRY_BYTES, ENTRY_PATHS, INLINE_BYTES
from faaskeeper.providers.gcp.tables import MAX_ITEM_BYTES, DatastoreTable, joint_of
from faaskeeper.testing.conformance.drivers import JointSuite
from tests.bare import Bare
from tests.gcp import backends

KB = 1024
pytestmark = pytest.mark.clouds


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    with backends.firestore() as made:
        yield made


@pytest.fixture
def firestore(host: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gcp]:
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", host)
    with backends.gcp() as made:
        yield made


class TestJoint(JointSuite):
    @pytest.fixture
    def tables(self, firestore: Gcp) -> dict[str, DatastoreTable]:
        return {short: DatastoreTable(firestore, "fk", short) for short in ("log", "records")}

    @pytest.fixture
    def joint(self, firestore: Gcp, tables: dict[str, DatastoreTable]) -> Joint:
        return joint_of(firestore, "fk", tables.__getitem__)


class Deployed:
    """A deployment in Datastore, without threads; counts the calls to its log and records."""

    def __init__(self, gcp: Gcp) -> None:
        tables: dict[str, DatastoreTable] = {}

        def table(name: str) -> Table:
            return tables.setdefault(name, DatastoreTable(gcp, "fk", name))

        self.calls: list[str] = []
        gcp.observe(lambda name, took, failed: self.calls.append(name))
        self.bare = Bare(
            table=table, limits=Limits(INLINE_BYTES, 128, 1_000, False, ENTRY_BYTES, ENTRY_PATHS)
        )
        self.bare.deployment.joint = joint_of(gcp, "fk", tables.__getitem__)
        self.bare.deployment.gather = gcp.gather
        self.bare.recycle()
        self.session = self.bare.session()

    def together(self, *operations: Operation) -> list[str]:
        """Have requests decided in one call of the writer; its calls to log and records."""
        futures = [self.session.ask(each) for each in operations]
        self.calls.clear()
        self.bare.pump()
        calls = [name for name in self.calls if name.startswith(("joint.", "log.", "records."))]
        self.session.receive()
        assert {future.get(0).code for future in futures} == {Code.OK}
        return calls

    def last(self) -> Entry:
        entries, position, more = [], 0, True
        while more:
            entries, more = self.bare.deployment.log.after(position)
            position = entries[-1].last
        return entries[-1]


def test_an_entry_as_large_as_batches_become_is_one_entity_and_one_commit_with_its_records(
    firestore: Gcp,
) -> None:
    deployed = Deployed(firestore)
    deployed.together(*[Create(f"/n{number}", inline(b"")) for number in range(ENTRY_PATHS)])
    turns = itertools.cycle(range(ENTRY_PATHS))
    kilobytes = [SetData(f"/n{next(turns)}", inline(b"x" * KB)) for _ in range(640)]
    assert deployed.together(*kilobytes) == ["joint.put"]
    entry = deployed.last()
    assert len(entry.transactions) == 640
    # as full as it gets: one more request of the largest size is decided when it is not yet closed
    sizes = [INLINE_BYTES] * (ENTRY_BYTES // (INLINE_BYTES + 500))
    sizes.append(ENTRY_BYTES - sum(sizes) - 500 * (len(sizes) + 1))
    full = [SetData(f"/n{next(turns)}", inline(b"y" * size)) for size in (*sizes, INLINE_BYTES)]
    assert deployed.together(*full) == ["joint.put"]
    entry = deployed.last()
    assert len(entry.transactions) == len(full)
    size = size_of(log.PARTITION, log.key(entry.first), log.encode(entry))
    assert ENTRY_BYTES + 0.9 * INLINE_BYTES < size < MAX_ITEM_BYTES


@pytest.mark.parametrize(("data", "transactions"), [(0, 10_000), (900 * KB, 2_000)])
def test_what_counts_as_fitting_an_entity_does_whatever_it_is_made_of(
    firestore: Gcp, data: int, transactions: int
) -> None:
    table = DatastoreTable(firestore, "fk", "log")
    written = Log(table)

    def entry(path: str) -> Entry:
        meta = Meta(1, 1, 1, 1, 1)
        changes = (Change("/n", "S", meta, b"x" * data), Change(path, "S", meta, b""))
        rest = [Transaction(txid, ()) for txid in range(2, transactions + 1)]
        return Entry(1, transactions, 1, (Transaction(1, changes), *rest), ())

    room = MAX_ITEM_BYTES - size_of(log.PARTITION, log.key(1), log.encode(entry("")))
    assert room > 0
    fits, larger = entry("/" * room), entry("/" * (room + 1))
    written.append(fits, 0)
    assert written.at(1) == fits
    assert table.get(log.PARTITION, log.key(1)) is not None
    assert "parts" not in table.get(log.PARTITION, log.key(1))  # type: ignore[operator]
    assert written.write_of(larger, 0) is None


def test_a_commit_takes_as_many_records_and_bytes_as_it_may_have(firestore: Gcp) -> None:
    tables = {short: DatastoreTable(firestore, "fk", short) for short in ("log", "records")}
    joint = joint_of(firestore, "fk", tables.__getitem__)
    number = JOINT_WRITES - 1
    each = JOINT_BYTES // number - 200

    def writes(txid: int) -> list[Write]:
        entry = Write(
            "log", "log", f"{txid}", {"stamp": txid, "data": b"x" * (MAX_ITEM_BYTES - 300)}, IfAbsent()
        )
        return [
            entry,
            *(
                Write("records", f"/n{at}", "node", {"stamp": txid, "data": b"y" * each}, IfOlder(txid))
                for at in range(number)
            ),
        ]

    size = sum(size_of(one.partition, one.key, one.item) for one in writes(1)[1:])
    assert 0.97 * JOINT_BYTES < size <= JOINT_BYTES
    joint(writes(1))
    joint(writes(2))
    found = tables["records"].get_many([(f"/n{at}", "node") for at in range(number)])
    assert all(item is not None and item["stamp"] == 2 for item in found)


def test_records_that_a_driver_does_not_know_are_looked_up_at_once_and_put_with_the_entry(
    firestore: Gcp,
) -> None:
    deployed = Deployed(firestore)
    deployed.together(*[Create(f"/n{number}", inline(b"")) for number in range(200)])
    sets = [SetData(f"/n{number}", inline(b"1")) for number in range(200)]
    records = deployed.bare.tables["records"]
    assert isinstance(records, DatastoreTable)
    for number in range(200):  # as after a call of unknown fate
        records.forget(Write("records", f"/n{number}", "node", {}, None))
    assert deployed.together(*sets) == ["joint.put", "records.look", "log.get", "joint.put"]
    assert deployed.together(*sets) == ["joint.put"]


def test_a_long_log_of_large_entries_is_read_in_answers_of_bounded_size(firestore: Gcp) -> None:
    deployed = Deployed(firestore)
    deployed.session.do(Create("/n", inline(b"")))
    sets = [SetData("/n", inline(b"x" * INLINE_BYTES)) for _ in range(14)]
    for _ in range(30):
        assert deployed.together(*sets) == ["joint.put"]
    deployed.calls.clear()
    entries, more = deployed.bare.deployment.log.after(0)
    assert more
    assert len(entries) == 25
    deployment = deployed.bare.deployment
    view = load(deployment.log, deployment.checkpoints, deployment.clock)
    assert view.head == deployed.last().last
    assert deployed.session.read("/n") is not None


def test_what_an_older_datastore_refuses_as_too_many_is_put_after_its_entry(gcp: Gcp) -> None:
    deployed = Deployed(gcp)
    creations = [Create(f"/n{number}", inline(b"")) for number in range(60)]
    calls = deployed.together(*creations)
    puts = [name for name in calls if name.endswith(".put")]
    assert puts[:2] == ["joint.put", "log.put"]
    assert puts[2:] == ["records.put"] * len(puts[2:])
    assert deployed.together(*[SetData(f"/n{number}", inline(b"1")) for number in range(20)]) == ["joint.put"]
