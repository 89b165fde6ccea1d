"""Connects to a deployment through its provider."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from faaskeeper.core.errors import DriverError, StaleView
from faaskeeper.exceptions import ProviderException
from faaskeeper.extras import missing

if TYPE_CHECKING:
    from faaskeeper.config import Config
    from faaskeeper.core.connection import Connection


class Provider(Protocol):
    """An entry point of the group ``faaskeeper.providers``: a module or an object."""

    def connect(self, config: Config, port: int) -> Connection:
        """A client's connection to the deployment. Raises DriverError that names the remedy."""


def connect(config: Config, port: int = -1) -> Connection:
    """Connect to a deployment. Raises ProviderException."""
    from faaskeeper import registry

    try:
        provider: Provider = registry.load(config.provider_spec.connection)
        return provider.connect(config, port if port != -1 else config.port)
    except (DriverError, StaleView) as error:
        raise ProviderException(str(error)) from error
    except ImportError as error:  # of the provider itself, or of a dependency that it imports late
        raise _unusable(config.provider_name, error) from error


def _unusable(name: str, error: ImportError) -> ProviderException:
    extra = missing(error)
    if extra is not None:
        return ProviderException(f"the provider {name!r} cannot be used here: {extra}")
    return ProviderException(f"the provider {name!r} cannot be used here ({error}): install what it needs")
