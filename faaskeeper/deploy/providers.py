"""The deployment tools of a configuration's provider, imported on use."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from faaskeeper import registry
from faaskeeper.config import Config
from faaskeeper.core.errors import DriverError
from faaskeeper.exceptions import ProviderException
from faaskeeper.extras import missing

if TYPE_CHECKING:
    from faaskeeper.deploy.costs import Costs
    from faaskeeper.deploy.deadletters import DeadLetters
    from faaskeeper.deploy.deployment import Deployment
    from faaskeeper.deploy.findings import Checks


def deployment_of(config: Config, pause: Callable[[float], None] = time.sleep) -> Deployment:
    """The deployment of a configuration. ``pause``: waits this many seconds between two polls."""
    made: Deployment = _load(config, config.provider_spec.deployment)(config, pause)
    return made


def doctor_of(config: Config) -> Checks:
    """The checks of a configuration's deployment."""
    reference = config.provider_spec.doctor
    if not reference:
        raise ProviderException(f"there are no checks for the provider {config.provider_name!r}")
    made: Checks = registry.load(reference)(config)
    return made


def dead_letters_of(config: Config) -> DeadLetters:
    """The dead letters of a configuration's deployment."""
    spec = config.provider_spec
    make = _load(config, spec.dead_letters)
    made: DeadLetters = make(_load(config, spec.service)(config))
    return made


def costs_of(config: Config) -> Costs | None:
    """The prices of a configuration's operations; None if they are unknown."""
    reference = config.provider_spec.costs
    return _load(config, reference)(config) if reference else None


def priced() -> list[str]:
    """Names of the providers with known prices."""
    return [each.name for each in registry.PROVIDERS.values() if each.costs]


@contextmanager
def translated_errors() -> Iterator[None]:
    """Raise a cloud's errors and missing packages as ProviderException."""
    try:
        yield
    except DriverError as error:
        raise ProviderException(str(error)) from error
    except ImportError as error:
        needed = missing(error)
        if needed is None:
            raise
        raise needed from error


def _load(config: Config, reference: str) -> Any:
    if not reference:
        known = ", ".join(map(repr, registry.deployable()))
        raise ProviderException(
            f"cannot deploy to {config.provider_name!r}: deployable providers are {known}"
        )
    return registry.load(reference)
