"""Moments of the past as arguments: a transaction, a time, or how long ago; and what happened then."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, Union

import click

from faaskeeper.cli.errors import Failed
from faaskeeper.cli.times import Future, past

if TYPE_CHECKING:
    from faaskeeper.cli.context import Context
    from faaskeeper.session.history import Revision

Moment = Union[int, datetime]
"""See :data:`faaskeeper.session.history.Moment`."""
_TOGETHER = 100


class MomentType(click.ParamType[Moment]):
    """A transaction (42, 0x2a), a time (2026-01-31T12:00, local unless it has a zone), or 2h: ago."""

    name = "TXID|TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Moment:
        if isinstance(value, (int, datetime)):
            return value
        text = str(value)
        if re.fullmatch("[0-9]{1,19}|0x[0-9a-fA-F]{1,16}", text):
            return int(text, 0 if text.startswith("0x") else 10)
        try:
            return past(text)
        except Future:
            return self.fail(f"{text[:40]!r} is in the future.", param, ctx)
        except (ValueError, OverflowError):
            return self.fail(
                f"{text[:40]!r} is neither a transaction (42, 0x2a) nor a time (2026-01-31T12:00, or 2h: two "
                "hours ago).",
                param,
                ctx,
            )


at_option = click.option("--at", "at", type=MomentType(), help="As of this transaction or time.")


def when(ms: int) -> str:
    """A time to show, to the millisecond."""
    return datetime.fromtimestamp(ms / 1000).astimezone().isoformat(timespec="milliseconds")


def rows_of(context: Context, found: Iterable[Revision]) -> Iterator[Revision]:
    """Revisions, read some at a time, so that an interrupt stops the wait for them."""
    rows = iter(found)
    while some := context.call(lambda: list(islice(rows, _TOGETHER))):
        yield from some


def check_known(context: Context, path: str) -> None:
    """Raise Failed for a path without revisions, if it does not exist either."""
    if context.call(context.client.exists, path) is None:
        raise Failed(
            f"the node {path} does not exist, and the retained history has no change of it that you may read",
            3,
        )


def who(row: Revision) -> str:
    """The session and its identities."""
    return " ".join([row.session or "service", *(row.by or ())])
