"""Renewals of a lease, whoever has written it meanwhile."""

from __future__ import annotations

import pytest

from faaskeeper.core.errors import Code
from faaskeeper.core.sessions import Lease, Leases
from faaskeeper.providers.memory import MemoryTable
from faaskeeper.session.incarnation import Over, renew

SESSION = 7


@pytest.fixture
def leases() -> Leases:
    made = Leases(MemoryTable())
    made.grant(SESSION, 1_000)
    return made


def test_a_renewal_that_took_effect_without_an_answer_is_no_hindrance(leases: Leases) -> None:
    wanted = Lease(SESSION, 1, 2_000, False)
    leases.replace(wanted)
    assert renew(leases, wanted._replace(expires=3_000)) == Lease(SESSION, 3, 3_000, False)


def test_a_lease_that_another_incarnation_has_renewed_is_not_renewed(leases: Leases) -> None:
    leases.replace(Lease(SESSION, 1, 2_000, False, incarnation=5))
    with pytest.raises(Over) as over:
        renew(leases, Lease(SESSION, 1, 3_000, False, incarnation=4))
    assert over.value.code is Code.SESSION_MOVED


def test_a_lease_that_was_granted_anew_after_its_session_s_end_is_not_renewed(leases: Leases) -> None:
    known = renew(leases, Lease(SESSION, 1, 2_000, False))
    leases.mark(known)
    leases.drop(SESSION)
    leases.grant(SESSION, 9_000)
    with pytest.raises(Over) as over:
        renew(leases, known._replace(expires=3_000))
    assert over.value.code is Code.SESSION_EXPIRED
    assert leases.get(SESSION) == Lease(SESSION, 1, 9_000, False)
