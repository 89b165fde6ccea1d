"""Answers to sessions, and the wake-up for the distributor's function, which carries them."""

from __future__ import annotations

from collections.abc import Sequence

from faaskeeper.core import codec, log
from faaskeeper.core.log import Entry
from faaskeeper.core.requests import Epoch, Outcome, Reply
from faaskeeper.core.tuples import NamedTuple


class Answer(NamedTuple):
    """The outcomes to send to a session as soon as everything up to the view's head is applied."""

    session: int
    incarnation: int
    outcomes: tuple[tuple[int, Outcome], ...]
    address: str
    sealed: bytes
    resend: int = 0
    nonce: str = ""
    current: int = 0


def reply_of(answer: Answer, epoch: Epoch, now: int) -> Reply:
    """The reply that carries an answer. ``now``: the service's clock in ms, 0 if unknown."""
    return Reply(
        answer.session,
        answer.incarnation,
        answer.outcomes,
        epoch,
        now,
        answer.resend,
        answer.nonce,
        answer.current,
    )


def wake_up(entry: Entry | None, upto: int, answers: Sequence[Answer]) -> bytes:
    """Encode a wake-up for the distributor's function: apply up to ``upto``, then answer.

    It carries a copy of the entry, so that in the steady state the distributor does not read the
    log.
    """
    rows = [
        [
            each.session,
            each.incarnation,
            [[cxid, *codec.outcome(outcome)] for cxid, outcome in each.outcomes],
            each.address,
            each.sealed.hex(),
            each.resend,
            each.nonce,
            each.current,
        ]
        for each in answers
    ]
    if entry is None:
        return codec.frame([upto, rows, None])
    item = log.encode(entry)
    data = item.pop("data")
    if not isinstance(data, bytes):
        raise AssertionError("an entry's data is bytes")
    return codec.frame([upto, rows, item], (data,))


class WakeUp(NamedTuple):
    """A wake-up for the distributor's function."""

    upto: int
    answers: tuple[Answer, ...]
    entry: Entry | None


def to_wake_up(body: bytes) -> WakeUp:
    """Decode a wake-up."""
    (upto, rows, item), at = codec.unframe(body)
    answers = tuple(
        Answer(
            row[0],
            row[1],
            tuple((each[0], codec.to_outcome(each[1:])) for each in row[2]),
            row[3],
            bytes.fromhex(row[4]),
            *row[5:],
        )
        for row in rows
    )
    if item is None:
        return WakeUp(upto, answers, None)
    return WakeUp(upto, answers, log.decode({**item, "data": body[at:]}))
