"""Finds the provider of a deployment."""

from __future__ import annotations

import importlib
from typing import Protocol, cast

from faaskeeper.config import ENTRY_POINTS, Config
from faaskeeper.core.connection import Connection
from faaskeeper.core.errors import DriverError, StaleView
from faaskeeper.exceptions import ProviderException
from faaskeeper.extras import missing

_BUILT_IN = {name: f"faaskeeper.providers.{name}" for name in ("local", "aws", "gcp")}


class Provider(Protocol):
    """What an entry point of the group ``faaskeeper.providers`` is: a module or object with this."""

    def connect(self, config: Config, port: int) -> Connection:
        """A client's way to the deployment. Raises DriverError with what a person can do."""


def connect(config: Config, port: int = -1) -> Connection:
    """Connect to a deployment. Raises ProviderException."""
    provider = _provider(config.provider_name)
    try:
        return provider.connect(config, port if port != -1 else config.port)
    except (DriverError, StaleView) as error:
        raise ProviderException(str(error)) from error
    except ImportError as error:  # a provider may import late what it is built on
        raise _unusable(config.provider_name, error) from error


def _unusable(name: str, error: ImportError) -> ProviderException:
    extra = missing(error)
    if extra is not None:
        return ProviderException(f"the provider {name!r} cannot be used here: {extra}")
    return ProviderException(f"the provider {name!r} cannot be used here ({error}): install what it needs")


def _provider(name: str) -> Provider:
    """Built-in providers are imported by name: looking through all entry points takes longer than that."""
    module = _BUILT_IN.get(name)
    if module is not None:
        try:
            return cast(Provider, importlib.import_module(module))
        except ImportError as error:
            raise _unusable(name, error) from error
    from importlib.metadata import entry_points

    for entry in entry_points(group=ENTRY_POINTS):
        if entry.name == name:
            try:
                return cast(Provider, entry.load())
            except ImportError as error:
                raise _unusable(name, error) from error
    raise ProviderException(f"there is no provider {name!r}; is its package installed?")
