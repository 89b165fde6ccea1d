"""Configuration of a deployment, which clients read from JSON.

The keys are those of the published client's files; ``cloud-provider`` may also be ``local``. An
error names the key and its valid values.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any, Self, TypeVar

from faaskeeper import registry
from faaskeeper.exceptions import FaaSKeeperException
from faaskeeper.zookeeper import address

if TYPE_CHECKING:
    from pathlib import Path


class ConfigurationException(FaaSKeeperException):
    """A key is missing, unknown, or has an invalid value."""


class _Choice(Enum):
    """An enumeration whose values are the strings of the configuration file."""

    @classmethod
    def deserialize(cls, val: str) -> Self:
        """The member with this value. Raises ConfigurationException that lists the valid values."""
        for member in cls:
            if member.value == val:
                return member
        words = ", ".join(repr(member.value) for member in cls)
        raise ConfigurationException(f"{val!r} is not one of {words}")

    @staticmethod
    def serialize(val: _Choice) -> str:
        """The string of a member."""
        return str(val.value)


_C = TypeVar("_C", bound=_Choice)


class CloudProvider(_Choice):
    """Where the deployment runs. ``OTHER``: a provider found by its entry point."""

    LOCAL = "local"
    AWS = "aws"
    GCP = "gcp"
    OTHER = "other"


class StorageType(_Choice):
    """Where user storage keeps records and data."""

    PERSISTENT = "persistent"
    KEY_VALUE = "key-value"
    HYBRID = "hybrid"


class QueueType(_Choice):
    """What triggers a function."""

    DYNAMODB = "dynamodb"
    SQS = "sqs"
    SQS_UNORDERED = "sqs-unordered"
    PUBSUB = "pubsub"
    PUBSUB_ORDERED = "pubsub-ordered"
    LOCAL = "local"
    DIRECT = "direct"
    INLINE = "inline"


class ClientChannel(_Choice):
    """How clients receive replies and notifications."""

    TCP = "tcp"
    SQS = "sqs"
    PUBSUB = "pubsub"
    LOCAL = "local"


_KNOWN = (
    "verbose",
    "cloud-provider",
    "port",
    "client-port",
    "deployment-name",
    "deployment-region",
    "user-storage",
    "system-storage",
    "heartbeat-frequency",
    "worker-queue",
    "distributor-queue",
    "client-channel",
    "configuration",
    "session-timeout",
    "super-digest",
    "tags",
    "directory",
    *(key for each in registry.PROVIDERS.values() for key in each.top_level_keys),
    *registry.deployable(),
)


def strict_json(text: bytes) -> Any:
    """Parse JSON in UTF-8, with or without a byte order mark.

    Raises ValueError that says what is wrong, also for input that :func:`json.loads` accepts
    although it is ambiguous or no JSON: duplicate keys in an object, NaN, Infinity, numbers beyond
    the range of a float.
    """
    try:
        return json.loads(
            text.decode("utf-8-sig"),
            object_pairs_hook=_object,
            parse_constant=_no_number,
            parse_float=_number,
        )
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 text (byte {error.start})") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} occurs twice")
    return made


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is not a number")


def _number(word: str) -> float:
    number = float(word)
    if math.isinf(number):
        raise ValueError(f"the number {word[:40]} is too large")
    return number


def _members(kind: type[_C], values: tuple[str, ...]) -> tuple[_C, ...]:
    """The members for the registry's values, in order."""
    chosen = [kind(value) for value in values if value != registry.ANY]
    others = [member for member in kind if member not in chosen] if registry.ANY in values else []
    return (*chosen, *others)


def _refused(character: str) -> bool:
    """Whether a name must not contain a character: a control character, or one without UTF-8."""
    point = ord(character)
    return point < 0x20 or 0x7F <= point <= 0x9F or 0xD800 <= point <= 0xDFFF


class Config:
    """A deployment's configuration; see :meth:`deserialize`, :meth:`load`, :meth:`local`."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        fields = _Fields(data)
        self._spec = spec = fields.provider("cloud-provider")
        known = {each.value: each for each in CloudProvider}
        self._provider = known.get(spec.name, CloudProvider.OTHER)
        self._name = fields.text("deployment-name", None)
        self._region = fields.text("deployment-region", spec.defaults.deployment_region)
        self._verbose = fields.boolean("verbose", False)
        self._port = fields.integer("port", -1, -1, 65535)
        self._heartbeat = fields.integer("heartbeat-frequency", spec.defaults.heartbeat_frequency, 1, 3600)
        self._session_timeout = fields.integer("session-timeout", spec.defaults.session_timeout, 4, 3600)
        storage = StorageType(spec.defaults.user_storage)
        self._user_storage = fields.choice("user-storage", tuple(StorageType), storage)
        fields.only("system-storage", "key-value")
        self._worker_queue = fields.one_of("worker-queue", _members(QueueType, spec.worker_queues))
        queues = _members(QueueType, spec.distributor_queues)
        self._distributor_queue = fields.one_of("distributor-queue", queues)
        channels = _members(ClientChannel, spec.client_channels)
        by_tcp = ClientChannel.TCP in channels and "client-networks" in fields.mapping(spec.name)
        usual = ClientChannel.TCP if by_tcp else channels[0]
        self._channel = fields.choice("client-channel", channels, usual)
        self._directory = fields.directory("directory")
        self._super_digest = fields.digest("super-digest")
        self._sets_super_user = "super-digest" in data
        self._tags = fields.texts("tags")
        benchmarking = fields.mapping("configuration")
        inner = _Fields(benchmarking, "configuration.")
        inner.refuse_unknown(("benchmarking", "benchmarking-frequency"))
        self._benchmarking = inner.boolean("benchmarking", False)
        self._benchmarking_frequency = inner.integer("benchmarking-frequency", 1, 1, 10**9)
        section = dict(fields.mapping(spec.name))
        for each in registry.PROVIDERS.values():
            for key, name in each.top_level_keys.items():
                value = fields.text(key, "")
                if value and each is spec:
                    section.setdefault(name, value)
        self._provider_cfg: Mapping[str, Any] = section
        fields.refuse_unknown((*_KNOWN, spec.name))

    @staticmethod
    def deserialize(data: Mapping[str, Any]) -> Config:
        """Make a configuration of a JSON object. Raises ConfigurationException."""
        if not isinstance(data, Mapping):
            raise ConfigurationException("a configuration must be a JSON object")
        return Config(data)

    @staticmethod
    def load(path: str | Path) -> Config:
        """Read a configuration from a JSON file, or make one of ``zk://host:port[,...][/chroot]``.

        Raises ConfigurationException that names the file.
        """
        name = str(path)
        if address.is_address(name):
            try:
                return Config.deserialize(address.configuration(name))
            except ValueError as error:
                raise ConfigurationException(str(error)) from error
        if not name or "\0" in name:
            raise ConfigurationException(f"{name!r} is not a valid file name for a configuration")
        try:
            with open(path, "rb") as file:
                text = file.read()
        except OSError as error:
            raise ConfigurationException(f"cannot read {path}: {error.strerror}") from error
        try:
            data = strict_json(text)
        except ValueError as error:
            raise ConfigurationException(f"{path} is not JSON: {error}") from error
        try:
            return Config.deserialize(data)
        except ConfigurationException as error:
            raise ConfigurationException(f"{path}: {error}") from error

    @staticmethod
    def local(directory: str | Path = "", name: str = "faaskeeper-dev") -> Config:
        """An embedded service.

        ``directory``: holds its files (default: the user's data directory).
        """
        data = {"cloud-provider": "local", "deployment-name": name}
        if directory:
            data["directory"] = str(directory)
        return Config(data)

    def written_directly(self) -> Config:
        """The same deployment with direct writes, for a process that is trusted with the log."""
        if QueueType.DIRECT not in _members(QueueType, self._spec.worker_queues):
            return self
        direct = self._copied()
        direct._worker_queue = QueueType.DIRECT
        return direct

    def caching(self, size: int) -> Config:
        """The same embedded service, which keeps up to ``size`` bytes of records in memory."""
        cached = self._copied()
        cached._provider_cfg = {**self._provider_cfg, "cache-bytes": size}
        return cached

    def with_super_user(self, digest: str) -> Config:
        """The same deployment with another super user; "": none."""
        other = self._copied()
        other._super_digest = digest
        return other

    def _copied(self) -> Config:
        from copy import copy

        return copy(self)

    @property
    def verbose(self) -> bool:
        """Whether to log each step."""
        return self._verbose

    @property
    def cloud_provider(self) -> CloudProvider:
        """Where the deployment runs."""
        return self._provider

    @property
    def provider_name(self) -> str:
        """The provider's name in the registry or its entry point."""
        return self._spec.name

    @property
    def provider_spec(self) -> registry.ProviderSpec:
        """The provider's registry entry."""
        return self._spec

    @property
    def deployment_name(self) -> str:
        """Name of the deployment."""
        return self._name

    @property
    def deployment_region(self) -> str:
        """The cloud's region."""
        return self._region

    @property
    def port(self) -> int:
        """Port on which a client listens for replies; -1: any free port."""
        return self._port

    @property
    def heartbeat_frequency(self) -> int:
        """Seconds between two runs of heartbeat."""
        return self._heartbeat

    @property
    def session_timeout(self) -> int:
        """Seconds after which the session of a silent client expires."""
        return self._session_timeout

    @property
    def user_storage(self) -> StorageType:
        """Layout of user storage."""
        return self._user_storage

    @property
    def worker_queue(self) -> QueueType:
        """What triggers the writer."""
        return self._worker_queue

    @property
    def writer_queue(self) -> QueueType:
        """The worker queue, under the published client's name."""
        return self._worker_queue

    @property
    def distributor_queue(self) -> QueueType:
        """What triggers the distributor; INLINE: the writer distributes."""
        return self._distributor_queue

    @property
    def client_channel(self) -> ClientChannel:
        """How clients receive replies and notifications."""
        return self._channel

    @property
    def directory(self) -> str:
        """Directory of an embedded service's files; empty: the default."""
        return self._directory

    @property
    def super_digest(self) -> str:
        """Digest id (``user:base64 of the SHA-1``) of the super user; empty: none."""
        return self._super_digest

    @property
    def sets_super_user(self) -> bool:
        """Whether the configuration has the key, even if empty; without it nothing is said."""
        return self._sets_super_user

    @property
    def tags(self) -> Mapping[str, str]:
        """Tags (on Google Cloud: labels) of the deployment's resources."""
        return self._tags

    @property
    def benchmarking(self) -> bool:
        """Whether functions report the durations of their stages."""
        return self._benchmarking

    @property
    def benchmarking_frequency(self) -> int:
        """Report every n-th request."""
        return self._benchmarking_frequency

    @property
    def provider_config(self) -> Mapping[str, Any]:
        """The provider's section of the file."""
        return self._provider_cfg


class _Fields:
    """Reads typed values from a JSON object; errors name the key."""

    def __init__(self, data: Mapping[str, Any], prefix: str = "") -> None:
        self._data = data
        self._prefix = prefix

    def _error(self, key: str, must: str) -> ConfigurationException:
        if key not in self._data:
            return ConfigurationException(f"the key {self._prefix + key!r} is missing: {must}")
        value = repr(self._data[key])
        short = value if len(value) <= 200 else f"{value[:200]}..."
        return ConfigurationException(f"the key {self._prefix + key!r} is {short}: {must}")

    def refuse_unknown(self, known: tuple[str, ...]) -> None:
        for key in self._data:
            if key not in known:
                keys = ", ".join(known)
                raise ConfigurationException(
                    f"the key {self._prefix + str(key)!r} is unknown; known keys: {keys}"
                )

    def text(self, key: str, default: str | None) -> str:
        value = self._data.get(key, default)
        if not isinstance(value, str) or (default is None and not value):
            raise self._error(key, "it must be a string")
        if any(map(_refused, value)):
            raise self._error(key, "it must be a string without control characters")
        return value

    def directory(self, key: str) -> str:
        """A directory name: any string that the file system accepts, so all but NUL."""
        value = self._data.get(key, "")
        if not isinstance(value, str):
            raise self._error(key, "it must be a string")
        if "\0" in value:
            raise self._error(key, "a directory name must not contain a NUL character")
        try:
            os.fsencode(value)
        except UnicodeError:
            raise self._error(key, "it must be a valid file name on this system") from None
        return value

    def provider(self, key: str) -> registry.ProviderSpec:
        """The provider with this name, built in or installed."""
        found = registry.find(self._data.get(key))
        if found is None:
            words = ", ".join(map(repr, registry.names()))
            raise self._error(key, f"it must be one of {words}, or a provider of an installed package")
        return found

    def digest(self, key: str) -> str:
        value = self.text(key, "")
        if value and (value.count(":") != 1 or not all(value.split(":"))):
            raise self._error(key, "it must be USER:BASE64, as 'fk digest USER:PASSWORD' prints it")
        return value

    def boolean(self, key: str, default: bool) -> bool:
        value = self._data.get(key, default)
        if not isinstance(value, bool):
            raise self._error(key, "it must be true or false")
        return value

    def integer(self, key: str, default: int, least: int, most: int) -> int:
        value = self._data.get(key, default)
        if type(value) is not int or not least <= value <= most:
            raise self._error(key, f"it must be an integer from {least} to {most}")
        return value

    def mapping(self, key: str) -> Mapping[str, Any]:
        value = self._data.get(key, {})
        if not isinstance(value, Mapping):
            raise self._error(key, "it must be an object")
        return value

    def texts(self, key: str) -> Mapping[str, str]:
        """An object whose values are strings."""
        value = self.mapping(key)
        if not all(isinstance(each, str) for each in value.values()):
            raise self._error(key, "it must be an object whose values are strings")
        return value

    def only(self, key: str, word: str) -> None:
        if self._data.get(key, word) != word:
            raise self._error(key, f"it must be {word!r}")

    def choice(self, key: str, members: tuple[_C, ...], default: _C) -> _C:
        return default if key not in self._data else self._member(key, members)

    def one_of(self, key: str, members: tuple[_C, ...]) -> _C:
        return self.choice(key, members, members[0])

    def _member(self, key: str, members: tuple[_C, ...]) -> _C:
        for member in members:
            if member.value == self._data.get(key):
                return member
        words = ", ".join(repr(member.value) for member in members)
        raise self._error(key, f"it must be one of {words}")
