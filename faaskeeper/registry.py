"""The providers: the valid values of their configurations, and where their parts are.

Built-in providers are in a table. Others are packages with an entry point in the group
:data:`ENTRY_POINTS`. They are looked up only for a name that is not in the table, because the
lookup takes longer than the imports of a client. A part is named by a reference, ``MODULE`` or
``MODULE:NAME``. :func:`load` imports it on use; this module imports nothing of a provider.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from faaskeeper.core.tuples import NamedTuple

ENTRY_POINTS = "faaskeeper.providers"
ANY = "*"
"""In the values of a key: stands for all further values that the key supports."""


class Defaults(NamedTuple):
    """Default values of a configuration. ``deployment_region`` None: the configuration must set it.

    ``heartbeat_frequency``, ``session_timeout``: s.
    """

    deployment_region: str | None
    heartbeat_frequency: int
    session_timeout: int
    user_storage: str


class ProviderSpec(NamedTuple):
    """A provider. The first value of a key is its default."""

    name: str
    connection: str
    """Reference to a :class:`faaskeeper.client.connect.Provider`, a module or an object."""
    worker_queues: tuple[str, ...]
    distributor_queues: tuple[str, ...]
    client_channels: tuple[str, ...]
    defaults: Defaults
    top_level_keys: Mapping[str, str] = {}
    """Maps top-level keys of the published system's files to keys of the provider's section."""
    service: str = ""
    """Reference to a class that makes a deployment's drivers, called with a configuration."""
    deployment: str = ""
    """Reference to a :class:`faaskeeper.deploy.deployment.Deployment`.

    It is called with a configuration and a function that sleeps for some seconds. Empty: ``fk``
    cannot deploy the provider.
    """
    doctor: str = ""
    """Reference to :class:`faaskeeper.deploy.findings.Checks`, called with a configuration."""
    dead_letters: str = ""
    """Reference to a :class:`faaskeeper.deploy.deadletters.DeadLetters`, called with a service."""
    backups: str = ""
    """Reference to a :class:`faaskeeper.backup.driver.Backups`, called with a configuration."""
    at_rest: str = ""
    """Reference to a function of a configuration, which opens a deployment at rest.

    It returns a :class:`faaskeeper.core.atrest.AtRest`, or None if it is not known to be at rest.
    """
    costs: str = ""
    """Reference to a :class:`faaskeeper.deploy.costs.Costs`, called with a configuration.

    Empty: the prices are unknown.
    """
    client: str = ""
    """Reference to the kind of :class:`faaskeeper.client.FaaSKeeperClient` that serves it; empty: the
    usual one."""


_EMBEDDED = Defaults("local", 5, 30, "key-value")
_CLOUD = Defaults(None, 60, 180, "hybrid")
_THIRD_PARTY = ProviderSpec(
    name="",
    connection="",
    worker_queues=("local", ANY),
    distributor_queues=("inline", ANY),
    client_channels=("local", ANY),
    defaults=_EMBEDDED,
)
PROVIDERS: dict[str, ProviderSpec] = {
    each.name: each
    for each in (
        ProviderSpec(
            name="local",
            connection="faaskeeper.providers.local",
            worker_queues=("local", "direct"),
            distributor_queues=("inline", "local"),
            client_channels=("local", "tcp"),
            defaults=_EMBEDDED,
            doctor="faaskeeper.deploy.local:LocalDoctor",
            backups="faaskeeper.providers.local.backups:LocalBackups",
            at_rest="faaskeeper.providers.local.atrest:at_rest",
        ),
        ProviderSpec(
            name="aws",
            connection="faaskeeper.providers.aws",
            worker_queues=("sqs", "sqs-unordered", "dynamodb", "direct"),
            distributor_queues=("inline", "sqs", "dynamodb"),
            client_channels=("sqs", "tcp"),
            defaults=_CLOUD,
            service="faaskeeper.providers.aws.service:AwsService",
            deployment="faaskeeper.deploy.aws.deployment:AwsDeployment",
            doctor="faaskeeper.deploy.aws.doctor:AwsDoctor",
            dead_letters="faaskeeper.deploy.aws.deadletters:AwsDeadLetters",
            backups="faaskeeper.deploy.aws.backups:AwsBackups",
            costs="faaskeeper.deploy.aws.costs:AwsCosts",
        ),
        ProviderSpec(
            name="gcp",
            connection="faaskeeper.providers.gcp",
            worker_queues=("pubsub", "pubsub-ordered", "direct"),
            distributor_queues=("inline", "pubsub", "pubsub-ordered"),
            client_channels=("pubsub", "tcp"),
            defaults=_CLOUD,
            top_level_keys={"project-id": "project-id", "project-credentials": "credentials"},
            service="faaskeeper.providers.gcp.service:GcpService",
            deployment="faaskeeper.deploy.gcp.deployment:GcpDeployment",
            doctor="faaskeeper.deploy.gcp.doctor:GcpDoctor",
            dead_letters="faaskeeper.deploy.gcp.deadletters:GcpDeadLetters",
            backups="faaskeeper.deploy.gcp.backups:GcpBackups",
            costs="faaskeeper.deploy.gcp.costs:GcpCosts",
        ),
        ProviderSpec(
            name="zookeeper",
            connection="faaskeeper.zookeeper",
            worker_queues=("local",),
            distributor_queues=("inline",),
            client_channels=("local",),
            defaults=_EMBEDDED,
            client="faaskeeper.zookeeper.client:ZooKeeperClient",
        ),
    )
}
"""The built-in providers by name."""


def find(name: object) -> ProviderSpec | None:
    """The provider with this name, built in or installed; None if there is none."""
    if not isinstance(name, str):
        return None
    return PROVIDERS.get(name) or _installed().get(name)


def names() -> list[str]:
    """The names that :func:`find` knows, the built-in ones first."""
    return [*PROVIDERS, *sorted(_installed().keys() - PROVIDERS.keys())]


def deployable() -> list[str]:
    """The names of the providers that ``fk deploy`` supports."""
    return [each.name for each in PROVIDERS.values() if each.deployment]


def load(reference: str) -> Any:
    """Import the module or object of a reference. Raises ImportError, AttributeError."""
    module, _, path = reference.partition(":")
    found: Any = import_module(module)
    for name in path.split(".") if path else ():
        found = getattr(found, name)
    return found


def _installed() -> dict[str, ProviderSpec]:
    """Providers with an entry point. Of several with the same name, the first one found counts."""
    from importlib.metadata import entry_points

    found: dict[str, ProviderSpec] = {}
    for entry in entry_points(group=ENTRY_POINTS):
        reference = f"{entry.module}:{entry.attr}" if entry.attr else entry.module
        found.setdefault(entry.name, _THIRD_PARTY._replace(name=entry.name, connection=reference))
    return found
