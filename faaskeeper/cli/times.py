"""Moments in the past, and how long ago they are, as arguments."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

import click

_AGO = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([smhdw])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class Future(ValueError):
    """A time is in the future."""


def past(text: str) -> datetime:
    """The time that a text means: of ISO 8601, local without a zone, or how long ago it was (2h).

    Raises ValueError or OverflowError: it means none; and Future.
    """
    now = datetime.now().astimezone()
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return now - timedelta(seconds=float(ago[1]) * _UNITS[ago[2]])
    at = datetime.fromisoformat(text).astimezone()
    if at > now:
        raise Future
    return at


class Moment(click.ParamType[int]):
    """A moment in the past, in ms since 1970."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return int(past(str(value)).timestamp() * 1000)
        except Future:
            self.fail(f"{str(value)[:40]!r} is in the future.", param, ctx)
        except (ValueError, OverflowError):
            self.fail(
                f"{str(value)[:40]!r} is not a time: give one like 2026-08-31T12:00:00Z (without Z or an "
                "offset: local time), or how long ago, like 90s, 15m, 2h, 3d or 1w.",
                param,
                ctx,
            )
