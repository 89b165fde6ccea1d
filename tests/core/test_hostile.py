"""Requests that no client of ours makes, from one who may write its own znode and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from faaskeeper.core import admission, codec, trust, validation, writer
from faaskeeper.core.acl import ALL, MAX_ACL_BYTES, MAX_CREDENTIALS_BYTES, digest, fixed
from faaskeeper.core.blobs import blob_name, parse_blob_name, read_blob
from faaskeeper.core.drivers.storage import Table, in_turn
from faaskeeper.core.errors import Code
from faaskeeper.core.records import ObjectRecords, Records, TableRecords
from faaskeeper.core.requests import (
    Create,
    Data,
    Delete,
    Message,
    Multi,
    Open,
    Reply,
    Request,
    Resume,
    SetAcl,
    SetData,
    inline,
)
from faaskeeper.core.sweeping import BLOB_MS, DAY_MS, TOMBSTONE_MS
from faaskeeper.core.transactions import Limits
from faaskeeper.core.watches import Row
from faaskeeper.core.znode import MAX_DATA_BYTES
from faaskeeper.providers.local.objects import DirectoryStore
from faaskeeper.providers.tcp import TcpChannel
from tests.bare import Bare, BareSession

ALICE = ("digest", "alice:in wonderland")
ALICES = ((ALL, *("digest", digest(ALICE[1]))),)


class Attacked:
    """A deployment with a store of blobs, alice's znode, which nobody else may write, and mallory's own."""

    def __init__(self, store: DirectoryStore, records: Callable[[Table], Records]) -> None:
        self.store = store
        self.bare = Bare(blobs=store, records=records, limits=Limits(inline_bytes=100))
        self.alice = self.bare.session("alice", 3_600_000)
        self.mallory = self.bare.session("mallory", 3_600_000)
        self.alice.auth = (ALICE,)
        self.data = b"a" * 1000
        self.alices = self.blob(self.alice, "/alice", self.data)
        assert self.alice.do(Create("/alice", self.alices, acl=ALICES)).code is Code.OK
        self.mallory.do(Create("/m", inline(b"m")))
        self.mallory.do(Create("/m/seq", inline(b"")))

    def blob(
        self, session: BareSession, path: str, data: bytes = b"x" * 200, sequential: bool = False
    ) -> Data:
        """Store data as a client does."""
        name = blob_name(self.bare.clock(), self.bare.random(3), session.id, data, path, sequential)
        self.store.put(name, data, absent=True)
        return Data(b"", name, len(data))

    def sweep(self) -> None:
        """Let the days pass after which whatever is garbage is deleted."""
        for _ in range(2 + (BLOB_MS * 7 // 5 + TOMBSTONE_MS) // DAY_MS):
            self.bare.writer.handle([writer.order(self.bare.deployment)])
            self.bare.heartbeat.refresh()
            self.bare.days(1)

    def intact(self) -> None:
        """Alice's znode is as she made it."""
        record = self.bare.deployment.records.get("/alice")
        assert record is not None
        assert record.meta is not None
        assert (record.meta.version, record.meta.blob, record.meta.acl) == (0, self.alices.blob, ALICES)
        assert read_blob(self.store, record.meta.blob, record.meta.length) == self.data


@pytest.fixture(params=["hybrid", "persistent"])
def attacked(request: pytest.FixtureRequest, tmp_path: Path) -> Attacked:
    store = DirectoryStore(tmp_path)
    tables: Callable[[Table], Records] = TableRecords
    if request.param == "persistent":
        return Attacked(store, lambda table: ObjectRecords(store, in_turn))
    return Attacked(store, tables)


def test_data_is_believed_to_be_in_a_blob_that_the_session_stored_for_the_path_and_in_no_other(
    attacked: Attacked,
) -> None:
    mallory = attacked.mallory
    own = attacked.blob(mallory, "/m")
    others = [
        attacked.alices,
        Data(b"", "r/alice", 200),
        Data(b"", "r/m", 200),
        attacked.blob(mallory, "/alice"),
        attacked.blob(attacked.alice, "/m"),
        attacked.blob(mallory, "/m", sequential=True),
        own._replace(length=-1),
        own._replace(length=MAX_DATA_BYTES + 1),
        own._replace(blob=own.blob.replace(f"/{mallory.id:x}.", "/0.")),
        own._replace(
            blob=f"b/{attacked.bare.clock():013d}/0123456789abcdef/n/m"
        ),  # as older versions named them
        own._replace(blob=own.blob.replace("/n/m", "/n/m\n")),
        own._replace(blob=own.blob + "\0"),
        own._replace(blob="b/"),
        own._replace(blob="b/" + "/" * 500),
    ]
    for data in others:
        assert mallory.do(SetData("/m", data)).code is Code.BAD_ARGUMENTS, data
        assert mallory.do(Create("/m/n", data)).code is Code.BAD_ARGUMENTS, data
        assert mallory.do(Create("/m/seq/s-", data, sequential=True)).code is Code.BAD_ARGUMENTS, data
        outcome = mallory.do(Multi((SetData("/m", inline(b"m")), SetData("/m", data))))
        assert [each.code for each in outcome.results] == [Code.OK, Code.BAD_ARGUMENTS], data
    assert mallory.do(SetData("/m", own)).code is Code.OK
    numbered = attacked.blob(mallory, "/m/seq/s-", sequential=True)
    assert mallory.do(Create("/m/seq/s-", numbered, sequential=True)).code is Code.OK
    assert mallory.do(SetData("/m", inline(b""))).code is Code.OK
    attacked.sweep()
    attacked.intact()
    assert attacked.store.get(own.blob) is None
    assert attacked.store.get(numbered.blob) is not None


def test_data_has_the_length_that_it_is_said_to_have(attacked: Attacked) -> None:
    bare, mallory = attacked.bare, attacked.mallory
    name = attacked.blob(mallory, "/m").blob
    wrong = [
        Data(b"", "", 7),
        Data(b"seven b", "", 8),
        Data(b"x", "", -1),
        Data(b"", "", -2),
        Data(b"x" * 200, name, 200),
    ]
    cxid = mallory.outbox._last
    for number, data in enumerate(wrong, cxid + 1):
        request = Request(number, SetData("/m", data))
        bare.writer.handle([Message(mallory.id, 0, 0, mallory.name, (request,))])
    told = [each.outcomes[0][1].code for each in mallory.receive() if isinstance(each, Reply)]
    assert told == [Code.BAD_ARGUMENTS] * len(wrong)


def test_a_blob_that_a_znode_still_names_is_no_garbage(attacked: Attacked) -> None:
    mallory = attacked.mallory
    own = attacked.blob(mallory, "/m")
    for operation in (
        SetData("/m", own),
        SetData("/m", own),
        Multi((SetData("/m", inline(b"")), SetData("/m", own))),
        Multi((Delete("/m/seq"), SetData("/m", own), SetData("/m", inline(b"1")), SetData("/m", own))),
    ):
        assert mallory.do(operation).code is Code.OK
    attacked.sweep()
    record = mallory.read("/m")
    assert record is not None
    assert record.meta is not None
    assert read_blob(attacked.store, record.meta.blob, record.meta.length) == b"x" * 200


def test_where_there_is_no_store_of_blobs_no_data_is_in_one() -> None:
    session = Bare().session()
    name = blob_name(1, b"123", session.id, b"x" * 200, "/n")
    assert session.do(Create("/n", Data(b"", name, 200))).code is Code.BAD_ARGUMENTS


def test_garbage_of_a_log_from_before_names_were_judged_deletes_no_record(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    attacked = Attacked(store, lambda table: ObjectRecords(store, in_turn))
    entry = attacked.bare.deployment.log.after(0)[0][-1]
    transaction = entry.transactions[-1]._replace(garbage=("r/alice",))
    for call in attacked.bare.heartbeat._sweeper._garbage(entry._replace(transactions=(transaction,))):
        call()
    attacked.intact()


def test_a_blob_that_claims_to_be_of_the_future_keeps_no_other_from_being_swept(attacked: Attacked) -> None:
    attacked.store.put(blob_name(10**13 - 1, b"abc", attacked.mallory.id, b"x", "/m"), b"x")
    attacked.sweep()
    never_sent = attacked.blob(attacked.mallory, "/m")
    attacked.sweep()
    assert attacked.store.get(never_sent.blob) is None
    attacked.intact()


@pytest.mark.parametrize("sequential", [False, True])
@pytest.mark.parametrize("path", ["/n", "/a/b\nc", "/" + "\u00e9" * 450, "/" + "x" * 959])
def test_a_blob_s_name_says_all_that_was_said_and_fits_every_store(path: str, sequential: bool) -> None:
    name = blob_name(1_700_000_000_000, b"\xff\xfe\xfd", 2**62, b"data", path, sequential)
    assert len(name.encode()) <= 1024
    said = parse_blob_name(name)
    assert said is not None
    assert (said.made, said.path, said.sequential, said.session) == (
        1_700_000_000_000,
        path,
        sequential,
        2**62,
    )


def test_an_object_that_is_not_what_was_written_is_not_shown(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    name = blob_name(1, b"abc", 7, b"right", "/n")
    older = "b/0000000000001/0123456789abcdef/n/n"
    for each in (name, older, "r/n"):
        store.put(each, b"right")
    assert read_blob(store, name, 5) == read_blob(store, older, 5) == b"right"
    assert read_blob(store, "r/n", 5) is None
    assert read_blob(store, name, 4) is None
    store.put(name, b"wrong")
    assert read_blob(store, name, 5) is None
    store.delete(name)
    assert read_blob(store, name, 5) is None
    assert read_blob(None, name, 5) is None


# ---- messages ----------------------------------------------------------------------------------

_DEEP = "[" * 200_000
_BIG = 2**80

_REQUESTS: list[Any] = [
    [1, ["set", "/alice", _BIG, 0]],
    [1, ["set", "/alice", -1.0, 0]],
    [1, ["set", ["/alice"], -1, 0]],
    [1, ["delete", "/\ud800", -1]],
    [1, ["set", "/m", -1, -5]],
    [1, ["set", "/m", -1, 1 << 40]],
    [1, ["set", "/m", -1, True]],
    [1, ["set", "/m", -1, ["", 5]]],
    [1, ["set", "/m", -1, ["b/\ud800", 5]]],
    [1, ["set", "/m", -1, {}]],
    [1, ["set", "/m"]],
    [1, ["create", "/m/c", 4, 0, None]],
    [1, ["create", "/m/c", -1, 0, None]],
    [1, ["create", "/m/c", 0, 0, None, "1"]],
    [1, ["create", "/m/c", 0, 0, None, _BIG]],
    [1, ["create", "/m/c", 0, 0, None, -2]],
    [1, ["create", "/m/c", 0, 0, [[float("inf"), "world", "anyone"]]]],
    [1, ["create", "/m/c", 0, 0, [[31, "digest", "\ud800:x"]]]],
    [1, ["create", "/m/c", 0, 0, [[31, ["world"], "anyone"]]]],
    [1, ["create", "/m/c", 0, 0, [[_BIG, "world", "anyone"]]]],
    [1, ["create", "/m/c", 0, 0, [[31, "super", ""]]]],
    [1, ["create", "/m/c", 0, 0, [[31, "world"]]]],
    [1, ["create", "/m/c", 0, 0, []]],
    [1, ["create", "/m/c", 0, 0, 5]],
    [1, ["create", "/" + "x" * 100_000, 0, 0, None]],
    [1, ["create", "/" + "x" * 100_000 + "/y", 0, 0, None]],
    [1, ["create", "/p//7", 0, 0, None]],
    [1, ["delete", "/p//7", -1]],
    [1, ["delete", "x" * 100_000 + "/y", -1]],
    [1, ["acl", "/alice", -1, [[31, "world", "anyone"]]]],
    [1, ["acl", "/m", -1, [[31, "ip", "1" * 100_000]]]],
    [1, ["multi", [["multi", [["delete", "/m", -1]]]]]],
    [1, ["multi", [["close"]]]],
    [1, ["multi", [["acl", "/m", -1, None]]]],
    [1, ["multi", [["open", "n", 0, 1]]]],
    [1, ["multi", 5]],
    [1, ["multi", "delete"]],
    [1, ["open", "nonce", 0, 1_000_000]],
    [1, ["reap", "/alice"]],
    [1, ["resume"]],
    [1, []],
    [1, None],
    [1],
    [0, ["delete", "/m", -1]],
    [-1, ["delete", "/m", -1]],
    [_BIG, ["delete", "/m", -1]],
    ["1", ["delete", "/m", -1]],
    [1, ["delete", "/m", -1], [["digest"]]],
    [1, ["delete", "/m", -1], [["digest", 5]]],
    [1, ["set", "/alice", -1, 0], [["x509", "\u00e9:alice"]]],
    [1, ["set", "/alice", -1, 0], [["super", ""], ["ip", "127.0.0.1"], ["world", "anyone"]]],
    [1, ["set", "/alice", -1, 0], [["digest", f"m:{number}"] for number in range(5000)]],
    7,
    "request",
]


def heads(session: BareSession) -> list[Any]:
    """Messages, as the values of their frames, of which each is wrong in its own way."""
    id, name = session.id, session.name
    fine = [1, ["delete", "/nothing", -1]]
    heads: list[Any] = [[id, 0, 0, name, [request]] for request in _REQUESTS]
    heads += [
        [id, 0, 0, name, [fine, fine]],
        [id, 0, 0, name, [[0, ["resume"]]] * 1000],
        [id, 0, 0, name, [[0, ["resume"]], fine]],
        [id, _BIG, 0, name, [[0, ["resume"]]]],
        [id, -1, 0, name, [[0, ["resume"]]]],
        [id, -1, 0, name, [fine]],
        [id, 0, _BIG, name, [fine]],
        [id, 0, -1, name, [fine]],
        [id, 0, 0, "x" * 5000, [fine]],
        [id, 0, 0, "\ud800", [fine]],
        [id, 0, 0, 5, [fine]],
        [id, 0, 0, name, {"a": 1}],
        [id, 0, 0, name],
        [_BIG, 0, 0, name, [fine]],
        [-id, 0, 0, name, [fine]],
        [str(id), 0, 0, name, [fine]],
        [0, 0, 0, name, [fine]],
        [0, 0, 0, name, []],
        [0, 0, 0, name, [[0, ["open", "n" * 5000, 32, 10_000]]]],
        [0, 0, 0, name, [[0, ["open", "n", 5, 10_000]]]],
        {"close": [1]},
        [],
        None,
        5,
    ]
    return heads


def test_whatever_one_message_holds_those_beside_it_are_answered_and_nothing_of_another_s_changes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    attacked = Attacked(DirectoryStore(tmp_path), TableRecords)
    bare, alice = attacked.bare, attacked.alice
    texts = [_DEEP, f'[1,0,0,"",{_DEEP}', "9" * 10_000, '"\\ud800"', ""]
    many = len(heads(attacked.mallory)) + len(texts)
    for number in range(many):
        mallory = bare.session(f"mallory{number}", 3_600_000)
        made = [json.dumps(head) for head in heads(mallory)]  # with NaN and lone surrogates
        text = (made + texts)[number].encode()
        body = len(text).to_bytes(4, "big") + text + b"x" * 100
        for key in (mallory.secret, b"x" * 32):
            bare.worker_queue.send("writer", "", trust.sign(key, body))
        bare.worker_queue.send("writer", "", text)
        assert alice.do(SetData("/alice", attacked.alices)).code is Code.OK, text[:100]
    record = alice.read("/alice")
    assert record is not None
    assert record.meta is not None
    assert record.meta.acl == ALICES
    assert record.meta.version == many
    assert "failed: refused" not in caplog.text
    view = bare.writer._view
    assert view is not None
    assert max(len(path) for path in view._nodes) < 1000
    for session in view.sessions:
        assert len(session.address) < 20
        assert session.incarnation < 2**63
        assert len(bare.mail.boxes[session.address]) < 1000
    bare.recycle()  # what is in the stores is whole: a cold writer goes on
    assert alice.do(SetData("/alice", attacked.alices)).code is Code.OK
    attacked.sweep()


def test_a_request_that_cannot_be_judged_is_refused_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bare = Bare()
    one, two = bare.session("one"), bare.session("two")
    judge = validation.apply

    def faulty(case: Any, operation: Any) -> Any:
        if operation == Delete("/odd"):
            raise ZeroDivisionError
        return judge(case, operation)

    monkeypatch.setattr(validation, "apply", faulty)
    before, odd, after = one.ask(Create("/a", inline(b""))), one.ask(Delete("/odd")), one.ask(Delete("/a"))
    others = two.ask(Create("/b", inline(b"")))
    bare.pump()
    one.receive()
    two.receive()
    codes = [each.get(0).code for each in (before, odd, after, others)]
    assert codes == [Code.OK, Code.BAD_ARGUMENTS, Code.OK, Code.OK]
    assert "validation of request 2 of session 1 failed: refused" in caplog.text


def test_an_address_that_no_channel_can_use_holds_nobody_up() -> None:
    bare = Bare()
    tcp = TcpChannel()
    assert not any(tcp.deliver(each, b"") for each in ("tcp:127.0.0.1:" + "9" * 20, "tcp:\0:1", "tcp:", "x"))

    class Faulty:
        def deliver(self, address: str, message: bytes) -> bool:
            if address == "mallory":
                raise LookupError(address)
            return bare.mail.deliver(address, message)

    bare.deployment.channel = Faulty()
    bare.recycle()
    alice = bare.session("alice")
    secret = bare.random(trust.KEY_BYTES)
    opening = Message(0, 0, 0, "mallory", (Request(0, Open("nonce", secret, 10_000)),))
    bare.worker_queue.send("writer", "", trust.sign(secret, codec.message(opening)))
    assert alice.do(Create("/n", inline(b""))).code is Code.OK


def test_a_row_that_is_no_watch_holds_no_writer_up() -> None:
    bare = Bare()
    session = bare.session()
    session.do(Create("/n", inline(b"")))
    session.watch("/n", "data")
    table = bare.tables["watch"]
    odd: list[Any] = [
        {"kind": "odd", "session": 1, "address": "x"},
        {"kind": "data", "session": "1", "address": "x"},
        {"kind": "data", "session": 1},
        {},
    ]
    for number, row in enumerate(odd):
        table.put("/n", f"data {number + 100}", {"stamp": 0, **row})
    assert bare.deployment.watches.rows("/n") == [Row("/n", "data", session.id, 2, "s")]
    assert session.do(SetData("/n", inline(b"1"))).code is Code.OK
    assert [event.path for event in session.fired] == ["/n"]


def test_an_acl_with_everybody_s_name_many_times_is_no_longer_than_its_request() -> None:
    who = tuple(("digest", f"user{number}:hash") for number in range(500))
    asked = tuple((ALL, "auth", f"{number}") for number in range(5000))
    kept = fixed(asked, who)
    assert kept is not None
    assert len(kept) == len(who)
    assert (
        fixed(tuple((31, "digest", f"{number:05d}:") for number in range(MAX_ACL_BYTES // 12 + 1)), ())
        is None
    )
    session = Bare().session()
    long = ((ALL, "digest", "m:" + "x" * MAX_ACL_BYTES),)
    session.do(Create("/m", inline(b"")))
    assert session.do(SetAcl("/m", long)).code is Code.INVALID_ACL


def test_what_our_clients_send_is_admitted_and_nothing_else() -> None:
    requests = (
        Request(3, Delete("/a"), (("digest", "x" * (MAX_CREDENTIALS_BYTES - 6)),)),
        Request(5, Delete("/b")),
    )
    for message in (
        Message(1, 0, 2, "tcp:[::1]:7", requests),
        Message(1, 7, 0, "", (Request(0, Resume()),)),
        Message(1, 0, 0, "", ()),
        Message(0, 0, 0, "a", (Request(0, Open("n" * 32, b"s" * 32, 10_000)),)),
    ):
        admission.check(message)
    one = Request(1, Delete("/a"))
    opening = Request(0, Open("n", b"s" * 32, 10_000))
    for message in (
        Message(2**63, 0, 0, "", (one,)),
        Message(1, 2**63, 0, "", (one,)),
        Message(1, -1, 0, "", (one,)),
        Message(1, 0, -1, "", (one,)),
        Message(1, 0, 0, "x" * 1025, (one,)),
        Message(1, 0, 0, "", (one, one)),
        Message(1, 0, 0, "", (Request(2, Delete("/a")), one)),
        Message(1, 0, 0, "", (Request(0, Delete("/a")),)),
        Message(1, 0, 0, "", (Request(0, Resume()), one)),
        Message(1, 0, 0, "", (Request(1, Resume()),)),
        Message(0, 0, 0, "", (opening, opening)),
        Message(0, 0, 0, "", (Request(0, Open("n" * 257, b"s" * 32, 10_000)),)),
        Message(1, 0, 0, "", (Request(1, Delete("/a"), (("digest", "x" * MAX_CREDENTIALS_BYTES),)),)),
    ):
        with pytest.raises(codec.Malformed):
            admission.check(message)
