"""Backups of a deployment on any cloud; see :mod:`faaskeeper.backup.driver`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Generic, TypeVar

from faaskeeper.backup.driver import Progress, Source, Target
from faaskeeper.config import Config
from faaskeeper.core.deployment import Deployment
from faaskeeper.providers.cloud.service import CloudService

S = TypeVar("S", bound=CloudService)


class CloudBackups(ABC, Generic[S]):
    """Access to the stores of a deployment, with no function of it."""

    def __init__(self, config: Config) -> None:
        self._config = config

    @abstractmethod
    def service(self) -> S:
        """A new service for the configuration; closed by its ``calls``."""

    @contextmanager
    def source(self) -> Iterator[Source]:
        """The deployment as it is."""
        service = self.service()
        with closing(service.calls):
            yield source_of(service)

    @abstractmethod
    def past(self, moment: int, progress: Progress) -> AbstractContextManager[Source]:
        """The deployment as of a moment (ms since 1970)."""

    def exists(self) -> bool:
        """Yes: whatever is wrong with it, nothing here makes one."""
        return True

    @contextmanager
    def target(self) -> Iterator[Target]:
        """The deployment, with the right to write."""
        service = self.service()
        with closing(service.calls):
            yield Target(self._config.deployment_name, _stores(service))


def source_of(service: CloudService, upto: int | None = None) -> Source:
    """What a service's stores have. ``upto``: see :class:`faaskeeper.backup.driver.Source`."""
    made = _stores(service)
    if upto is None:
        made.checkpoints.header()  # raises, with the reason, if there is no such deployment
    return Source(
        service.config.deployment_name,
        made.log,
        made.records,
        made.blobs,
        made.checkpoints.applied(),
        upto,
        service.calls.gather,
    )


def _stores(service: CloudService) -> Deployment:
    """The deployment of a service without its queues, which a direct writer's configuration may lack."""
    return service.deployment(b"", worker_queue=None, distributor_queue=None)
