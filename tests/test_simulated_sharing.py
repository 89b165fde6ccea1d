"""Histories in which owners of an embedded service die, and others follow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from faaskeeper.providers.local.sharing.remote import WatchRows
from faaskeeper.testing.simulator.command import main
from faaskeeper.testing.simulator.shared import LONG_RUN, SharedWorld, run_shared

Patch = pytest.MonkeyPatch


@pytest.mark.parametrize("first", range(0, 120, 40))
def test_histories_with_take_overs_are_clean(first: int) -> None:
    for seed in range(first, first + 40):
        assert run_shared(seed).violation == "", seed


@pytest.mark.simulator
@pytest.mark.timeout(2 * 3600)
def test_a_long_run_is_clean_and_reaches_what_is_rare() -> None:
    assert main(["--shared", "--seeds", str(LONG_RUN), "--start", "500"]) == 0


@pytest.mark.parametrize("seed", range(3))
def test_a_seed_is_one_history(seed: int) -> None:
    first, second = run_shared(seed, trace=True), run_shared(seed, trace=True)
    assert first.trace == second.trace


def rows_are_gone(patch: Patch) -> None:
    """A link does not put its rows again."""
    patch.setattr(WatchRows, "restore", lambda self: None)


def the_log_is_applied_later(patch: Patch) -> None:
    """A new owner lets others read before its mark covers the log that it found."""

    def follow(self: Any) -> None:
        self._there, self._since = True, self.scheduler.now

    patch.setattr(SharedWorld, "_follow", follow)


@pytest.mark.parametrize("rule", [rows_are_gone, the_log_is_applied_later])
def test_a_rule_left_out_is_caught(rule: Callable[[Patch], None], monkeypatch: Patch) -> None:
    rule(monkeypatch)
    for seed in range(80, 280):
        if run_shared(seed).violation:
            return
    pytest.fail(f"200 histories are clean without it: {rule.__doc__}")
