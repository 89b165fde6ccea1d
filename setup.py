"""The packages; all other metadata is declarative.

The templates stand in the top-level folder ``deploy``, where people read and apply them, and are installed
inside of ``faaskeeper.deploy``: a mapping that ``packages = find:`` cannot express.
"""

from setuptools import find_packages, setup

TEMPLATES = {f"faaskeeper.deploy.{cloud}.templates": f"deploy/{cloud}" for cloud in ("aws", "gcp")}

setup(packages=[*find_packages(include=["faaskeeper*"]), *TEMPLATES], package_dir=TEMPLATES)
