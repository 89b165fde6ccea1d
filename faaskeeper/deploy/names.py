"""Which names a deployment may have, and which regions it may be in, by its provider.

The regions are those of November 2026 in which the clouds run functions. A configuration with another one
is deployed all the same: only ``fk init`` looks here, for mistakes.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from faaskeeper.config import ConfigurationException


class Rule(NamedTuple):
    """The rule of a provider's names: as an expression, and in words."""

    cloud: str
    pattern: str
    words: str


RULES = {
    "aws": Rule("AWS", "[a-z][a-z0-9-]{0,22}[a-z0-9]", "2 to 24 lower-case letters, digits and hyphens"),
    "gcp": Rule(
        "Google Cloud", "[a-z][a-z0-9-]{2,16}[a-z0-9]", "4 to 18 lower-case letters, digits and hyphens"
    ),
}
"""By provider. Names of resources begin with a deployment's, and are limited by the clouds."""


def check_name(provider: str, name: str) -> str:
    """The name. Raises ConfigurationException unless a deployment may have it."""
    rule = RULES[provider]
    if not re.fullmatch(rule.pattern, name):
        raise ConfigurationException(
            f"the key 'deployment-name' is {name!r}: on {rule.cloud} it must have {rule.words}, "
            "and start with a letter"
        )
    return name


REGIONS: dict[str, tuple[str, ...]] = {
    "aws": (
        *("af-south-1", "ap-east-1", "ap-east-2", "ap-northeast-1", "ap-northeast-2", "ap-northeast-3"),
        *("ap-south-1", "ap-south-2", "ap-southeast-1", "ap-southeast-2", "ap-southeast-3"),
        *("ap-southeast-4", "ap-southeast-5", "ap-southeast-6", "ap-southeast-7", "ca-central-1"),
        *("ca-west-1", "cn-north-1", "cn-northwest-1", "eu-central-1", "eu-central-2", "eu-north-1"),
        *("eu-south-1", "eu-south-2", "eu-west-1", "eu-west-2", "eu-west-3", "il-central-1"),
        *("me-central-1", "me-south-1", "mx-central-1", "sa-east-1", "us-east-1", "us-east-2"),
        *("us-gov-east-1", "us-gov-west-1", "us-west-1", "us-west-2"),
    ),
    "gcp": (
        *("africa-south1", "asia-east1", "asia-east2", "asia-northeast1", "asia-northeast2"),
        *("asia-northeast3", "asia-south1", "asia-south2", "asia-southeast1", "asia-southeast2"),
        *("australia-southeast1", "australia-southeast2", "europe-central2", "europe-north1"),
        *("europe-north2", "europe-southwest1", "europe-west1", "europe-west10", "europe-west12"),
        *("europe-west2", "europe-west3", "europe-west4", "europe-west6", "europe-west8"),
        *("europe-west9", "me-central1", "me-central2", "me-west1", "northamerica-northeast1"),
        *("northamerica-northeast2", "northamerica-south1", "southamerica-east1", "southamerica-west1"),
        *("us-central1", "us-east1", "us-east4", "us-east5", "us-south1", "us-west1", "us-west2"),
        *("us-west3", "us-west4"),
    ),
}
"""By provider."""
