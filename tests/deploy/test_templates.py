"""The clouds' templates are found in a checkout and in what is built of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from faaskeeper.deploy.templates import templates

ROOT = Path(__file__).parent.parent.parent
GENERATED = shutil.ignore_patterns("__pycache__", ".terraform", "*.tfstate*", "*.tfvars*")


def names(folder: Path) -> set[str]:
    """Paths of all files below a folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_checkout_uses_its_own_templates_in_place() -> None:
    for cloud in ("aws", "gcp"):
        assert templates(cloud) == ROOT / "deploy" / cloud


def test_what_is_built_of_a_checkout_holds_every_template_and_uses_it(tmp_path: Path) -> None:
    checkout, built = tmp_path / "checkout", tmp_path / "built"
    for name in ("setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / name).exists():
            checkout.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, checkout)
    for name in ("faaskeeper", "deploy"):
        shutil.copytree(ROOT / name, checkout / name, ignore=GENERATED)
    (checkout / "deploy" / "gcp" / "terraform" / "terraform.tfstate").write_text("holds secrets")
    build = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(built)]
    subprocess.run(build, cwd=checkout, check=True, capture_output=True)
    (checkout / "deploy" / "gcp" / "terraform" / "terraform.tfstate").unlink()
    for cloud in ("aws", "gcp"):
        wanted = checkout / "deploy" / cloud
        assert names(built / "faaskeeper" / "deploy" / cloud / "templates") == names(wanted)
        shutil.rmtree(wanted)
    found = subprocess.run(
        [sys.executable, "-c", "from faaskeeper.deploy.templates import templates; print(templates('gcp'))"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(built)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert Path(found.stdout.strip()) == built / "faaskeeper" / "deploy" / "gcp" / "templates"
