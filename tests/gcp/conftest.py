"""Emulators, one of each for the whole run, and what a test needs of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from faaskeeper.providers.gcp.clients import Gcp
from faaskeeper.testing.conformance.harness import patient_clients
from tests.backends import no_clients_left
from tests.gcp import backends


@pytest.fixture(autouse=True, scope="session")
def _patient_clients() -> Iterator[None]:
    with patient_clients():
        yield


@pytest.fixture(autouse=True)
def _no_clients_left(request: pytest.FixtureRequest) -> Iterator[None]:
    with no_clients_left(request.node):
        yield


@pytest.fixture(scope="session")
def emulators() -> Iterator[dict[str, str]]:
    """The environment by which they are found; set, too."""
    with backends.emulators() as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        for name in ("GOOGLE_CLOUD_PROJECT", "GOOGLE_APPLICATION_CREDENTIALS"):
            patch.delenv(name, raising=False)
        yield environment


@pytest.fixture
def gcp(emulators: dict[str, str]) -> Iterator[Gcp]:
    """The code's own way to call a project of its own."""
    with backends.gcp() as made:
        yield made
