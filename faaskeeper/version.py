"""Versions of nodes, as in the published client."""

from __future__ import annotations

from functools import total_ordering


@total_ordering
class SystemCounter:
    """A txid that supports ``==``, ``<`` and ``>``."""

    __slots__ = ("_txid",)

    def __init__(self, txid: int) -> None:
        self._txid = txid

    @property
    def sum(self) -> int:
        """The txid."""
        return self._txid

    def serialize(self) -> list[int]:
        """The txid in a list."""
        return [self._txid]

    def __eq__(self, other: object) -> bool:
        return self._txid == other._txid if isinstance(other, SystemCounter) else NotImplemented

    def __lt__(self, other: object) -> bool:
        return self._txid < other._txid if isinstance(other, SystemCounter) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._txid)

    def __repr__(self) -> str:
        return f"SystemCounter({self._txid})"


class Version:
    """The transaction that created or last modified a node."""

    __slots__ = ("_system",)

    def __init__(self, system: SystemCounter) -> None:
        self._system = system

    @property
    def system(self) -> SystemCounter:
        """The transaction's counter."""
        return self._system

    def serialize(self) -> dict[str, list[int]]:
        """Lists of integers, for JSON."""
        return {"system": self._system.serialize()}

    def __repr__(self) -> str:
        return f"Version({self._system.sum})"
