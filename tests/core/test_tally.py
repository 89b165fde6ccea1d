"""How many znodes there are, and how much data: counted from the log alone."""

from __future__ import annotations

from random import Random

import pytest

from faaskeeper.core import paths
from faaskeeper.core.counting import current
from faaskeeper.core.requests import Close, Create, Delete, Multi, SetAcl, SetData, inline
from faaskeeper.core.tally import Tally, beginning
from faaskeeper.core.transactions import Limits
from faaskeeper.core.view import load
from tests.bare import Bare, BareSession


def walked(bare: Bare, session: BareSession) -> Tally:
    """What a walk through the tree finds."""
    nodes = size = ephemerals = 0
    level = ["/"]
    while level:
        path = level.pop()
        record = session.read(path)
        assert record is not None
        assert record.meta is not None
        nodes += 1
        size += len(path) + len(record.data)
        ephemerals += record.meta.owner > 0
        level.extend(paths.child(path, name) for name in record.children)
    return Tally(nodes, size, ephemerals)


def counted(bare: Bare) -> Tally | None:
    return current(bare.deployment.log, bare.deployment.checkpoints)


@pytest.mark.parametrize("seed", range(30))
def test_what_is_counted_is_what_is_there(seed: int) -> None:
    dice = Random(seed)
    bare = Bare(own_distributor=seed % 2 == 0, limits=Limits(close_changes=2))
    session = bare.session("one", timeout=3_600_000)
    owner = bare.session("two", timeout=3_600_000)

    def operation() -> Create | SetData | Delete:
        path = dice.choice(("/a", "/b", "/a/x", "/a/y", "/é"))
        data = inline(b"x" * dice.randrange(20))
        return dice.choice(
            (
                Create(path, data, ephemeral=dice.random() < 0.5),
                Create(path, data, sequential=True),
                SetData(path, data),
                Delete(path),
            )
        )

    for _ in range(60):
        who = dice.choice((session, owner))
        if dice.random() < 0.3:
            # an ephemeral or not, created, set, deleted and created again in one transaction
            who.do(Multi(tuple(operation() for _ in range(dice.randrange(1, 5)))))
            who.do(Multi((Create("/m", inline(b"12")), SetData("/m", inline(b"1")), Delete("/m"))))
            who.do(Multi((Create("/m", inline(b"12"), True), Delete("/m"), Create("/m", inline(b"1"), True))))
            who.do(Multi((SetData("/m", inline(b"123")), Delete("/m"))))
        else:
            who.do(operation())
        if dice.random() < 0.1:
            owner.do(Close())
            owner = bare.session("two", timeout=3_600_000)
        if dice.random() < 0.1:
            bare.writer.idle()
            bare.distributor.idle()
        if dice.random() < 0.1:
            bare.recycle()
        session.do(SetAcl("/a", ((31, "world", "anyone"),)))
        assert counted(bare) == walked(bare, session)
    assert load(bare.deployment.log, bare.deployment.checkpoints, bare.clock).tally == counted(bare)


def test_a_new_deployment_has_what_always_exists() -> None:
    bare = Bare()
    assert counted(bare) == beginning() == Tally(4, 44, 0)
    assert walked(bare, bare.session()) == Tally(4, 44, 0)


def test_entries_below_the_header_are_not_counted_again_when_the_mark_is_lower() -> None:
    bare = Bare()
    session = bare.session()
    for number in range(5):
        session.do(Create(f"/n{number}", inline(b"12")))
    view = bare.writer._view
    assert view is not None
    bare.deployment.checkpoints.save(view.header(), view.sessions, bare.clock)  # the mark stays at 0
    again = load(bare.deployment.log, bare.deployment.checkpoints, bare.clock)
    assert len(again.pending) == 6
    assert again.tally == counted(bare) == walked(bare, session)


def test_a_deployment_of_an_earlier_release_is_not_counted() -> None:
    bare = Bare()
    bare.tables["checkpoint"].put("checkpoint", "header", {"stamp": 0, "asof": bare.clock.now})
    bare.recycle()
    bare.session().do(Create("/n", inline(b"12")))
    assert counted(bare) is None
    bare.writer.idle()
    assert counted(bare) is None
    assert "nodes" not in (bare.tables["checkpoint"].get("checkpoint", "header") or {})
