"""The functions' code as Cloud Functions takes it: main.py and requirements.txt beside the package."""

from __future__ import annotations

from faaskeeper.deploy import package as packages
from faaskeeper.deploy.package import Package
from faaskeeper.deploy.templates import templates

ENTRY = "faaskeeper.providers.gcp.functions"


def package() -> Package:
    """The archive."""
    here = templates("gcp").joinpath("functions")
    names = ("main.py", "requirements.txt")
    return packages.package(ENTRY, {name: here.joinpath(name).read_bytes() for name in names})
