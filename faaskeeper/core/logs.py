"""Loggers of the standard library that load it when something is logged.

``logging`` takes a fifth of the time that importing a client takes, and most processes log nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from logging import Logger


class _LateLogger:
    """Stands for a logger until its first use; after that, its methods are the logger's own."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        import logging

        found = getattr(logging.getLogger(self._name), attribute)
        if callable(found):
            setattr(self, attribute, found)
        return found


def logger(name: str) -> Logger:
    """The logger of this name."""
    made: Any = _LateLogger(name)
    return made  # type: ignore[no-any-return]
