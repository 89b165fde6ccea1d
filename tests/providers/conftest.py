"""Processes that share an embedded service; they end with the test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.providers.members import Join, Member


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "service"


@pytest.fixture
def join(directory: Path) -> Iterator[Join]:
    """Starts processes that use one directory."""
    members: list[Member] = []

    def start(where: Path = directory, **options: object) -> Member:
        members.append(Member(where, **options))
        return members[-1]

    yield start
    for member in members:
        member.kill()
