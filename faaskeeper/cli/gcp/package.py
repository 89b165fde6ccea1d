"""The functions' code as Cloud Functions takes it: main.py and requirements.txt beside the package."""

from __future__ import annotations

from importlib.resources import files

from faaskeeper.cli import package as packages
from faaskeeper.cli.package import Package

ENTRY = "faaskeeper.providers.gcp.functions"


def package() -> Package:
    """The archive."""
    here = files("faaskeeper.cli.gcp").joinpath("templates", "functions")
    names = ("main.py", "requirements.txt")
    return packages.package(ENTRY, {name: here.joinpath(name).read_bytes() for name in names})
