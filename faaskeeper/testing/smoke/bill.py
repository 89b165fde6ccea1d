"""Compares a report with the bill, which clouds know a day or two later."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def compare(directory: Path, data: Mapping[str, Any], export: str) -> bool:
    """Print both."""
    raise NotImplementedError
