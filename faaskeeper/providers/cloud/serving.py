"""Handing a function what a queue delivered: as a batch, within its time, and what failed told apart."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from faaskeeper.core.errors import Denied, DriverError, StaleView
from faaskeeper.core.log import ENTRY_BYTES

LOSSES = 50
"""Appends lost in a row to direct writers after which a function looks at its batch, and its time, anew."""
_PAUSES_S = (0.02, 0.1, 0.5)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Message:
    """A message of a batch. ``identity``: by which it is given back; ``sent``: ms since 1970, 0: not known.

    ``group``: of a FIFO queue or a stream; what follows a failed message of its group is given back with it.
    """

    identity: str
    group: str
    body: bytes | None
    sent: int


def parts(messages: Sequence[Message]) -> Iterator[list[Message]]:
    """A batch in parts of about an entry's size, so that time can be looked at in between."""
    part: list[Message] = []
    size = 0
    for each in messages:
        part.append(each)
        size += len(each.body or b"")
        if size >= ENTRY_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def serve(
    messages: Sequence[Message],
    handle: Callable[[Sequence[bytes]], None],
    time_left: Callable[[], int],
    reserve: int,
    pause: Callable[[float], None] = time.sleep,
) -> list[Message]:
    """Hand messages to a function; returns those that must come again.

    ``time_left``: ms; ``reserve``: ms of these without which nothing more is begun: the longest that one
    call to a store may last, and some.

    What a store refuses for now is tried again while there is time, then given back. What fails for another
    reason is tried message by message, so that one that cannot be handled takes no others with it, but those
    that follow it in its own group: they must not overtake it.
    """
    failed: list[Message] = []
    blocked: set[str] = set()

    def give_back(messages: Sequence[Message]) -> None:
        failed.extend(messages)
        blocked.update(each.group for each in messages)

    for part in parts(messages):
        failed.extend(each for each in part if each.group in blocked)
        taken = [each for each in part if each.group not in blocked]
        if not taken:
            continue
        if time_left() < reserve:
            _log.warning("%d messages are given back: the time is up", len(taken))
            give_back(taken)
            continue
        outcome = _attempt(taken, handle, time_left, reserve, pause)
        if outcome is _Outcome.LATER or (outcome is _Outcome.BROKEN and len(taken) == 1):
            give_back(taken)
        elif outcome is _Outcome.BROKEN:
            for each in taken:
                fits = each.group not in blocked and time_left() >= reserve
                if not fits or _attempt([each], handle, time_left, reserve, pause) is not _Outcome.DONE:
                    give_back([each])
    return failed


class _Outcome(Enum):
    DONE = "done"
    LATER = "a store does not let us, or not now"
    BROKEN = "it cannot be handled"


def _attempt(
    part: Sequence[Message],
    handle: Callable[[Sequence[bytes]], None],
    time_left: Callable[[], int],
    reserve: int,
    pause: Callable[[float], None],
) -> _Outcome:
    bodies = [each.body for each in part if each.body is not None]
    for seconds in (*_PAUSES_S, 0.0):
        try:
            handle(bodies)
        except (DriverError, StaleView) as error:
            _log.warning("the function failed on %d messages: %s", len(part), error)
            if isinstance(error, Denied) or time_left() < reserve:
                break
            pause(seconds)
        except Exception:
            _log.exception("the function failed on %d messages", len(part))
            return _Outcome.BROKEN
        else:
            return _Outcome.DONE
    return _Outcome.LATER
