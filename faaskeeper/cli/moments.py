"""Moments in the past, and how long ago they are, as arguments."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import click

_AGO = re.compile(r"([0-9]{1,6})(s|m|h|d)")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Moment(click.ParamType[int]):
    """A moment in the past, in ms since 1970."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        now = datetime.now(UTC)
        ago = _AGO.fullmatch(str(value))
        try:
            if ago is not None:
                at = now - timedelta(seconds=int(ago[1]) * _UNITS[ago[2]])
            else:
                at = datetime.fromisoformat(str(value)).astimezone()
        except (ValueError, OverflowError):
            self.fail(
                f"{str(value)[:40]!r} is not a time: give one like 2026-08-31T12:00:00Z (without Z or an "
                "offset: local time), or how long ago, like 90s, 15m, 2h or 3d.",
                param,
                ctx,
            )
        if at > now:
            self.fail(f"{str(value)[:40]!r} is in the future.", param, ctx)
        return int(at.timestamp() * 1000)
