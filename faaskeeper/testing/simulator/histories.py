"""One seed, one history: run it, and shrink the plan of one that breaks a promise."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from faaskeeper.testing.simulator.director import STEPS, STEPS_OF_DAYS, Director
from faaskeeper.testing.simulator.plan import Plan, plan_of
from faaskeeper.testing.simulator.scheduler import Scheduler, Violation
from faaskeeper.testing.simulator.world import World


@dataclass
class History:
    """The outcome of a history. ``violation``: what was broken, or "" if nothing was."""

    seed: int
    plan: Plan
    violation: str
    steps: int
    entries: int
    reached: Counter[str]
    trace: list[str]


def run(
    seed: int,
    plan: Plan | None = None,
    trace: bool = False,
    world_of: Callable[[Scheduler, Plan], Any] = World,
    director_of: Callable[[Any], Director] = Director,
) -> History:
    """Run the history of a seed, with the seed's plan if none is given."""
    plan = plan or plan_of(seed)
    scheduler = Scheduler(seed)
    scheduler.tracing = trace
    world = world_of(scheduler, plan)
    director = director_of(world)
    violation = ""
    scheduler.spawn("director", director.run, world.system)
    try:
        scheduler.run(STEPS_OF_DAYS if plan.long else STEPS)
        if not director.ended:
            violation = "the history stands still: a task waits for what never comes"
    except Violation as broken:
        violation = str(broken) or type(broken).__name__
    except AssertionError as error:
        violation = f"assertion: {error}"
        if trace:
            scheduler.trace.append(traceback.format_exc())
    except Exception as error:
        violation = f"{type(error).__name__}: {error}"
        if trace:
            scheduler.trace.append(traceback.format_exc())
    scheduler.end()
    return History(
        seed, plan, violation, scheduler.steps, len(world.model.entries), world.reached, scheduler.trace
    )


@dataclass(frozen=True)
class Kind:
    """A kind of histories. ``run``, ``plan_of``, ``simpler``: as :func:`run`, :func:`plan_of` and
    ``SIMPLER`` are for that with direct clients. ``expected``: what a run of ``long`` histories or
    more must reach. ``option``: that selects it.
    """

    run: Callable[..., History]
    plan_of: Callable[[int], Any]
    simpler: Sequence[dict[str, Any]]
    expected: frozenset[str]
    long: int
    option: str

    def shrink(self, seed: int, violation: str) -> Any:
        """Find a simpler plan with which the seed breaks the same promise as ``violation``."""
        kind = violation.split(":")[0]
        plan = self.plan_of(seed)
        for change in self.simpler:
            smaller = replace(plan, **change)
            if smaller != plan and self.run(seed, smaller).violation.split(":")[0] == kind:
                plan = smaller
        return plan
