"""The functions' code packaged for Lambda. Lambda's runtime includes boto3."""

from __future__ import annotations

from faaskeeper.deploy.package import Package, build

ENTRY = "faaskeeper.providers.aws.functions"


def package() -> Package:
    """The archive."""
    return build(ENTRY, {})
