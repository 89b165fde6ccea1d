"""The functions' code as Lambda takes it; Lambda's runtime brings boto3."""

from __future__ import annotations

from faaskeeper.deploy.package import Package, build

ENTRY = "faaskeeper.providers.aws.functions"


def package() -> Package:
    """The archive."""
    return build(ENTRY, {})
