"""The core beside an independent oracle, on random programs; the oracle beside what a real server did."""

from __future__ import annotations

from typing import Any

import pytest

from faaskeeper.testing.conformance import golden
from tests import oracle, programs
from tests.bare import Bare
from tests.core.test_golden import BareAdapter
from tests.oracle import ZooKeeper

_LIMITS = ("limits", "container")
"""Areas of scenarios that the oracle leaves out: bounds of the wire, and time that passes."""


class Judged:
    """The oracle, as scenarios are run."""

    def __init__(self) -> None:
        self.oracle = ZooKeeper()

    def call(self, session: str, op: str, args: list[Any]) -> dict[str, Any]:
        try:
            return self.oracle.call(session, op, args)
        except oracle.Error as error:
            raise golden.Refused(error.code) from None

    def events(self) -> dict[str, list[list[str]]]:
        return self.oracle.events()

    def owner(self, session: str) -> int:
        return self.oracle.owner(session)


@pytest.mark.parametrize(
    "scenario",
    [each for each in golden.SCENARIOS if each["area"] not in _LIMITS],
    ids=golden.name_of,
)
def test_the_oracle_does_what_a_real_server_did(scenario: dict[str, Any]) -> None:
    adapter = Judged()
    adapter.call("root", "create", ["/scenario", "", 0])
    golden.run(scenario, adapter, "/scenario")


def on_the_oracle(program: programs.Program) -> list[Any]:
    return programs.run(program, ZooKeeper(), "/n")


class Current(BareAdapter):
    """Sessions that have seen what is committed before they ask: a watch that stays fires for all else."""

    def call(self, session: str, op: str, args: list[Any]) -> dict[str, Any]:
        own = self.session(session)
        own.drive(own.rules.sync())
        return super().call(session, op, args)


def on_the_core(program: programs.Program) -> list[Any]:
    return programs.run(program, Current(Bare(own_distributor=len(program) % 2 == 0)), "/n")


@pytest.mark.parametrize("first", range(0, 200, 20))
def test_the_core_shows_what_an_independent_oracle_shows(first: int) -> None:
    for seed in range(first, first + 20):
        program = programs.program(seed, 60 + seed % 2)
        programs.assert_same(program, on_the_oracle, on_the_core, ("oracle", "core"))
