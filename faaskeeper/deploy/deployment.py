"""The interface of a deployment on any cloud."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from faaskeeper.config import Config
from faaskeeper.deploy.package import Changed, as_it_is

Progress = Callable[[str], None]
"""Called after each step, with a line of text."""


class Plan(NamedTuple):
    """What :meth:`Deployment.deploy` would change, one line each.

    ``notes``: what else a person should know, such as drift. ``refused``: why it would change
    nothing, after all; empty: it would.
    """

    changes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    refused: str = ""


class Deployment(Protocol):
    """A deployment on a cloud.

    Each method may raise DriverError and the exceptions of :mod:`faaskeeper.exceptions`. The
    messages say how to fix the problem.
    """

    config: Config

    # ---- without credentials -------------------------------------------------------------

    def no_credentials(self) -> str:
        """Why this machine has no credentials for the cloud; empty: it has some."""

    def outline(self) -> list[str]:
        """The resources that the configuration asks for, by the template alone, one per line."""

    def rights(self) -> list[str]:
        """What deploying needs to be allowed to do, one line for each service."""

    # ---- deploying -----------------------------------------------------------------------

    def prepare(self, progress: Progress) -> None:
        """Wait for changes that are under way, until a plan can be made."""

    def changes(self) -> Plan:
        """What :meth:`deploy` would change; changes nothing."""

    def preliminary(self) -> dict[str, object]:
        """The client configuration as far as it is known before the deployment."""

    def deploy(self, progress: Progress) -> dict[str, object]:
        """Create or update the deployment as planned; returns the client configuration.

        What dies or fails in the middle is completed by the next call.
        """

    def code_changes(self, progress: Progress, *, back: bool = False) -> Plan:
        """What :meth:`update_code`, or :meth:`roll_back`, would change; changes nothing.

        Raises ProviderException if there is no deployment, or no earlier code.
        """

    def update_code(self, progress: Progress, changed: Changed = as_it_is) -> None:
        """Update only the functions' code, to this version; everything else stays as deployed.

        ``changed``: makes another archive of it, for tests of a deployment.
        """

    def roll_back(self, progress: Progress) -> None:
        """Let the functions run the code from before the last update again."""

    # ---- removing ------------------------------------------------------------------------

    def holdings(self) -> list[str]:
        """Resources that :meth:`clean` would remove, one per line."""

    def clean(self, progress: Progress) -> None:
        """Remove the deployment and all its data, in whatever state it is."""

    def close(self) -> None:
        """Close all connections, and discard a plan that was not applied."""


def client_configuration(config: Config, section: Mapping[str, object]) -> dict[str, object]:
    """The client configuration, a JSON object, without secrets. ``section``: the provider's section.

    It also has what deploying takes, so that it can be deployed again.
    """
    benchmarking = {
        "benchmarking": config.benchmarking,
        "benchmarking-frequency": config.benchmarking_frequency,
    }
    return {
        "cloud-provider": config.provider_name,
        "deployment-name": config.deployment_name,
        "deployment-region": config.deployment_region,
        "user-storage": config.user_storage.value,
        "worker-queue": config.worker_queue.value,
        "distributor-queue": config.distributor_queue.value,
        "client-channel": config.client_channel.value,
        "heartbeat-frequency": config.heartbeat_frequency,
        "session-timeout": config.session_timeout,
        "port": config.port,
        "verbose": config.verbose,
        "configuration": benchmarking,
        "tags": dict(config.tags),
        config.provider_name: dict(section),
    }
