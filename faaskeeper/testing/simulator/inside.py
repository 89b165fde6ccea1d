"""What the checks must see of the code under test, and its public interface does not show.

The simulator uses no other private name of a client or a function.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.client.futures import Future
from faaskeeper.client.runtime import Runtime
from faaskeeper.client.session import Session
from faaskeeper.core.view import View


class Kept(NamedTuple):
    """How many records or znodes a function keeps in memory, and how many it may keep."""

    number: int
    most: int


# ---- clients -------------------------------------------------------------------------------------


def session_of(client: FaaSKeeperClient) -> Session | None:
    """The session of a client, if it has one."""
    return client._session


def runtime_of(client: FaaSKeeperClient) -> Runtime:
    """Threads and clock of a client."""
    return client._runtime


def unanswered(session: Session) -> list[Future[Any]]:
    """The futures of requests that are not answered."""
    return [each.waiter.future for each in session.outbox._unanswered.values()]


def has_requests(session: Session) -> bool:
    """Whether a session keeps requests or answers in memory."""
    outbox = session.outbox
    return bool(outbox._unanswered or outbox._early or outbox._unsent)


def least_of(session: Session) -> dict[str, int]:
    """The oldest txid that each path may be shown at, for paths that have one."""
    return session.rules._least


# ---- functions -----------------------------------------------------------------------------------


def view_of(function: Any) -> View | None:
    """The view of a writer or a distributor. None: it has none now, or is another function."""
    view: View | None = getattr(function, "_view", None)
    return view


def limit_contents(function: Any, most: int) -> None:
    """Set how many records the distributor of a function may keep."""
    function._distributor._MAX_CONTENTS = most


def contents_of(function: Any) -> Kept:
    """The records that the distributor of a function keeps."""
    distributor = function._distributor
    return Kept(len(distributor._contents), distributor._MAX_CONTENTS)


def evictable(view: View) -> Kept:
    """The znodes of a view that user storage has too."""
    number = sum(1 for node in view._nodes.values() if node.txid <= view.applied)
    return Kept(number, view._max_nodes)
