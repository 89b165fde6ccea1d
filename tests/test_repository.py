"""What surrounds the code fits it: metadata, workflow, forms, changelog, instructions."""

from __future__ import annotations

import configparser
import datetime
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import faaskeeper

ROOT = Path(__file__).parent.parent
YAML = sorted([ROOT / ".pre-commit-config.yaml", *(ROOT / ".github").rglob("*.yml")])
FORMS = [path for path in YAML if path.parent.name == "ISSUE_TEMPLATE" and path.name != "config.yml"]
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def loaded(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def metadata() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def versions() -> list[str]:
    """Versions of Python that the metadata names."""
    return re.findall(r"Python :: (3\.\d+)$", metadata()["metadata"]["classifiers"], re.MULTILINE)


@pytest.mark.parametrize("path", YAML, ids=lambda path: path.name)
def test_yaml_is_well_formed(path: Path) -> None:
    assert isinstance(loaded(path), dict)


def test_the_workflow_runs_what_a_person_runs_on_each_version_that_the_metadata_names() -> None:
    workflow = loaded(ROOT / ".github" / "workflows" / "tests.yml")
    (job,) = workflow["jobs"].values()
    assert job["strategy"]["matrix"]["python"] == versions()
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    assert workflow[True] == {"push": {"branches": ["main"]}, "pull_request": None}  # YAML reads `on` as true


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_a_form_has_what_github_asks_of_one(path: Path) -> None:
    form = loaded(path)
    assert {"name", "description", "body"} <= set(form)
    ids = [field["id"] for field in form["body"]]
    assert len(set(ids)) == len(ids)
    for field in form["body"]:
        assert field["type"] in ("input", "textarea", "dropdown", "checkboxes"), field
        assert field["attributes"]["label"]
        if field["type"] in ("dropdown", "checkboxes"):
            assert field["attributes"]["options"]


def test_pre_commit_runs_the_checks_of_the_makefile() -> None:
    (local,) = loaded(ROOT / ".pre-commit-config.yaml")["repos"]
    commands = {hook["entry"].removeprefix(".venv/bin/").split()[0] for hook in local["hooks"]}
    assert commands == {"ruff", "mypy"}


def test_metadata_stands_in_one_place_and_names_the_oldest_python_that_is_tested() -> None:
    assert "project" not in tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert metadata()["options"]["python_requires"] == f">={versions()[0]}"
    for url in re.findall(r"https://\S+", metadata()["metadata"]["project_urls"]):
        assert url.startswith("https://github.com/spcl/faaskeeper")


def test_the_changelog_keeps_its_form_and_its_last_release_is_this_version() -> None:
    sections = re.findall(r"^## (.*)$", CHANGELOG, re.MULTILINE)
    assert sections[0] == "[Unreleased]"
    dates = []
    for section in sections[1:]:
        release = re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)", section)
        assert release is not None, section
        dates.append(datetime.date.fromisoformat(release[2]))
        assert f"\n[{release[1]}]: https://github.com/spcl/faaskeeper/" in CHANGELOG
    assert dates == sorted(dates, reverse=True)
    assert sections[1].startswith(f"[{faaskeeper.__version__}] ")
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.*)$", CHANGELOG, re.MULTILINE)) <= kinds


def test_targets_and_files_that_the_instructions_name_are_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text()
    for targets in re.findall(r"`make ([a-z -]+)`", text):
        for target in targets.split():
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for path in re.findall(r"`((?:tests|faaskeeper|examples)/[\w/.]+)`", text):
        assert (ROOT / path).exists(), path
