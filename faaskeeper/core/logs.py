"""Loggers of the standard library that load it when something is logged.

``logging`` takes a fifth of the time that importing a client takes, and most processes log nothing.
Nobody has configured a logger before ``logging`` is loaded. Until then a line below WARNING would be
dropped, so it is dropped here, and does not load it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from logging import Handler, Logger

INFO, _WARNING = 20, 30


class _LateLogger:
    """Stands for a logger until its first use; after that, its methods are the logger's own."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        try:
            import logging

            for each in list(_attached):
                each.attach()
        except (OSError, ImportError):  # no descriptor is free, of which the line may tell
            return _bare
        found = getattr(logging.getLogger(self._name), attribute)
        if callable(found):
            setattr(self, attribute, found)
        return found

    def isEnabledFor(self, level: int) -> bool:
        enabled: bool = self.__getattr__("isEnabledFor")(level) if _loaded() else level >= _WARNING
        return enabled

    def info(self, *message: Any, **more: Any) -> None:
        if _loaded():
            self.__getattr__("info")(*message, **{"stacklevel": 2, **more})


def _bare(message: str, *arguments: object, **more: Any) -> None:
    """Log without ``logging``, as that does where nobody has configured it."""
    print(message % arguments, file=sys.stderr)


def _loaded() -> bool:
    return "logging" in sys.modules


def logger(name: str) -> Logger:
    """The logger of this name."""
    made: Any = _LateLogger(name)
    return made  # type: ignore[no-any-return]


class Attached:
    """A handler of a logger, attached before the first line is logged. This does not load ``logging``.

    ``make``: makes the handler.
    """

    def __init__(self, name: str, make: Callable[[], Handler]) -> None:
        self._name = name
        self._make = make
        self._made: dict[str, Handler] = {}
        _attached.append(self)
        if _loaded():
            self.attach()

    def attach(self) -> None:
        """Attach the handler, unless that was done."""
        import logging

        if not self._made:
            self._made.setdefault("handler", self._make())  # of threads that come at once, one sets it
        logging.getLogger(self._name).addHandler(self._made["handler"])

    def detach(self) -> None:
        """Detach the handler, for good."""
        if self in _attached:
            _attached.remove(self)
        if self._made:
            import logging

            logging.getLogger(self._name).removeHandler(self._made["handler"])


_attached: list[Attached] = []
"""As global as the loggers themselves."""
