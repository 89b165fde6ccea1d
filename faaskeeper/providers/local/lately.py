"""The recent lines that an embedded service has logged, for ``logs()``."""

from __future__ import annotations

import logging
from collections import deque


class Lately(logging.Handler):
    """Adds each line of the functions to ``lines``."""

    def __init__(self, lines: deque[str]) -> None:
        super().__init__(logging.INFO)
        self._lines = lines
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        self._lines.append(f"{self.format(record)}\n")
