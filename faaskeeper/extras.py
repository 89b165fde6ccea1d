"""Packages that only some need: which extra brings them."""

from __future__ import annotations

from faaskeeper.exceptions import ProviderException

_EXTRAS = {
    "boto3": "aws",
    "botocore": "aws",
    "flask": "gcp",
    "functions_framework": "gcp",
    "google": "gcp",
    "grpc": "gcp",
    "requests": "gcp",
    "prometheus_client": "gateway",
    "uvloop": "gateway",
    "greenlet": "testing",
    "pytest": "testing",
}


def missing(error: ImportError) -> ProviderException | None:
    """What to install for a module that was not found, or only in part; None: it belongs to no extra."""
    name = (error.name or "").partition(".")[0]
    extra = _EXTRAS.get(name)
    if extra is None:
        return None
    return ProviderException(f"the package {name!r} is not installed: pip install 'faaskeeper[{extra}]'")
