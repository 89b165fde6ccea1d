"""Switching points in a session's rules and outbox, which are read without a lock.

:meth:`faaskeeper.client.session.Session.get` reads them while another thread may be at any step of
a change. Here another task may run at each access to what they share.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from faaskeeper.session.outbox import Outbox
from faaskeeper.session.rules import Rules
from faaskeeper.testing.simulator.scheduler import Scheduler

_SHARED = ("seen", "ticket", "applied", "_least")
_CHANCE = 0.15
_AWAY_MS = (0, 0, 1, 30, 300)
"""How long the thread does not run then."""


def _switching(name: str) -> property:
    def look(rules: Any) -> Any:
        rules.switch(f"looks at {name}")
        return vars(rules)[name]

    def change(rules: Any, value: Any) -> None:
        vars(rules)[name] = value
        rules.switch(f"has changed {name}")

    return property(look, change)


class SwitchingRules(Rules):
    """Rules between whose steps other tasks run."""

    switch: Callable[[str], None]


for _name in _SHARED:
    setattr(SwitchingRules, _name, _switching(_name))


class SwitchingOutbox(Outbox[Any]):
    """An outbox between whose steps other tasks run."""

    switch: Callable[[str], None]

    def __len__(self) -> int:
        self.switch("looks at the outbox")
        return super().__len__()

    def answered(self, outcomes: Any) -> Any:
        ready = super().answered(outcomes)
        self.switch("has taken answers")
        return ready


def preempt(session: Any, scheduler: Scheduler) -> None:
    """Let other tasks run between the steps of a session's rules and outbox from now on."""

    def switch(label: str) -> None:
        if scheduler.running is not None and scheduler.random.random() < _CHANCE:
            away = scheduler.random.choice(_AWAY_MS)
            scheduler.point(f"  {label}, away for {away} ms")
            if away:
                scheduler.sleep(away)

    for each, kind in ((session.rules, SwitchingRules), (session.outbox, SwitchingOutbox)):
        each.switch = switch
        each.__class__ = kind
