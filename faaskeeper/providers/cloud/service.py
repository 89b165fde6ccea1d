"""A deployment on any cloud: its drivers, its key, and client connections."""

from __future__ import annotations

import os
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from faaskeeper.clocks import clock, elapsed
from faaskeeper.config import ClientChannel, Config, ConfigurationException, QueueType, StorageType
from faaskeeper.core import trust
from faaskeeper.core.checkpoint import Checkpoints
from faaskeeper.core.clocks import Clock, ServiceClock, Steady
from faaskeeper.core.connection import Connection, FailureHandler, connection_to
from faaskeeper.core.deployment import Deployment, begin, on_tables
from faaskeeper.core.drivers import channel as drivers
from faaskeeper.core.drivers.queue import Queue
from faaskeeper.core.drivers.storage import IfAbsent, Item, Joint, ObjectStore, Table
from faaskeeper.core.errors import Conflict, Denied
from faaskeeper.core.log import ENTRY_BYTES, ENTRY_CHANGES, Log
from faaskeeper.core.objects import TableObjects
from faaskeeper.core.records import ObjectRecords, TableRecords
from faaskeeper.core.transactions import Limits
from faaskeeper.providers.cloud.calls import Calls
from faaskeeper.providers.cloud.channels import LoopbackChannel, RoutedChannel
from faaskeeper.providers.cloud.envelopes import SealedChannel, SealedClientChannel, SealedQueue, bare
from faaskeeper.providers.cloud.seals import PUBLIC, PublishedKey, renew, stripes_of
from faaskeeper.providers.cloud.supers import SavedSuperUser
from faaskeeper.providers.direct import LOSSES, Contended, DirectQueue, Prompt
from faaskeeper.providers.networks import PRIVATE, Networks
from faaskeeper.providers.tcp import TcpClientChannel

_STRIPED_KEY = "striped-key"
FUNCTIONS = ("writer", "distributor", "watch", "heartbeat")


class CloudService(ABC):
    """Opens the deployment of a configuration: makes its drivers and connections.

    ``inline_bytes``: larger data is a blob. ``keys``: valid keys of the provider's section of the
    configuration.
    """

    inline_bytes: int
    keys: tuple[str, ...]
    entry_bytes = ENTRY_BYTES
    entry_paths = ENTRY_CHANGES
    """See :class:`~faaskeeper.core.transactions.Limits`."""
    log_stripes = 1
    """Over how many partition keys the log of a new deployment is spread."""
    expiring_log = True
    """Whether the log's store trims itself; otherwise heartbeat trims it."""

    def __init__(self, config: Config, calls: Calls) -> None:
        self.clock: Clock = clock
        """The clock for the ages of stored items.

        A function uses its own, which the platform sets. A client's process uses the wall clock at
        its start plus the time elapsed since.
        """
        self.config = config
        self.calls = calls
        self._stripes = 0
        self.section = config.provider_config
        for key in self.section:
            if key not in self.keys:
                known = ", ".join(self.keys)
                raise ConfigurationException(
                    f"the key '{config.provider_name}.{key}' is unknown; known keys: {known}"
                )

    def text(self, key: str, why: str = "") -> str:
        """A string of the provider's section. ``why``: the setting that requires it."""
        value = self.section.get(key, "")
        if not isinstance(value, str) or (why and not value):
            need = f"required by {why}; 'fk deploy service' writes it" if why else "it must be a string"
            raise ConfigurationException(f"the key '{self.config.provider_name}.{key}' is {value!r}: {need}")
        return value

    def seconds(self) -> float:
        """:attr:`clock` in seconds."""
        return self.clock() / 1000

    @abstractmethod
    def table(self, short: str) -> Table:
        """A table by core's name."""

    @abstractmethod
    def objects(self) -> ObjectStore:
        """The object store."""

    def blobs(self) -> ObjectStore | None:
        """Where data above ``inline_bytes`` is stored; None: there is no such data."""
        if self.config.user_storage is StorageType.KEY_VALUE:
            return TableObjects(self.table("records"))
        return self.objects()

    def joint(self) -> Joint | None:
        """Writes the log's and the records' tables in one call; None if that is not possible."""
        return None

    def stripes(self) -> int:
        """Over how many partition keys the log is spread, as it was set up.

        Whoever has read the settings or the published key knows it.
        """
        if not self._stripes:
            row = self._public()
            if row is None:
                return 1  # of before published keys, or not set up: not to be kept
            self._stripes = stripes_of(row)
        return self._stripes

    def _public(self) -> Item | None:
        return self.table("checkpoint").get(*PUBLIC)

    def _log(self, table: Table) -> Log:
        return Log(table, self.calls.gather, stripes=self.stripes)

    def contended(self, losses: int) -> tuple[Contended, dict[str, Any]]:
        """The log's table for one of several writers, and the deployment's fields that use it."""
        table = Contended(self.table("log"), losses=losses)
        joint = self.joint()
        return table, {"log": self._log(table), "joint": None if joint is None else table.joint(joint)}

    @abstractmethod
    def queue(self, which: str, kind: QueueType) -> Queue:
        """A queue; ``which``: worker or distributor."""

    @abstractmethod
    def watch_queue(self) -> Queue | None:
        """The queue of a separate watch function; None: the distributor notifies watchers."""

    @abstractmethod
    def fallback(self) -> Queue | None:
        """The functions' queue, which direct writers use under contention, if there is one."""

    @abstractmethod
    def channel(self) -> RoutedChannel:
        """Service side of the channel."""

    @abstractmethod
    def queue_client_channel(self) -> drivers.ClientChannel | None:
        """Client side of the channel if it is not TCP; otherwise None."""

    @abstractmethod
    def logs(self) -> str:
        """Where the functions' logs are."""

    @abstractmethod
    def endpoint(self) -> str:
        """The URL of a service that clients call in any case."""

    def deployment(self, key: bytes, **fields: Any) -> Deployment:
        """The drivers. ``key``: the deployment's key; clients do not have it (b"")."""
        config = self.config
        blobs = self.blobs()
        made: dict[str, Any] = {
            "records": TableRecords(self.table("records")),
            "blobs": blobs,
            "key": key,
            "clock": self.clock,
            "wall": clock,
            "elapsed": elapsed,
            "gather": self.calls.gather,
            "limits": Limits(self.inline_bytes, entry_bytes=self.entry_bytes, entry_paths=self.entry_paths),
            "channel": SealedChannel(self.channel()),
            "super_digest": self.super_user if key else config.super_digest,
            "peer": self.text("peer"),
            "watch_queue": self.watch_queue(),
            "joint": self.joint(),
        }
        if config.user_storage is StorageType.PERSISTENT and blobs is not None:
            made["records"] = ObjectRecords(blobs, self.calls.gather)
        if "log" not in fields:
            made["log"] = self._log(self.table("log"))
        if "worker_queue" not in fields:
            made["worker_queue"] = self.queue("worker", config.worker_queue)
        if config.distributor_queue is not QueueType.INLINE and "distributor_queue" not in fields:
            made["distributor_queue"] = self.queue("distributor", config.distributor_queue)
        return on_tables(self.table, expiring_log=self.expiring_log, **{**made, **fields})

    @cached_property
    def networks(self) -> Networks:
        """Where functions connect to by TCP. Without the setting: private networks, for TCP only."""
        key = f"{self.config.provider_name}.client-networks"
        given = self.section.get("client-networks", ())
        texts = [each for each in given.split(",") if each.strip()] if isinstance(given, str) else given
        if not isinstance(texts, (list, tuple)) or not all(isinstance(each, str) for each in texts):
            raise ConfigurationException(f"the key {key!r} is {given!r}: it must be a list of networks")
        if not texts and self.config.client_channel is ClientChannel.TCP:
            texts = PRIVATE
        try:
            return Networks(texts)
        except ValueError as error:
            raise ConfigurationException(f"the key {key!r}: {error}") from None

    def client_channel(self, port: int) -> drivers.ClientChannel:
        """Client side of the channel. Raises Denied if functions would refuse this client's address."""
        return SealedClientChannel(self.queue_client_channel() or self._by_tcp(port))

    def _by_tcp(self, port: int) -> drivers.ClientChannel:
        host = self.text("client-host") or self.own_address()
        refusal = self.networks.refusal(host)
        if refusal:
            name = self.config.provider_name
            raise Denied(
                f"functions do not answer this client by TCP: {refusal}. {self._instead_of_tcp()}, or deploy "
                f"with {name}.client-networks that contain it"
            )
        anywhere = "::" if ":" in host else "0.0.0.0"
        return TcpClientChannel(host if host in ("127.0.0.1", "::1") else anywhere, port, host)

    def _instead_of_tcp(self) -> str:
        queue = self.config.provider_spec.client_channels[0]
        return (
            f"Set {self.config.provider_name}.client-host to an address of this machine that they reach, or "
            f'deploy with "client-channel": "{queue}"'
        )

    def unreached(self, address: str) -> str:
        """What to do if the functions' answers do not arrive at an address."""
        if self.config.client_channel is ClientChannel.TCP:
            return f"functions cannot connect to {bare(address)}. {self._instead_of_tcp()}"
        return f"functions cannot send to {bare(address)}: 'fk logs' says where their logs are"

    def own_address(self) -> str:
        """This machine's address on the route to the cloud."""
        endpoint = urlsplit(self.endpoint())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((endpoint.hostname, endpoint.port or 443))  # sends nothing
            except OSError as error:
                raise Denied(
                    f"no route to {endpoint.hostname}: {error}; set "
                    f"{self.config.provider_name}.client-host in the configuration to the address "
                    "under which the functions reach this machine"
                ) from error
            return str(probe.getsockname()[0])

    # ---- the deployment's key ------------------------------------------------------------

    def key(self) -> bytes:
        """The deployment's key, for functions and trusted writers.

        Reads the super user, too. Raises Denied if there is no key yet.
        """
        table = self.table("settings")
        settings, _ = self.calls.gather(
            [lambda: table.get("deployment", "settings"), self.super_user.look],
        )
        if settings is None:
            raise Denied(
                f"the deployment {self.config.deployment_name} is not initialized: its heartbeat does that "
                "within a minute after the deployment"
            )
        # Where there are several stripes, releases of before find no key: they would write elsewhere.
        key = settings.get(_STRIPED_KEY, settings["key"])
        if not isinstance(key, bytes):
            raise Denied(f"the settings of {self.config.deployment_name} contain no key")
        self._stripes = stripes_of(settings)
        return key

    @cached_property
    def super_user(self) -> SavedSuperUser:
        """The super user, for functions and trusted writers."""
        return SavedSuperUser(self.table("settings"), self.config.super_digest, elapsed)

    def initialize(self, random: Callable[[int], bytes] = os.urandom) -> bytes:
        """The deployment's key.

        If there is none, initialize: put the tree and the checkpoint, then a key.
        """
        table = self.table("settings")
        settings = table.get("deployment", "settings")
        self._stripes = self._laid_out() if settings is None else stripes_of(settings)
        self.renew_seals()
        if settings is None:
            self._stripes = stripes_of(self._public())  # another process may have been first
            begin(self.deployment(b""))
            key = random(trust.KEY_BYTES)
            made: Item = {"stamp": 1, "key": key, "stripes": self._stripes}
            if self._stripes > 1:
                made.update({"key": "", _STRIPED_KEY: key})
            try:
                table.put("deployment", "settings", made, IfAbsent())
            except Conflict:
                pass  # another process was first
        return self.key()

    def _laid_out(self) -> int:
        """The number of stripes where the settings do not say it: of a new log, or of one that is there."""
        public = self._public()
        if public is None and Checkpoints(self.table("checkpoint"), expiring=True).exist():
            return 1
        return self.log_stripes if public is None else stripes_of(public)

    def renew_seals(self, at_once: bool = False) -> bool:
        """Make a key pair for clients to seal their requests with, if one is due, and publish it."""
        tables = self.table("settings"), self.table("checkpoint")
        return renew(*tables, self.clock(), self.stripes(), at_once=at_once)

    def _published(self) -> PublishedKey:
        return PublishedKey(self.table("checkpoint"), self.config.deployment_name, elapsed)

    # ---- connecting ----------------------------------------------------------------------

    def connect(self, port: int, release: Callable[[], None]) -> Connection:
        """Connect a client. Calls ``release`` when the connection is closed, or cannot be made."""
        self.clock = Steady(clock(), elapsed)
        try:
            if self.config.worker_queue is QueueType.DIRECT:
                return self._direct(port, release)
            published = self._published()
            queue = SealedQueue(self.queue("worker", self.config.worker_queue), published.get)
            made = self.deployment(b"", distributor_queue=None, worker_queue=queue)
            # both raise, with the reason, if there is no such deployment
            self.calls.gather([made.checkpoints.header, published.read])
            self._stripes = published.stripes
            return connection_to(
                made,
                self.client_channel(port),
                coalesce=True,
                close=release,
                logs=self.logs,
                unreached=self.unreached,
            )
        except BaseException:
            release()
            raise

    def _direct(self, port: int, release: Callable[[], None]) -> Connection:
        """A connection with the writer in this process.

        It uses the functions' clock, from their replies.
        """
        fallback = self.fallback()
        if fallback is not None:
            fallback = SealedQueue(fallback, self._published().get)
        self.clock = service_clock = ServiceClock(self.clock)
        channel = SealedChannel(self.channel())
        loopback = LoopbackChannel(channel, self.client_channel(port))
        handlers: list[FailureHandler] = []

        def broke(error: Exception) -> None:
            for handler in list(handlers):
                handler(error)

        table, fields = self.contended(LOSSES if fallback is not None else 0)
        if fallback is not None:
            fields["wall"] = service_clock
        made = self.deployment(
            self.key(), worker_queue=fallback, channel=loopback, distributor_queue=None, **fields
        )
        direct = DirectQueue(made, table, fallback, broke)

        def close() -> None:
            direct.stop()
            channel.close()
            release()

        return connection_to(
            made,
            loopback,
            worker_queue=direct,
            prompt_queue=Prompt(direct),
            coalesce=True,
            on_failure=handlers.append,
            logs=self.logs,
            close=close,
            unreached=self.unreached,
        )
