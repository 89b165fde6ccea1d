"""Hooks for a checker: a session reports what it shows, at the instant it shows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from faaskeeper.core.records import Record
from faaskeeper.core.requests import Operation, Outcome
from faaskeeper.session.commands import Command
from faaskeeper.watch import WatchCallbackType, WatchedEvent

if TYPE_CHECKING:
    from faaskeeper.session.watching import Watch


class Observer:
    """Does nothing; a checker overrides the hooks that it needs.

    Its errors reach the session's caller.
    """

    def asked(self, operation: Operation, request: object) -> None:
        """The session received a write; ``request`` identifies it, above all in :meth:`reads`."""

    def answered(self, request: object, outcome: Outcome) -> None:
        """The write's outcome was delivered, in the session's order."""

    def reads(self) -> object:
        """A read begins; the result is passed to :meth:`has_read`."""
        return None

    def has_read(self, began: object) -> None:
        """The read is done: its caller is about to receive the result."""

    def shown(self, path: str, record: Record | None) -> None:
        """The record of a path may be shown as it is."""

    def shown_together(self, records: dict[str, Record | None], listed: Sequence[str]) -> None:
        """Records may be shown as of one transaction; ``listed`` ones with all children's names."""

    def watched(self, watch: Watch, record: Record | None) -> None:
        """A watch was set, by a read that returns this record; None: a watch that stays."""

    def forgotten(self, path: str, watches: Sequence[Watch]) -> None:
        """Watches of a path were removed: they will not fire."""

    def fired(self, callback: WatchCallbackType, event: WatchedEvent) -> None:
        """An event is delivered."""

    def performed(self, command: Command, answer: object) -> None:
        """A command was answered."""


NOBODY = Observer()
