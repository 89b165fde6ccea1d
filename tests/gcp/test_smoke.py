"""The gate on Google's emulators, with stand-ins for Terraform and for the rights of accounts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from faaskeeper.testing.patience import PATIENCE_S
from faaskeeper.testing.smoke import bill
from faaskeeper.testing.smoke.report import Report, Verdict
from faaskeeper.testing.smoke.stage import Failed
from tests.gcp.project import Project

ROOT = Path(__file__).parent.parent.parent
COUNTS = {
    "firestore.googleapis.com/document/read_ops_count": 10_000.0,
    "firestore.googleapis.com/document/write_ops_count": 1_000.0,
    "run.googleapis.com/request_count": 500.0,
}


@pytest.fixture
def project(emulators: dict[str, str], tmp_path: Path) -> Iterator[Project]:
    made = Project(emulators, tmp_path)
    yield made
    made.stop()


def test_the_gate_passes_and_says_what_emulators_do_not_show(project: Project) -> None:
    project.counts = COUNTS
    directory = project.directory / "run"
    arguments = ["gcp", str(project.config), "--directory", str(directory)]
    arguments += ["--share", "30", "--turns", "3", "--wait", "0"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.gcp.gate", *arguments],
        capture_output=True,
        text=True,
        env=project.environment,
        cwd=ROOT,
        timeout=2 * PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = Report.load(directory)
    tried = {(each.section, each.what): each for each in report.lines}
    for section, what in (
        ("deployment", "fk deploy service, by the caller"),
        ("deployment", "fk doctor"),
        ("rights of a client", "may not read the deployment's key"),
        ("rights of a client", "may not listen to the topic worker"),
        ("suites", "semantic suite"),
        ("suites", "session suite"),
        ("suites", "watch suite"),
        ("suites", "crash suite"),
        ("crashes", "functions died while the crash suite ran"),
        ("removal", "nothing is left, by the account's own lists"),
    ):
        assert tried[section, what].verdict is Verdict.OK, tried[section, what]
    untried = {each.what for each in report.lines if each.verdict is Verdict.UNTRIED}
    assert {"the templates", "rights of functions and clients", "builds of the functions"} <= untried
    assert "Datastore, reads" not in untried
    used = {each.what: each for each in report.usage}
    assert used["Datastore, reads"].count == 10_000
    assert used["Datastore, reads"].cost == pytest.approx(0.003)
    assert used["Cloud Storage, puts"].count is None
    assert report.cost >= 0.003 + 0.0009 + 0.0002
    text = (directory / "report.md").read_text()
    assert "**This ran on emulators, not on Google Cloud.**" in text

    report.emulated = False  # as if it had been charged
    data = {
        "cloud-provider": "gcp",
        "deployment-name": report.deployment,
        "deployment-region": report.region,
        "gcp": {"project-id": project.project, "deploy": {"endpoint": project.endpoint}},
    }
    said: list[str] = []
    with pytest.raises(Failed, match=r"not available by an API.*SELECT service\.description"):
        bill.compare(report, data, "", said.append)
    with pytest.raises(Failed, match="has nothing of these hours"):
        bill.compare(report, data, "p.d.t", said.append)
    project.bill = [("Cloud Firestore", 0.0039)]
    assert bill.compare(report, data, "p.d.t", said.append)
    assert "| Cloud Firestore | 0.0039 | 0.0039 |" in said[0]
    project.bill.append(("Compute Engine", 1.0))
    assert not bill.compare(report, data, "p.d.t", said.append)
