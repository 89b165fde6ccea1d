"""Emulators, one of each for the whole run, and what a test needs of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from faaskeeper.providers.aws.clients import Aws
from faaskeeper.testing.conformance.harness import patient_clients
from tests.aws import backends
from tests.backends import no_clients_left


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of nobody."""
    for name, value in backends.KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)


@pytest.fixture(autouse=True, scope="session")
def _patient_clients() -> Iterator[None]:
    with patient_clients():
        yield


@pytest.fixture(autouse=True)
def _no_clients_left(request: pytest.FixtureRequest) -> Iterator[None]:
    with no_clients_left(request.node):
        yield


@pytest.fixture(scope="session")
def ministack() -> Iterator[str]:
    """Its endpoint."""
    with backends.ministack() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def dynamodb_local() -> Iterator[str]:
    """Its endpoint."""
    with backends.dynamodb_local() as endpoint:
        yield endpoint


@pytest.fixture
def aws(ministack: str) -> Iterator[Aws]:
    """The code's own way to call ministack."""
    with backends.aws(ministack) as made:
        yield made
