"""``fk`` on a machine without credentials for a cloud says so in one line, and what to do."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from faaskeeper.testing.patience import PATIENCE_S

ROOT = Path(__file__).parent.parent.parent
AWS: dict[str, Any] = {
    "cloud-provider": "aws",
    "deployment-name": "fk-test",
    "deployment-region": "us-east-1",
    "aws": {
        "data-bucket": "fk-test-data",
        "worker-queue-url": "https://sqs.us-east-1.amazonaws.com/123456789012/fk-test-worker.fifo",
    },
}
GCP: dict[str, Any] = {
    "cloud-provider": "gcp",
    "deployment-name": "fk-test",
    "deployment-region": "europe-west1",
    "gcp": {"project-id": "mine"},
}
SAID = {
    "aws": "no credentials for AWS: run 'aws configure', or set AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "gcp": "no credentials for Google Cloud: run 'gcloud auth application-default login', or set "
    "GOOGLE_APPLICATION_CREDENTIALS to a service account's file",
}
COMMANDS = (
    "-c CONFIG ls /",
    "-c CONFIG logs",
    "-c CONFIG serve",
    "backup CONFIG --to FILE",
    "restore CONFIG --at 2026-01-01T00:00:00Z --yes",
    "deadletters CONFIG",
    "deploy service OUT --config CONFIG --yes",
    "deploy service OUT --config CONFIG --clean --yes",
    "deploy functions CONFIG --yes",
)


class Machine:
    """A machine without credentials, and ``fk`` on it."""

    def __init__(self, home: Path, provider: str) -> None:
        self._home = home
        self.words = {name: str(home / name) for name in ("CONFIG", "FILE", "OUT")}
        self.data = AWS if provider == "aws" else GCP

    def fk(self, line: str, code: int = 1, **variables: str) -> str:
        (self._home / "CONFIG").write_text(json.dumps(self.data))
        clouds = ("AWS_", "GOOGLE_", "CLOUDSDK_", "FK_")
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(clouds) and not key.endswith("_EMULATOR_HOST")
        }
        machine = {"HOME": str(self._home), "NO_GCE_CHECK": "true", "AWS_EC2_METADATA_DISABLED": "true"}
        done = subprocess.run(
            [sys.executable, "-m", "faaskeeper.cli", *(self.words.get(each, each) for each in line.split())],
            env={**kept, **machine, **variables}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            cwd=ROOT, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("provider", ["aws", "gcp"])
def test_a_command_without_credentials_says_so_in_one_line(
    tmp_path: Path, provider: str, command: str
) -> None:
    said = Machine(tmp_path, provider).fk(command)
    assert said == f"fk: {SAID[provider]}\n"


@pytest.mark.parametrize("provider", ["aws", "gcp"])
def test_the_doctor_stops_where_there_are_no_credentials(tmp_path: Path, provider: str) -> None:
    said = Machine(tmp_path, provider).fk("doctor CONFIG").splitlines()
    assert said[-2:] == [f"FAIL credentials: {SAID[provider]}", "fk: 1 check failed"]
    assert len([line for line in said if "deploy command" not in line]) == 2


@pytest.mark.parametrize("provider", ["aws", "gcp"])
def test_a_dry_run_without_credentials_shows_the_template(tmp_path: Path, provider: str) -> None:
    said = Machine(tmp_path, provider).fk("deploy service OUT --config CONFIG --dry-run", code=0)
    assert f"{SAID[provider]}. What follows is from the template alone." in said
    for cost in ("at rest", "for example 1,000,000 reads", "per month"):
        assert cost in said
    assert re.search(r"\$\d", said)


def test_credentials_that_were_named_and_are_not_there_are_named(tmp_path: Path) -> None:
    aws, gcp = Machine(tmp_path, "aws"), Machine(tmp_path, "gcp")
    said = aws.fk("-c CONFIG ls /", AWS_PROFILE="other")
    assert said.startswith("fk: no credentials for AWS (The config profile (other) could not be found): run ")
    said = aws.fk("-c CONFIG ls /", AWS_ACCESS_KEY_ID="a")
    assert said.startswith("fk: no credentials for AWS (Partial credentials found in ")
    assert "AWS_SECRET_ACCESS_KEY): run 'aws configure'" in said
    absent = str(tmp_path / "absent.json")
    said = gcp.fk("-c CONFIG ls /", GOOGLE_APPLICATION_CREDENTIALS=absent)
    assert said.startswith(f"fk: no credentials for Google Cloud (File {absent} was not found): run 'gcloud ")
    gcp.data = {**GCP, "gcp": {**GCP["gcp"], "credentials": absent}}
    assert f"Google Cloud (File {absent} was not found): run" in gcp.fk("doctor CONFIG")
