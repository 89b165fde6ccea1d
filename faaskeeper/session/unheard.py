"""Finds out that the service's answers do not reach this process.

A process opens a session and waits for the answer. If functions cannot connect to it, the session
is in the log, and no answer ever comes. So an opening that waits looks for its own transaction
there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from faaskeeper.core import logs
from faaskeeper.core.changes import Effect
from faaskeeper.core.errors import DriverError, StaleView
from faaskeeper.core.log import Trimmed
from faaskeeper.exceptions import ProviderException

if TYPE_CHECKING:
    from faaskeeper.core.connection import Connection

PATIENCE_S = 5.0
"""How long an answer may take after its session was seen: it follows at once, and the opening was
sent again since."""
_BACK = 500
"""How far below the applied mark to begin: the opening may have been applied before this looks."""

_log = logs.logger(__name__)


class Unheard:
    """Watches one opening. Call :meth:`look` whenever the answer has not come for a while.

    ``caused``: whether the opening is why a transaction has an effect. ``session``: to be resumed;
    0: a new one. If ``connection`` says that answers always arrive, this reads nothing.
    """

    def __init__(self, connection: Connection, caused: Callable[[Effect], bool], session: int = 0) -> None:
        self._connection = connection
        self._caused = caused
        self._session = session
        self._at = -1
        self._found = 0
        """The transaction that opened or resumed the session; 0: not seen."""
        self._since: float | None = None
        """When the session was first seen, ready to be used."""

    def look(self, now: float, address: str) -> None:
        """Read the log on. ``now``: s by a clock that is never set; ``address``: for the answers.

        Raises ProviderException if the opening took effect and its answer does not arrive.
        """
        unreached = self._connection.unreached
        if unreached is None:
            return
        try:
            if not self._found:
                self._find()
            if self._since is None:
                self._since = now if self._found and self._applied() else None
            elif now - self._since >= PATIENCE_S:
                raise ProviderException(
                    f"the service has opened the session (transaction {self._found}), but its answer "
                    f"does not arrive: {unreached(address)}"
                )
        except (DriverError, StaleView) as error:
            _log.info("could not look for the opening in the log: %s", error)

    def _find(self) -> None:
        log = self._connection.log
        if self._at < 0:
            self._at = max(self._connection.applied() - _BACK, 0)
        more = True
        while more and not self._found:
            try:
                entries, more = log.after(self._at)
            except Trimmed as error:  # also where no entry begins after this txid
                self._at = error.first - 1
                continue
            for entry in entries:
                self._at = entry.last
                for transaction in entry.transactions:
                    if any(map(self._caused, transaction.effects)):
                        self._found = transaction.txid

    def _applied(self) -> bool:
        """Whether the service has done what precedes the answer: granting the lease."""
        return self._connection.leases.get(self._session or self._found) is not None
