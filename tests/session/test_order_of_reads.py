"""A read of several steps, beside a write that its client learns of: the answer is not from before."""

from __future__ import annotations

from typing import Any

import pytest

from faaskeeper.core.acl import READ
from faaskeeper.core.children import PAGE_META, page_path
from faaskeeper.core.errors import Code
from faaskeeper.core.records import Record
from faaskeeper.core.requests import Epoch
from faaskeeper.core.znode import Meta
from faaskeeper.session.commands import PutWatch, ReadBlob, ReadRecord, ReadRecords, Steps
from faaskeeper.session.reads import Lost, Reads, Refused
from faaskeeper.session.rules import Rules
from faaskeeper.watch import WatchedEvent


class Store:
    """User storage, and a session that reads it; ``between``: called before each answer."""

    def __init__(self) -> None:
        self.events: list[WatchedEvent] = []
        self.rules = Rules(14, lambda callback, event: self.events.append(event))
        self.reads = Reads(self.rules, ())
        self.records: dict[str, Record] = {}
        self.blobs: dict[str, bytes] = {}
        self.commands: list[Any] = []
        self.writes: dict[type, list[tuple[int, bytes]]] = {}
        self.closing: type | None = None
        """After a command of this type nobody may read the znode any more."""

    def put(self, txid: int, data: bytes, *, blob: bool = True) -> None:
        meta = Meta(1, txid, 0, 0, 0)._replace(length=len(data), blob=f"b/{txid}" if blob else "")
        self.records["/a"] = Record(txid, meta, b"" if blob else data, [], txid - 1, txid, "[]")
        self.blobs[f"b/{txid}"] = data

    def close(self) -> None:
        """Another ACL, by transaction 15, which changes neither mzxid nor pzxid."""
        record = self.records["/a"]
        assert record.meta is not None
        meta = record.meta._replace(acl=((READ, "digest", "other:x"),), aversion=1)
        self.records["/a"] = record._replace(txid=15, meta=meta, upto=15)

    def learned(self, txid: int) -> None:
        """The session meets the transaction, by an answer or a notification."""
        epoch = Epoch(txid - 1, txid, ((txid, (("/a", "S"),)),))
        assert list(self.rules.meet(epoch, settled=True)) == []

    def perform(self, steps: Steps) -> Any:
        answer: Any = None
        while True:
            try:
                command = steps.send(answer)
            except StopIteration as done:
                return done.value
            self.commands.append(type(command))
            answer = self._answer(command)
            if self.closing is type(command):
                self.close()
            for txid, data in self.writes.get(type(command), [])[:1]:
                del self.writes[type(command)][0]
                self.put(txid, data)
                self.learned(txid)

    def _answer(self, command: Any) -> Any:
        if isinstance(command, ReadRecord):
            return self.records.get(command.path)
        if isinstance(command, ReadRecords):
            return [self.records.get(path) for path in command.paths]
        if isinstance(command, ReadBlob):
            return self.blobs.get(command.name)
        assert isinstance(command, PutWatch), command
        return None


@pytest.fixture
def store() -> Store:
    made = Store()
    made.put(14, b"old")
    return made


def test_data_is_read_again_where_its_path_was_written_while_its_blob_was_read(store: Store) -> None:
    store.writes[ReadBlob] = [(15, b"new")]
    found = store.perform(store.reads.data("/a"))
    assert (found.meta.mzxid, found.data) == (15, b"new")


def test_a_watch_is_set_when_nothing_is_left_to_be_read(store: Store) -> None:
    store.writes[ReadBlob] = [(15, b"new")]
    found = store.perform(store.reads.data("/a", print))
    assert (found.meta.mzxid, found.data) == (15, b"new")
    assert store.events == []  # it was shown as of 15, so that write is no event
    assert store.commands[-1] is ReadRecord  # after the blob
    store.learned(16)
    assert [event.timestamp for event in store.events] == [16]


def test_several_reads_are_repeated_where_one_of_their_paths_was_written(store: Store) -> None:
    store.writes[ReadBlob] = [(15, b"new")]
    (found,) = store.perform(store.reads.together([("data", "/a")]))
    assert (found.meta.mzxid, found.data) == (15, b"new")


def test_a_path_that_is_written_all_the_time_is_read_nevertheless(store: Store) -> None:
    store.writes[ReadBlob] = [(txid, b"%d" % txid) for txid in range(15, 200)]
    found = store.perform(store.reads.data("/a"))
    assert found.data == b"%d" % found.meta.mzxid
    assert found.meta.mzxid < 100
    (found,) = store.perform(store.reads.together([("data", "/a")]))
    assert found.data == b"%d" % found.meta.mzxid


def test_a_blob_that_is_missing_is_an_error_after_a_few_tries(store: Store) -> None:
    del store.blobs["b/14"]
    for watch in (None, print):
        with pytest.raises(Lost):
            store.perform(store.reads.data("/a", watch))
    (answer,) = store.perform(store.reads.together([("data", "/a")]))
    assert isinstance(answer, Lost)


def in_pages(store: Store) -> None:
    meta = Meta(1, 1, 14, 0, 0)._replace(children=1, pages=1, pzxid=14)
    store.records["/a"] = Record(14, meta, b"", [], 13, 14, "[]")
    store.records[page_path("/a", 0)] = Record(14, PAGE_META, b"", ["one"], 13, 14, "[]")


def test_names_in_pages_are_read_before_the_watch_is_set(store: Store) -> None:
    in_pages(store)
    found = store.perform(store.reads.children("/a", print))
    assert list(found.children) == ["one"]
    assert store.commands[-1] is ReadRecord
    assert ReadRecords in store.commands


def test_names_come_with_the_stat_of_the_last_read(store: Store) -> None:
    store.records["/a"] = Record(14, Meta(1, 14, 0, 0, 0), b"1", [], 13, 14, "[]")
    changed = store.records["/a"]._replace(txid=15, meta=Meta(1, 15, 0, 0, 0), data=b"2", upto=15)
    perform = store.perform

    def put_watch(command: Any) -> Any:
        if isinstance(command, PutWatch):
            store.records["/a"] = changed
        return answer(command)

    answer = store._answer
    store._answer = put_watch  # type: ignore[method-assign]
    found = perform(store.reads.children("/a", print))
    assert found.meta.mzxid == 15


@pytest.mark.parametrize(
    ("kind", "closing"),
    [("data", PutWatch), ("data", ReadBlob), ("children", PutWatch), ("children", ReadRecords)],
)
def test_a_read_that_is_refused_for_a_changed_acl_leaves_no_watch(
    store: Store, kind: str, closing: type
) -> None:
    if kind == "children":
        in_pages(store)
    store.closing = closing
    with pytest.raises(Refused) as refused:
        store.perform(getattr(store.reads, kind)("/a", print))
    assert refused.value.code is Code.NO_AUTH
    assert not store.rules.watching
    store.learned(16)
    assert store.events == []


def test_a_read_that_is_refused_leaves_the_watch_of_a_read_before(store: Store) -> None:
    store.perform(store.reads.data("/a", print))
    store.closing = ReadBlob
    with pytest.raises(Refused):
        store.perform(store.reads.data("/a", print))
    store.learned(16)
    assert [event.timestamp for event in store.events] == [16]


def test_exists_needs_no_right_to_read(store: Store) -> None:
    store.closing = PutWatch
    meta = store.perform(store.reads.exists("/a", print))
    assert meta.aversion == 1
    store.learned(16)
    assert [event.timestamp for event in store.events] == [16]


def test_a_read_that_finds_no_blob_leaves_no_watch(store: Store) -> None:
    del store.blobs["b/14"]
    with pytest.raises(Lost):
        store.perform(store.reads.data("/a", print))
    assert not store.rules.watching


def test_a_blob_that_was_not_there_is_read_again_before_the_watch_is_set(store: Store) -> None:
    late = store.blobs.pop("b/14")
    answer = store._answer

    def come(command: Any) -> Any:
        found = answer(command)
        if isinstance(command, ReadBlob):
            store.blobs["b/14"] = late
        return found

    store._answer = come  # type: ignore[method-assign]
    assert store.perform(store.reads.data("/a", print)).data == b"old"
    assert store.commands[-2:] == [ReadBlob, ReadRecord]
