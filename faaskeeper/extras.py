"""Optional dependencies, and the extras that install them."""

from __future__ import annotations

from faaskeeper.exceptions import ProviderException

_EXTRAS = {
    "boto3": "aws",
    "botocore": "aws",
    "yaml": "aws",
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
    """An error that says which extra to install; None if the module belongs to no extra."""
    name = (error.name or "").partition(".")[0]
    extra = _EXTRAS.get(name)
    if extra is None:
        return None
    return ProviderException(f"the package {name!r} is not installed: pip install 'faaskeeper[{extra}]'")
