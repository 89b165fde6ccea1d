"""The distributor as a function of its own, behind a queue."""

from __future__ import annotations

from collections.abc import Sequence

from faaskeeper.core.answers import to_wake_up
from faaskeeper.core.changes import Opened
from faaskeeper.core.contents import Contents
from faaskeeper.core.deployment import Deployment
from faaskeeper.core.distributor import Distributor, Settled
from faaskeeper.core.requests import Epoch
from faaskeeper.core.view import View, roll

_CONFIRM_MS = 3600 * 1000
"""How long a distributor function relies on wake-ups before it looks for the log's end itself."""


class DistributorFunction:
    """The distributor behind a queue. One call at a time; any number of instances may run."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._distributor = Distributor(deployment)
        self._view: View | None = None

    @property
    def view(self) -> View | None:
        """What it knows between two calls; None: the next call loads it."""
        return self._view

    @property
    def contents(self) -> Contents:
        """The contents of records that it remembers."""
        return self._distributor.contents

    def handle(self, bodies: Sequence[bytes]) -> None:
        """Apply what the wake-ups ask for, and answer. Raises when the queue must deliver again."""
        view, self._view = self._view, None
        began = self._deployment.clock()
        wake_ups = sorted((to_wake_up(body) for body in bodies), key=lambda each: each.upto)
        clock = self._deployment.clock
        if view is None or not view.valid(clock()):
            view = self._distributor.load(max_nodes=0)
        for each in wake_ups:
            if each.entry is not None and each.entry.first == view.head + 1:
                view.fold(each.entry)
        # Wake-ups do not contain the log's end. One may be late: what it opened may have ended.
        unsure = clock() - view.asof > _CONFIRM_MS or _opens(view)
        if wake_ups[-1].upto > view.head or unsure or any(each.upto == 0 for each in wake_ups):
            roll(view, self._deployment.log, clock)
        groups = self._distributor.settle(view, began)
        for each in wake_ups:
            if each.answers:
                self._distributor.answer(each.answers, _covering(groups, each.upto, view))
        self._distributor.finish(groups, view)
        if any(each.upto == 0 for each in wake_ups):
            self._distributor.save(view)
        self._view = view

    def idle(self) -> None:
        """Save mark and checkpoint, when no wake-up waits."""
        if self._view is not None:
            self._distributor.save(self._view)


def _opens(view: View) -> bool:
    """Whether an entry that is to be applied opens a session."""
    return any(
        isinstance(effect, Opened)
        for entry in view.pending
        for each in entry.transactions
        for effect in each.effects
    )


def _covering(groups: Sequence[Settled], upto: int, view: View) -> Epoch:
    """The epoch for answers that were validated at ``upto``."""
    for group in groups:
        if group.epoch.floor < upto <= group.epoch.upto:
            return group.epoch
    return Epoch(view.applied, view.applied, ())
