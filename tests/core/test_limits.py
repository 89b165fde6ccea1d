"""Numbers at the ends of what 32 bits hold, as ZooKeeper's server counts them (in Java's ``int``)."""

from __future__ import annotations

import pytest

from faaskeeper.core.errors import Code
from faaskeeper.core.records import encode
from faaskeeper.core.requests import Create, Delete, Multi, SetAcl, SetData, inline
from faaskeeper.core.znode import OPEN_ACL, Meta, wrapped
from faaskeeper.exceptions import SequenceUsedUpException
from faaskeeper.gateway import protocol
from faaskeeper.session.arguments import raise_error
from tests.bare import Bare, BareSession

MOST = 2**31 - 1


def session_with(path: str, **fields: int) -> BareSession:
    """A session of a deployment in which a znode has come far."""
    bare = Bare()
    session = bare.session()
    session.do(Create(path, inline(b"")))
    record = bare.deployment.records.get(path)
    assert record is not None
    assert record.meta is not None
    bare.tables["records"].put(path, "node", encode(record._replace(meta=record.meta._replace(**fields))))
    bare.writer.idle()
    bare.recycle()
    return session


def meta_of(session: BareSession, path: str) -> Meta:
    record = session.read(path)
    assert record is not None
    assert record.meta is not None
    return record.meta


@pytest.mark.parametrize(
    ("number", "held"),
    [(0, 0), (MOST, MOST), (MOST + 1, -MOST - 1), (2**32 - 1, -1), (2**32, 0), (-1, -1), (-MOST - 2, MOST)],
)
def test_numbers_are_kept_in_32_bits(number: int, held: int) -> None:
    assert wrapped(number) == held


def test_the_child_version_goes_on_below_zero_and_has_room_on_the_wire() -> None:
    meta = Meta(1, 1, 1, 0, 0, creations=2**30, children=0)
    assert meta.stat().cversion == -(2**31)
    assert len(protocol.stat(meta)) == 68
    assert meta._replace(children=1).stat().cversion == MOST
    assert meta._replace(creations=2**31 + 5, children=3).stat().cversion == 7


def test_a_version_goes_on_below_zero() -> None:
    session = session_with("/n", version=MOST)
    assert session.do(SetData("/n", inline(b""), MOST)).code is Code.OK
    meta = meta_of(session, "/n")
    assert meta.stat().version == -MOST - 1
    assert len(protocol.stat(meta)) == 68
    assert session.do(SetData("/n", inline(b""), MOST)).code is Code.BAD_VERSION
    assert session.do(SetData("/n", inline(b""), -MOST - 1)).code is Code.OK
    assert session.do(Delete("/n", -MOST)).code is Code.OK


def test_a_version_of_minus_one_fits_whichever_is_asked_for_as_any_does() -> None:
    session = session_with("/n", version=-2)
    assert session.do(SetData("/n", inline(b""), -2)).code is Code.OK
    assert meta_of(session, "/n").version == -1
    assert session.do(SetData("/n", inline(b""), 5)).code is Code.BAD_VERSION
    assert session.do(SetData("/n", inline(b""), -1)).code is Code.OK
    assert meta_of(session, "/n").version == 0


def test_the_version_of_an_acl_goes_on_below_zero() -> None:
    session = session_with("/n", aversion=MOST)
    assert session.do(SetAcl("/n", OPEN_ACL, MOST)).code is Code.OK
    assert meta_of(session, "/n").stat().aversion == -MOST - 1


def test_the_last_sequence_number_is_given_and_then_an_error_that_says_so() -> None:
    session = session_with("/p", creations=MOST)
    made = Create("/p/s-", inline(b""), sequential=True)
    assert session.do(made).path == "/p/s-2147483647"
    outcome = session.do(made)
    assert outcome.code is Code.SEQUENCE_USED_UP
    with pytest.raises(SequenceUsedUpException, match="no sequence number is left for /p/s-"):
        raise_error(outcome, "/p/s-")
    assert protocol.ERRORS[outcome.code] == -8
    assert session.do(Multi((made,))).results[0].code is Code.SEQUENCE_USED_UP


def test_a_parent_without_sequence_numbers_takes_children_that_have_names() -> None:
    session = session_with("/p", creations=MOST + 1)
    assert session.do(Create("/p/n", inline(b""))).code is Code.OK
    assert meta_of(session, "/p").stat()[5] == 2 * (MOST + 2) - 1 - 2**32
