"""What deploying to Google Cloud takes, said without an account."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from faaskeeper.config import Config, ConfigurationException
from faaskeeper.deploy.gcp.costs import GcpCosts
from faaskeeper.deploy.gcp.outline import labels, outline, rights
from faaskeeper.testing.patience import PATIENCE_S

ROOT = Path(__file__).parent.parent.parent
DATA = {
    "cloud-provider": "gcp",
    "deployment-name": "fk-test",
    "deployment-region": "europe-west1",
    "gcp": {"project-id": "mine"},
}


def test_a_dry_run_without_credentials_shows_resources_and_rights(tmp_path: Path) -> None:
    config, out = tmp_path / "config.json", tmp_path / "out.json"
    config.write_text(json.dumps(DATA))
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("GOOGLE_", "CLOUDSDK_"))}
    environment = {**kept, "HOME": str(tmp_path), "NO_GCE_CHECK": "true"}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "faaskeeper.cli", "deploy", "service", str(out)),
            *("--config", str(config), "--dry-run"),
        ],
        capture_output=True, text=True, env=environment, cwd=ROOT, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "no credentials for Google Cloud: " in done.stderr
    assert "What follows is from the template alone." in done.stderr
    assert "create   function fk-test-writer" in done.stdout
    assert "function fk-test-distributor" not in done.stdout
    for line in rights():
        assert f"  {line}\n" in done.stdout
    costs = GcpCosts(Config.load(config))
    assert f"{costs.summary()}\n" in done.stdout
    assert re.search(r"sessions: \$\d+\.\d\d per month", done.stdout)
    assert not out.exists()


def test_the_rights_are_those_that_the_deployer_s_roles_have() -> None:
    roles = json.loads((ROOT / "deploy" / "gcp" / "deployer.json").read_text())["roles"]
    listed = {
        f"{service}.{each}"
        for line in rights()
        if ": " in line
        for service, _, verbs in [line.partition(": ")]
        for each in verbs.split(", ")
    }
    assert listed == {each for permissions in roles.values() for each in permissions}
    assert any("roles/datastore.user" in line for line in rights())


def test_functions_are_listed_as_the_configuration_asks_for_them() -> None:
    inline = Config.deserialize({**DATA, "distributor-queue": "inline"})
    apart = Config.deserialize({**DATA, "distributor-queue": "pubsub"})
    assert "create   function fk-test-distributor" in outline(apart, "own")
    assert "create   function fk-test-watch" in outline(inline, "own")
    assert "create   function fk-test-watch" not in outline(inline, "inline")


def test_resources_are_listed_by_their_own_names() -> None:
    listed = outline(Config.deserialize(DATA), "own")
    for name in ("fk-test", "fk-test-sessions", "fk-test-private"):
        assert f"create   Firestore database (Datastore mode) {name}" in listed
    assert "create   Cloud Storage bucket fk-test-data-mine" in listed


def test_labels_are_what_google_takes() -> None:
    assert labels({"team": "storage", "cost-center": "4_2"}) == {"team": "storage", "cost-center": "4_2"}
    for wrong in ({"Team": "a"}, {"a": "B"}, {"1": "a"}, {"a": "x" * 64}, {"": "a"}):
        with pytest.raises(ConfigurationException, match="on Google Cloud a label has"):
            labels(wrong)
    with pytest.raises(ConfigurationException, match="more than 60"):
        labels({f"k{number}": "" for number in range(61)})
