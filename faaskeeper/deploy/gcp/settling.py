"""Errors of a deployment that end by themselves: something that was just made is not known everywhere.

A service is enabled, and an account or a right is known, only minutes after the call that made it has
succeeded; the id of a removed database is free again after five. Terraform does not wait for that. So a
change that failed for such a reason alone is made again. What succeeded stays, and is not made twice.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TypeVar

from faaskeeper.deploy.deployment import Progress
from faaskeeper.exceptions import ProviderException

WITHIN_S = 15 * 60.0
"""How long a change is repeated."""
_FIRST_PAUSE_S = 10.0
_MOST_PAUSE_S = 60.0

REASONS: tuple[tuple[str, str], ...] = (
    (
        r"API has not been used in project \S+ before or it is disabled|\bSERVICE_DISABLED\b",
        "a service that was just enabled is not known everywhere",
    ),
    (
        r"[Ss]ervice account \S+ does not exist|[Uu]nknown service account",
        "an account that was just made is not known everywhere",
    ),
    (
        r"iam\.service[Aa]ccounts\.actAs.{0,4} (denied on service account|for the resource) "
        r".{0,200}may not exist",
        "an account that was just made is not known everywhere",
    ),
    (
        r"Access to bucket gcf-v2-\S+ denied|does not have storage\.objects\.get access",
        "Cloud Build's right to the functions' code is not known everywhere",
    ),
    (
        r"Unable to retrieve the repository metadata|"
        r"Permission .{0,2}artifactregistry\.repositories\.\w+.{0,2} denied",
        "the right to the functions' images is not known everywhere",
    ),
    (
        r"concurrent policy changes",
        "somebody else changes rights of the project, too",
    ),
    (
        r"Database ID .{1,80} is not available .{0,80}retry in \d+ seconds",
        "a database was removed a few minutes ago, and its id is not free yet",
    ),
)
"""What an error says, as an expression, and why it ends by itself.

From Google's own messages: of its documentation, of issues of Terraform's provider, of projects with it.
"""

_Made = TypeVar("_Made")


class ToolFailed(ProviderException):
    """A command failed. The message has the end of its output, which is kept whole in ``output``."""

    def __init__(self, message: str, output: str = "") -> None:
        super().__init__(message)
        self.output = output or message


def settling(output: str) -> str | None:
    """Why a command's errors end by themselves; None if one of them does not."""
    blocks = re.split(r"(?m)^\W*Error: ", output)
    problems = blocks[1:] or blocks
    found = [_reason(" ".join(each.split())) for each in problems]
    return None if None in found else found[0]


def _reason(problem: str) -> str | None:
    plain = re.sub(r"[│╷╵] ?", "", problem)  # Terraform frames its errors, and wraps their lines
    return next((why for pattern, why in REASONS if re.search(pattern, plain)), None)


def until_settled(
    act: Callable[[], _Made],
    progress: Progress,
    pause: Callable[[float], None],
    clock: Callable[[], float] = time.monotonic,
) -> _Made:
    """Make a change, and again while it fails for reasons that end by themselves.

    Raises ToolFailed for others, and after 15 minutes.
    """
    began = clock()
    wait = _FIRST_PAUSE_S
    while True:
        try:
            return act()
        except ToolFailed as error:
            why = settling(error.output)
            left = began + WITHIN_S - clock()
            if why is None or wait > left:
                raise
            progress(f"{why}: trying again in {wait:.0f} s, for {left / 60:.0f} more minutes at most")
        pause(wait)
        wait = min(wait * 2, _MOST_PAUSE_S)
