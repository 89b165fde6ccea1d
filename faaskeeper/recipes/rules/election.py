"""Election of a leader: the leader holds a lock while it leads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from faaskeeper.recipes.rules.lock import EXCLUSIVE, LockRules
from faaskeeper.recipes.rules.port import Alone, Port


class ElectionRules:
    """A candidate."""

    def __init__(self, port: Port, path: str, identifier: str) -> None:
        self._port = port
        self._path = path
        self._identifier = identifier
        self._alone = Alone(
            port,
            f"another {port.worker} runs for {path} with this object: create one for each {port.worker}",
        )
        self.lock = self._volunteer(None)

    def _volunteer(self, on_loss: Callable[[], None] | None) -> LockRules:
        return LockRules(self._port, self._path, self._identifier, on_loss, EXCLUSIVE)

    async def run(
        self,
        lead: Callable[[], Awaitable[object]],
        on_loss: Callable[[], None] | None,
        timeout: float | None,
    ) -> bool:
        """Volunteer, lead while ``lead`` runs, and resign; returns whether it was elected."""
        with self._alone():
            self.lock = lock = self._volunteer(on_loss)
            if not await lock.acquire(timeout):
                return False
            try:
                await lead()
            finally:
                await lock.release()
            return True


class Leading:
    """The properties of a candidate that need no request to the service."""

    _rules: ElectionRules

    @property
    def leading(self) -> bool:
        """Whether this candidate is the leader, as far as the client knows."""
        return self._rules.lock.place.first

    @property
    def token(self) -> int:
        """The leader's fencing token, higher than that of any earlier leader. Raises LockLost."""
        return self._rules.lock.token
