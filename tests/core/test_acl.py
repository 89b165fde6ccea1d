"""Access control: who is who, what is permitted, and that no credential is kept anywhere."""

from __future__ import annotations

from typing import Any

import pytest

from faaskeeper.core.acl import (
    ADMIN,
    ALL,
    CREATE,
    DELETE,
    READ,
    READ_ACL,
    SUPER,
    WRITE,
    digest,
    effective,
    fixed,
    identities,
    masked,
    permits,
    vouch,
)
from faaskeeper.core.errors import Code
from faaskeeper.core.records import encode
from faaskeeper.core.requests import Check, Create, Delete, Multi, SetAcl, SetData, inline
from faaskeeper.core.znode import CONFIG, OPEN_ACL
from tests.bare import Bare

ALICE = ("digest", "alice:in wonderland")
ALICE_ID = digest("alice:in wonderland")


def test_a_digest_is_what_other_clients_make_of_the_same_password() -> None:
    assert digest("user:secret") == "user:5w9W4eL3797Y4Wq8AcKUPPk8ha4="  # observed on a server


def test_only_the_super_users_password_makes_a_super_user() -> None:
    assert identities([("digest", "super:wrong")], digest("super:right")) == (
        ("digest", digest("super:wrong")),
    )
    assert SUPER in identities([("digest", "super:right")], digest("super:right"))
    assert SUPER not in identities([("super", ""), ("digest", "")], "")


@pytest.mark.parametrize(
    ("address", "id", "within"),
    [
        ("10.1.2.3", "10.0.0.0/8", True),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3", "10.1.2.4", False),
        ("11.1.2.3", "10.0.0.0/8", False),
        ("2001:db8::1", "2001:db8::/32", True),
        ("10.1.2.3", "2001:db8::/32", False),
        ("nonsense", "10.0.0.0/8", False),
    ],
)
def test_an_address_is_within_a_network(address: str, id: str, within: bool) -> None:
    assert permits(((READ, "ip", id),), READ, (("ip", address),)) is within


def test_permissions_are_looked_up_one_by_one() -> None:
    acl = ((READ | WRITE, "digest", ALICE_ID), (READ, "world", "anyone"))
    alice = identities([ALICE])
    assert permits(acl, WRITE, alice)
    assert permits(acl, READ, ())
    assert not permits(acl, WRITE, ())
    assert not permits(acl, DELETE, alice)
    assert permits(acl, ADMIN, (SUPER,))
    assert permits((), ADMIN, ())


def test_an_acl_is_kept_without_repetitions_and_with_who_asked_in_place_of_auth() -> None:
    assert fixed((*READ_ACL, *READ_ACL), ()) == READ_ACL
    assert fixed(((ALL, "auth", ""),), (("ip", "10.0.0.1"), *identities([ALICE]))) == (
        (ALL, *ALICE[:1], ALICE_ID),
    )
    assert fixed(OPEN_ACL, ()) is OPEN_ACL
    for wrong in ((), ((ALL, "auth", ""),), ((ALL, "super", ""),), ((ALL, "digest", "a:b:c"),)):
        assert fixed(wrong, ()) is None


def test_hashes_are_shown_to_administrators_alone() -> None:
    acl = ((READ, "world", "anyone"), (ALL, "digest", ALICE_ID))
    assert masked(acl, identities([ALICE])) == acl
    assert masked(acl, ()) == ((READ, "world", "anyone"), (ALL, "digest", "alice:x"))


@pytest.mark.parametrize("own_distributor", [False, True])
def test_no_credential_is_kept_in_any_table(own_distributor: bool) -> None:
    bare = Bare(own_distributor=own_distributor)
    session = bare.session()
    address = vouch(bare.deployment.key, "10.9.8.7", "ip")
    session.auth = (ALICE, address)
    assert session.do(Create("/n", inline(b""), acl=((ALL, "auth", ""),))).code is Code.OK
    assert session.do(SetData("/n", inline(b"1"), 7)).code is Code.BAD_VERSION
    bare.heartbeat.run()
    bare.pump()
    bare.writer.idle()
    bare.distributor.idle()
    kept = repr([table._items for table in bare.tables.values()])  # type: ignore[attr-defined]
    assert ALICE_ID in kept
    assert "wonderland" not in kept
    assert address[1].split(":")[0] not in kept
    assert bare.deployment.log.after(0)[0][1].transactions[0].by == ("digest:alice", "ip:10.9.8.7")


def test_the_log_names_who_wrote_within_bounds() -> None:
    bare = Bare()
    session = bare.session()
    session.do(Create("/anonymous", inline(b"")))
    session.auth = tuple(("digest", f"{number}{'n' * 500}:secret") for number in range(9))
    session.do(Create("/many", inline(b"")))
    (anonymous,), (many,) = (each.transactions for each in bare.deployment.log.after(0)[0][1:])
    assert anonymous.by == ()
    assert [len(each) for each in many.by] == [100] * 4
    session.auth = (ALICE, ("digest", "a password without a name"))
    session.do(Create("/nameless", inline(b"")))
    assert bare.deployment.log.after(many.txid)[0][0].transactions[0].by == ("digest:alice",)


def test_the_log_names_the_super_user_alone() -> None:
    bare = Bare()
    bare.deployment.super_digest = ALICE_ID
    session = bare.session()
    session.auth = (ALICE, ("digest", "bob:secret"))
    session.do(Create("/n", inline(b"")))
    assert bare.deployment.log.after(0)[0][1].transactions[0].by == ("super",)


def test_every_kind_of_write_asks_for_its_permission() -> None:
    bare = Bare()
    session = bare.session()
    session.do(
        Create(
            "/p", inline(b""), acl=((ALL & ~CREATE & ~DELETE, "world", "anyone"), (ALL, "digest", ALICE_ID))
        )
    )
    session.do(Create("/n", inline(b""), acl=READ_ACL))
    session.do(Create("/secret", inline(b""), acl=((ALL & ~READ, "world", "anyone"),)))

    def codes(*operations: Any) -> list[Code]:
        return [session.do(each).code for each in operations]

    refused = codes(
        Create("/p/c", inline(b"")),
        SetData("/n", inline(b"")),
        SetAcl("/n", OPEN_ACL),
        Multi((Check("/secret"), SetData("/secret", inline(b"1")))),
    )
    assert refused == [Code.NO_AUTH] * 4
    session.auth = (ALICE,)
    assert codes(Create("/p/c", inline(b""))) == [Code.OK]
    session.auth = ()
    assert codes(Delete("/p/c"), Multi((Delete("/p/c"), Create("/x", inline(b""))))) == [Code.NO_AUTH] * 2
    session.auth = (ALICE,)
    assert codes(Delete("/p/c")) == [Code.OK]
    assert session.do(Check("/secret")).code is Code.NO_AUTH


def test_a_transaction_sees_the_acls_that_it_sets_itself() -> None:
    session = Bare().session()
    made = Multi((Create("/n", inline(b""), acl=READ_ACL), SetData("/n", inline(b"1"))))
    outcome = session.do(made)
    assert [each.code for each in outcome.results] == [Code.OK, Code.NO_AUTH]
    assert session.read("/n") is None


def test_the_super_user_may_do_everything() -> None:
    bare = Bare()
    bare.deployment.super_digest = digest("root:pw")
    session = bare.session()
    session.do(Create("/n", inline(b""), acl=((READ, "digest", ALICE_ID),)))
    assert session.do(SetData("/n", inline(b""))).code is Code.NO_AUTH
    session.auth = (("digest", "root:pw"),)
    assert session.do(SetData("/n", inline(b"super"))).code is Code.OK
    assert session.do(SetAcl("/n", OPEN_ACL)).code is Code.OK


def test_a_client_that_names_its_address_is_not_where_the_deployment_is() -> None:
    bare = Bare()
    session = bare.session()
    here = Create("/here", inline(b""), acl=((ALL, "ip", "127.0.0.1"),))
    assert session.do(here).code is Code.OK
    assert session.do(SetData("/here", inline(b""))).code is Code.OK
    there = Create("/there", inline(b""), acl=((ALL, "ip", "10.0.0.7"),))
    assert session.do(there).code is Code.OK
    session.auth = (("ip", "10.0.0.7"),)  # anybody can say that
    assert session.do(SetData("/there", inline(b""))).code is Code.NO_AUTH
    session.auth = (vouch(b"another key", "10.0.0.7", "ip"), ("ip", "\u00e9:10.0.0.7"))
    assert session.do(SetData("/there", inline(b""))).code is Code.NO_AUTH
    # A server in front of the deployment, which holds its key, says whom it speaks for.
    session.auth = (vouch(bare.deployment.key, "10.0.0.7", "ip"),)
    assert session.do(SetData("/there", inline(b""))).code is Code.OK
    assert session.do(SetData("/here", inline(b""))).code is Code.NO_AUTH


def test_a_request_keeps_the_credentials_it_was_asked_under_when_it_is_sent_again() -> None:
    bare = Bare()
    session = bare.session()
    session.do(Create("/n", inline(b""), acl=((ALL, "digest", ALICE_ID),)))
    future = session.ask(SetData("/n", inline(b"1")))
    bare.worker_queue.take()  # lost on its way
    session.auth = (ALICE,)
    session.send(session.message(*session.outbox.resend(1)))
    bare.pump()
    session.receive()
    assert future.get(0).code is Code.NO_AUTH


def test_what_is_in_config_nobody_changes_but_the_super_user() -> None:
    bare = Bare()
    bare.deployment.super_digest = digest("root:pw")
    session = bare.session()
    attempts = (
        SetData(CONFIG, inline(b"server.1=elsewhere")),
        SetAcl(CONFIG, OPEN_ACL),
        Create(f"{CONFIG}/n", inline(b"")),
        Delete(f"{CONFIG}/n"),
        Multi((SetData(CONFIG, inline(b"")),)),
    )
    assert [session.do(each).code for each in attempts] == [Code.NO_AUTH] * len(attempts)
    session.auth = (("digest", "root:pw"),)
    assert session.do(SetData(CONFIG, inline(b"super"))).code is Code.OK
    assert (
        session.do(SetAcl(CONFIG, ((READ, "world", "anyone"), (WRITE, "digest", ALICE_ID)))).code is Code.OK
    )
    session.auth = (ALICE,)
    assert session.do(SetData(CONFIG, inline(b"alice"))).code is Code.OK
    assert session.do(SetAcl(CONFIG, OPEN_ACL)).code is Code.NO_AUTH


def test_config_of_a_deployment_made_before_is_not_open_either() -> None:
    bare = Bare()
    record = bare.deployment.records.get(CONFIG)
    assert record is not None
    assert record.meta is not None
    bare.tables["records"].put(
        CONFIG, "node", encode(record._replace(meta=record.meta._replace(acl=OPEN_ACL)))
    )
    session = bare.session()
    assert session.do(SetData(CONFIG, inline(b""))).code is Code.NO_AUTH
    assert session.do(SetAcl(CONFIG, OPEN_ACL)).code is Code.NO_AUTH
    assert session.do(Multi((Check(CONFIG),))).code is Code.OK
    assert effective(CONFIG, OPEN_ACL) == READ_ACL
    assert effective(CONFIG, ()) == READ_ACL
    assert effective("/zookeeper", OPEN_ACL) is OPEN_ACL
