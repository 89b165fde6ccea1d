"""What is encoded is decoded as it was; what nobody encoded is refused with one kind of error."""

from __future__ import annotations

from itertools import zip_longest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faaskeeper.core import codec, log, records, trust
from faaskeeper.core.changes import (
    NOTHING,
    Change,
    Closed,
    Opened,
    Owned,
    Replaced,
    Resumed,
    Transaction,
    trimmed,
)
from faaskeeper.core.errors import Code
from faaskeeper.core.log import Answers, Entry
from faaskeeper.core.records import Record
from faaskeeper.core.requests import (
    MAX_INCARNATION,
    Check,
    Close,
    Create,
    Data,
    Delete,
    End,
    Epoch,
    Message,
    Multi,
    Notification,
    Open,
    Outcome,
    Reply,
    Request,
    Resume,
    SetAcl,
    SetData,
)
from faaskeeper.core.znode import OPEN_ACL, Meta

numbers = st.integers(0, 2**62)
path = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
raw = st.binary(max_size=50)
data = st.one_of(
    raw.map(lambda value: Data(value, "", len(value))), st.builds(Data, st.just(b""), path, numbers)
)
acls = st.one_of(
    st.just(OPEN_ACL), st.lists(st.tuples(st.integers(0, 31), path, path), max_size=3).map(tuple)
)
creates = st.builds(Create, path, data, st.booleans(), st.booleans(), acls)
sets = st.builds(SetData, path, data, st.integers(-1, 100))
deletes = st.builds(Delete, path, st.integers(-1, 100))
checks = st.builds(Check, path, st.integers(-1, 100))
multis = st.lists(st.one_of(creates, sets, deletes, checks), max_size=4).map(lambda each: Multi(tuple(each)))
operations = st.one_of(
    creates,
    sets,
    deletes,
    checks,
    multis,
    st.builds(SetAcl, path, acls, st.integers(-1, 100)),
    st.just(Close()),
    st.builds(End, st.integers(0, 2**62)),
    st.builds(Resume, st.integers(-1, 2**62)),
    st.builds(Open, path, raw, numbers),
)
messages = st.builds(
    Message,
    numbers,
    st.integers(0, MAX_INCARNATION - 1),
    numbers,
    path,
    st.lists(st.builds(Request, numbers, operations), max_size=4).map(tuple),
)
metas = st.builds(Meta, *[numbers] * 11, path, acls, numbers, numbers, numbers)
flat = st.builds(
    Outcome, st.sampled_from(Code), numbers, path, st.none() | metas, st.lists(path, max_size=2).map(tuple)
)
outcomes = st.builds(
    lambda outcome, results: outcome._replace(results=tuple(results)), flat, st.lists(flat, max_size=2)
)
answered = st.lists(st.tuples(numbers, outcomes), max_size=3).map(tuple)
writes = st.lists(st.tuples(path, st.text("CSDK", max_size=3)), max_size=3).map(tuple)
epochs = st.builds(
    Epoch, numbers, numbers, st.none() | st.lists(st.tuples(numbers, writes), max_size=3).map(tuple)
)
changes = st.builds(Change, path, st.text("CSDK", max_size=3), st.none() | metas, st.none() | raw)
effects = st.one_of(
    st.builds(Opened, path, raw, numbers),
    st.builds(Resumed, numbers, numbers),
    st.builds(Closed, numbers, st.booleans()),
    st.builds(Owned, numbers, path, st.booleans()),
)
was = st.none() | st.just(NOTHING) | st.builds(Replaced, st.integers(-9, -1), st.integers(-3, 3), acls)


def of_changes(transaction: Transaction, replaced: list[Replaced | None]) -> Transaction:
    """Only what created, set or deleted something replaced something."""
    named = [change._replace(data=None) if change.meta is None else change for change in transaction.changes]
    kept = [
        each if change.meta is None or change.data is not None else None
        for change, each in zip_longest(named, replaced[: len(named)])
    ]
    return transaction._replace(changes=tuple(named), replaced=trimmed(kept))


transactions = st.builds(
    of_changes,
    st.builds(
        Transaction,
        numbers,
        st.lists(changes, max_size=3).map(tuple),
        st.lists(effects, max_size=3).map(tuple),
        st.lists(path, max_size=2).map(tuple),
        st.lists(st.tuples(path, numbers), max_size=2).map(tuple),
        st.integers(-100, 100),
        st.lists(st.tuples(numbers, st.text("CSD", min_size=1, max_size=3)), max_size=3).map(tuple),
        st.just(()),
        st.lists(path, max_size=2).map(tuple),
    ),
    st.lists(was, max_size=3),
)
entries = st.builds(
    Entry,
    numbers,
    numbers,
    numbers,
    st.lists(transactions, max_size=3).map(tuple),
    st.lists(st.builds(Answers, numbers, numbers, numbers, path, answered), max_size=2).map(tuple),
)


@given(messages)
def test_a_message_arrives_as_it_was_sent(message: Message) -> None:
    assert codec.to_message(codec.message(message)) == message


def test_a_resume_of_a_client_of_before_is_understood() -> None:
    body = codec.frame([7, 1, 0, "a", [[0, ["resume"]]]])
    assert codec.to_message(body).requests == (Request(0, Resume(-1)),)


@pytest.mark.parametrize("incarnation", [-1, MAX_INCARNATION])
def test_an_incarnation_that_stores_could_not_keep_is_malformed(incarnation: int) -> None:
    with pytest.raises(codec.Malformed):
        codec.to_message(codec.message(Message(7, incarnation, 0, "a", (Request(0, Resume()),))))


@given(st.builds(Reply, numbers, numbers, answered, epochs, numbers, numbers, path, numbers))
def test_a_reply_arrives_as_it_was_sent(reply: Reply) -> None:
    assert codec.to_delivery(codec.reply(reply)) == reply


@given(st.builds(Notification, numbers, epochs))
def test_a_notification_arrives_as_it_was_sent(notification: Notification) -> None:
    assert codec.to_delivery(codec.notification(notification)) == notification


def test_an_entry_of_a_release_that_did_not_say_who_wrote_or_what_was_replaced_is_read() -> None:
    rows = ['[7,[["/a","S",[1,7,1,5,9,1,0,0,0,2,0,""],2]]]', '[8,[["/a","D",null]],[],[]]']
    item = {"stamp": 8, "first": 7, "time": 9, "transactions": rows, "answers": [], "data": b"xy"}
    written, deleted = log.decode(item).transactions  # type: ignore[arg-type]
    assert written.changes[0].data == b"xy"
    assert deleted.changes == (Change("/a", "D", None, None),)
    assert written.replaced == written.by == deleted.replaced == deleted.by == ()


def test_a_release_that_does_not_know_who_wrote_reads_the_entry_as_before() -> None:
    """It takes what it knows by place: a change's first four values, a transaction's first seven."""
    data: list[bytes] = []
    set_ = Change("/a", "S", Meta(1, 7, 1, 5, 9, 1, length=2), b"xy")
    gone = Transaction(8, (Change("/a", "D", None, None),), replaced=(Replaced(7, 1),), by=("ip:::1",))
    rows = [
        codec.transaction(each, data) for each in (Transaction(7, (set_,), replaced=(Replaced(1),)), gone)
    ]
    assert [codec.parse(row)[1][0][:4] for row in rows] == [
        ["/a", "S", [1, 7, 1, 5, 9, 1, 0, 0, 0, 2, 0, ""], 2],
        ["/a", "D", None, 0],
    ]
    assert codec.parse(rows[1])[2:7] == [[], [], [], 0, []]


@given(entries)
def test_an_entry_is_read_as_it_was_appended(entry: Entry) -> None:
    item = log.encode(entry)
    assert log.decode(item) == entry
    assert all(isinstance(value, (str, int, bytes, list)) for value in item.values())


@given(
    st.builds(
        Record, numbers, st.none() | metas, raw, st.lists(path, max_size=3), numbers, numbers, st.just("[]")
    )
)
def test_a_record_is_read_as_it_was_written(record: Record) -> None:
    item = records.encode(record)
    shown = record if record.meta is not None else record._replace(data=b"", children=[])
    assert records.decode(item) == shown
    assert all(isinstance(value, (str, int, bytes, list)) for value in item.values())


@given(messages, st.data())
def test_a_message_that_was_tampered_with_is_forged(message: Message, draw: st.DataObject) -> None:
    key = b"k" * trust.KEY_BYTES
    signed = bytearray(trust.sign(key, codec.message(message)))
    at = draw.draw(st.integers(0, len(signed) - 1))
    signed[at] ^= draw.draw(st.integers(1, 255))
    with pytest.raises(trust.Forged):
        trust.verify(key, bytes(signed))


@given(st.binary(max_size=200))
def test_bytes_that_are_no_message_are_malformed(body: bytes) -> None:
    with pytest.raises(codec.Malformed):
        codec.to_message(body)


@given(messages, st.integers(0, 400))
def test_a_message_cut_short_is_malformed(message: Message, length: int) -> None:
    body = codec.message(message)
    if length < len(body):
        with pytest.raises(codec.Malformed):
            codec.to_message(body[:length])


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=16, max_size=16))
def test_a_secret_is_sealed_under_one_key_only(secret: bytes, nonce: bytes) -> None:
    sealed = trust.seal(b"1" * 32, secret, nonce)
    assert secret not in sealed
    assert trust.unseal(b"1" * 32, sealed) == secret
    with pytest.raises(trust.Forged):
        trust.unseal(b"2" * 32, sealed)
