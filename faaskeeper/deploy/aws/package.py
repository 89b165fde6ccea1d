"""The functions' code packaged for Lambda. Lambda's runtime includes boto3, and not cryptography.

The archive carries the wheels that ``deploy/aws/requirements.txt`` pins, for the functions'
architecture. pip gets them, from the index that this machine uses; their hashes are checked.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from faaskeeper.deploy.package import Package, build
from faaskeeper.deploy.templates import templates
from faaskeeper.exceptions import ProviderException

ENTRY = "faaskeeper.providers.aws.functions"
PYTHON = "3.12"
"""The functions' runtime, as in the template."""
_MACHINES = {"arm64": "aarch64", "x86_64": "x86_64"}
_PLATFORMS = ("manylinux_2_28", "manylinux2014", "manylinux_2_17")
"""Platforms of wheels that the runtime can load: Amazon Linux 2023 has glibc 2.34."""
_DOWNLOAD_S = 300.0


def package(architecture: str = "arm64") -> Package:
    """The archive. ``architecture``: arm64 or x86_64.

    Its body downloads the wheels when it is first read; raises ProviderException if that fails.
    """
    pinned = _requirements().read_bytes()
    told = f"{architecture} {PYTHON}\n".encode() + pinned
    return build(ENTRY, {}, later=(told, lambda: wheels(architecture)))


def _requirements() -> Path:
    return Path(str(templates("aws").joinpath("requirements.txt")))


def wheels(architecture: str) -> dict[str, bytes]:
    """The files of the pinned wheels, by path in the archive. Raises ProviderException."""
    machine = _MACHINES.get(architecture)
    if machine is None:
        words = " or ".join(map(repr, _MACHINES))
        raise ProviderException(f"the functions' architecture is {architecture!r}: it must be {words}")
    with tempfile.TemporaryDirectory(prefix="faaskeeper-") as folder:
        _download(machine, folder)
        found: dict[str, bytes] = {}
        for wheel in sorted(Path(folder).glob("*.whl")):
            with zipfile.ZipFile(wheel) as archive:
                for name in archive.namelist():
                    if not name.endswith("/"):
                        found[name] = archive.read(name)
    return found


def _download(machine: str, folder: str) -> None:
    nodot = PYTHON.replace(".", "")
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
    ]
    command += ["--no-deps", "--only-binary", ":all:", "--require-hashes", "--dest", folder]
    command += ["--requirement", str(_requirements()), "--python-version", PYTHON, "--implementation", "cp"]
    for platform in _PLATFORMS:
        command += ["--platform", f"{platform}_{machine}"]
    for abi in (f"cp{nodot}", "abi3", "none"):
        command += ["--abi", abi]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_DOWNLOAD_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ProviderException(f"pip did not get the packages of the functions: {error}") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        problem = next((line for line in lines if line.startswith("ERROR")), lines[-1] if lines else "?")
        raise ProviderException(
            f"pip did not get the packages of the functions ({problem}): they are in "
            f"{_requirements()}, and pip must reach an index that has them"
        )
