"""Finds the clouds' templates: installed beside this package, or in a checkout's top-level ``deploy``.

``setup.py`` has a wheel hold ``deploy/aws`` as ``faaskeeper/deploy/aws/templates``, and the same for ``gcp``.
Nothing is copied for an editable installation or with ``PYTHONPATH``: there the checkout's folder is used.
"""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path


def templates(provider: str) -> Traversable:
    """The folder of a provider's templates."""
    installed = files("faaskeeper.deploy").joinpath(provider, "templates")
    if installed.is_dir():
        return installed
    return Path(__file__).resolve().parents[2] / "deploy" / provider
