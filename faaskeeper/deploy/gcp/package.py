"""The functions' code for Cloud Functions: main.py and requirements.txt beside the package."""

from __future__ import annotations

from faaskeeper.deploy.package import Package, build
from faaskeeper.deploy.templates import templates

ENTRY = "faaskeeper.providers.gcp.functions"


def package() -> Package:
    """The archive."""
    folder = templates("gcp").joinpath("functions")
    names = ("main.py", "requirements.txt")
    return build(ENTRY, {name: folder.joinpath(name).read_bytes() for name in names})
