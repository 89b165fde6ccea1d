"""Processes a batch of messages within the function's time, and separates the failed ones."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from faaskeeper.core.errors import Denied, DriverError, StaleView
from faaskeeper.core.log import ENTRY_BYTES

LOSSES = 50
"""Appends lost in a row to direct writers, after which a function revalidates its batch."""
_PAUSES_S = (0.02, 0.1, 0.5)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Message:
    """A message of a batch. ``identity``: the queue's id; ``sent``: ms since 1970, 0: unknown.

    ``group``: of a FIFO queue or a stream. If a message fails, later ones of its group are returned
    with it.
    """

    identity: str
    group: str
    body: bytes | None
    sent: int


def parts(messages: Sequence[Message], most: int = ENTRY_BYTES) -> Iterator[list[Message]]:
    """Split a batch into parts of about an entry's size (bytes), to check the time between them."""
    part: list[Message] = []
    size = 0
    for each in messages:
        part.append(each)
        size += len(each.body or b"")
        if size >= most:
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
    entry_bytes: int = ENTRY_BYTES,
) -> list[Message]:
    """Process messages; returns those that must be delivered again.

    ``time_left``: ms; ``reserve``: ms that must remain to start a part: the longest possible call
    to a store, and a margin. ``entry_bytes``: about the size of a part.

    If a store fails temporarily, the part is retried while time remains, then returned. After other
    failures, each message is retried alone, so that one bad message fails alone, except for later
    messages of its group, which must not overtake it.
    """
    failed: list[Message] = []
    blocked: set[str] = set()

    def give_back(messages: Sequence[Message]) -> None:
        failed.extend(messages)
        blocked.update(each.group for each in messages)

    for part in parts(messages, entry_bytes):
        failed.extend(each for each in part if each.group in blocked)
        taken = [each for each in part if each.group not in blocked]
        if not taken:
            continue
        if time_left() < reserve:
            _log.warning("returned %d messages to the queue: not enough time left", len(taken))
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
    LATER = "a store failed or refused access"
    BROKEN = "the message cannot be processed"


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
