"""Finds the templates of the clouds: installed with this package, or in the checkout's ``deploy``.

``setup.py`` puts ``deploy/aws`` into the wheel as ``faaskeeper/deploy/aws/templates``, and the same
for ``gcp``. An editable installation and ``PYTHONPATH`` use the checkout's directory.
"""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path


def templates(provider: str) -> Traversable:
    """The directory of a provider's templates."""
    installed = files("faaskeeper.deploy").joinpath(provider, "templates")
    if installed.is_dir():
        return installed
    return Path(__file__).resolve().parents[2] / "deploy" / provider
