"""The template's parameters and the stack's tags, as a configuration asks for them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from faaskeeper.config import Config, ConfigurationException, QueueType
from faaskeeper.deploy.aws.leftovers import TAG
from faaskeeper.deploy.aws.template import template
from faaskeeper.providers.aws.service import AwsService

_TAG_KEY = re.compile(r"(?!aws:)[\w .:/=+@-]{1,128}")
_TAG_VALUE = re.compile(r"[\w .:/=+@-]{0,256}")
_MOST_TAGS = 49
"""AWS allows 50 for a resource; one is ours."""
_OWN = {
    "CodeBucket": "",
    "CodeKey": "",
    "Release": "",
    "UserStorage": "user-storage",
    "WorkerQueue": "worker-queue",
    "DistributorQueue": "distributor-queue",
    "ClientChannel": "client-channel",
    "ClientNetworks": "aws.client-networks",
    "SubnetIds": "aws.subnets",
    "SecurityGroupIds": "aws.security-groups",
    "KmsKeyArn": "aws.kms-key",
}
"""Parameters that other keys of the configuration set; empty: ``fk`` sets them."""


def parameters(service: AwsService, bucket: str, code: str) -> dict[str, str]:
    """The parameters that differ from their defaults. ``bucket``, ``code``: where the code is.

    The section ``aws.deploy`` of the configuration sets further ones. Raises
    ConfigurationException.
    """
    config = service.config
    minutes = max(1, -(-config.heartbeat_frequency // 60))
    subnets, groups = _listed(service, "subnets"), _listed(service, "security-groups")
    if bool(subnets) != bool(groups):
        raise ConfigurationException(
            "the keys 'aws.subnets' and 'aws.security-groups' belong together: give both or neither"
        )
    chosen = {
        "CodeBucket": bucket,
        "CodeKey": code,
        "UserStorage": config.user_storage.value,
        # heartbeat needs a function's queue, and so do direct writers under contention
        "WorkerQueue": "sqs" if config.worker_queue is QueueType.DIRECT else config.worker_queue.value,
        "DistributorQueue": config.distributor_queue.value,
        "ClientChannel": config.client_channel.value,
        "ClientNetworks": ",".join(service.networks.texts),
        "HeartbeatRate": f"rate({minutes} minute{'s' if minutes > 1 else ''})",
        "HeartbeatSilence": str(5 * 60 * minutes),
        "Benchmarking": str(config.benchmarking_frequency if config.benchmarking else 0),
        "SubnetIds": ",".join(subnets),
        "SecurityGroupIds": ",".join(groups),
        "KmsKeyArn": service.text("kms-key"),
    }
    known = template().parameters
    return {**{key: value for key, value in chosen.items() if key in known}, **_further(service)}


def _further(service: AwsService) -> dict[str, str]:
    """What the section ``aws.deploy`` sets."""
    more = service.section.get("deploy", {})
    if not isinstance(more, Mapping):
        raise ConfigurationException("the key 'aws.deploy' must be an object of template parameters")
    known = template().parameters
    for key in more:
        if key in _OWN:
            instead = f"the key {_OWN[key]!r} sets it" if _OWN[key] else "each deployment sets it"
            raise ConfigurationException(f"the key 'aws.deploy.{key}' is not allowed: {instead}")
        if key not in known:
            others = ", ".join(sorted(known.keys() - _OWN.keys()))
            raise ConfigurationException(f"the key 'aws.deploy.{key}' is unknown; known keys: {others}")
    return {key: str(value) for key, value in more.items()}


def _listed(service: AwsService, key: str) -> list[str]:
    """A list of identifiers in the section ``aws``."""
    value = service.section.get(key, [])
    if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
        raise ConfigurationException(f"the key 'aws.{key}' is {value!r}: it must be a list of identifiers")
    return value


def tags(config: Config) -> dict[str, str]:
    """The tags of the stack, which its resources get, too. Raises ConfigurationException."""
    for key, value in config.tags.items():
        if not _TAG_KEY.fullmatch(key) or not _TAG_VALUE.fullmatch(value) or key == TAG:
            raise ConfigurationException(
                f"the key 'tags' has {key!r}: {value!r}: on AWS a tag has a key of 1 to 128 and a value of "
                "up to 256 letters, digits, spaces and _.:/=+-@; its key is not 'faaskeeper' and does not "
                "start with 'aws:'"
            )
    if len(config.tags) > _MOST_TAGS:
        raise ConfigurationException(f"the key 'tags' has more than {_MOST_TAGS} tags")
    return {TAG: config.deployment_name, **config.tags}
