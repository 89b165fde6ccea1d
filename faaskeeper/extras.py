"""Optional dependencies, and the extras that install them."""

from __future__ import annotations

from faaskeeper.exceptions import ProviderException

_INSTALL = {
    "boto3": "faaskeeper[aws]",
    "botocore": "faaskeeper[aws]",
    "cryptography": "cryptography>=47",
    "yaml": "faaskeeper[aws]",
    "flask": "faaskeeper[gcp]",
    "functions_framework": "faaskeeper[gcp]",
    "google": "faaskeeper[gcp]",
    "grpc": "faaskeeper[gcp]",
    "requests": "faaskeeper[gcp]",
    "prometheus_client": "faaskeeper[gateway]",
    "uvloop": "faaskeeper[gateway]",
    "starlette": "faaskeeper[ui]",
    "uvicorn": "faaskeeper[ui]",
    "greenlet": "faaskeeper[testing]",
    "pytest": "faaskeeper[testing]",
}
"""What installs a package. Of an older cryptography, which others bring along, a module is missing."""


def missing(error: ImportError) -> ProviderException | None:
    """An error that says which extra to install; None if the module belongs to no extra."""
    name = (error.name or "").partition(".")[0]
    needed = _INSTALL.get(name)
    if needed is None:
        return None
    lacking = "is not installed, or too old" if name == "cryptography" else "is not installed"
    return ProviderException(f"the package {name!r} {lacking}: pip install '{needed}'")
