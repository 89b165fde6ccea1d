"""What a session shows, at the instant it does: for a checker that looks on."""

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
    """Does nothing; a checker overrides what it wants to see. What it raises, the session's caller gets."""

    def asked(self, operation: Operation, request: object) -> None:
        """A write was given to the session; ``request`` stands for it, in :meth:`reads` above all."""

    def answered(self, request: object, outcome: Outcome) -> None:
        """Its outcome came, and was handed on in the session's order."""

    def reads(self) -> object:
        """A read begins; what is returned is given to :meth:`has_read`."""
        return None

    def has_read(self, began: object) -> None:
        """The read is done: its caller is about to have the result."""

    def shown(self, path: str, record: Record | None) -> None:
        """The record of a path may be shown as it is."""

    def shown_together(self, records: dict[str, Record | None], listed: Sequence[str]) -> None:
        """Records may be shown as of one transaction; those ``listed`` with the names of all children."""

    def watched(self, watch: Watch, record: Record | None) -> None:
        """A watch was left, by a read that shows this record, or to stay (None)."""

    def forgotten(self, path: str, watches: Sequence[Watch]) -> None:
        """Watches of a path were removed: they fire no more."""

    def fired(self, callback: WatchCallbackType, event: WatchedEvent) -> None:
        """An event is handed on."""

    def performed(self, command: Command, answer: object) -> None:
        """A command was answered."""


NOBODY = Observer()
