"""The gate on an emulator that enforces IAM: each of its steps, interrupted, and killed."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from faaskeeper.config import Config
from faaskeeper.testing.patience import PATIENCE_S
from faaskeeper.testing.smoke import bill
from faaskeeper.testing.smoke.report import Report, Used, Verdict
from faaskeeper.testing.smoke.stage import Failed
from tests.aws import backends
from tests.aws.test_deploy import ROOT, Account

SHORT = ("--share", "30", "--turns", "3", "--wait", "0")


@pytest.fixture(scope="module")
def enforcing() -> Iterator[str]:
    with backends.ministack(AUTH="true") as endpoint:
        yield endpoint


@pytest.fixture
def account(enforcing: str, tmp_path: Path) -> Account:
    return Account(enforcing, tmp_path, "smoke-")


class Run:
    """The gate in a process of its own."""

    def __init__(self, account: Account, *more: str) -> None:
        self.directory = account.directory / "run"
        arguments = ["aws", str(account.config), "--directory", str(self.directory), *SHORT, *more]
        self._environment = account.environment
        self._process = subprocess.Popen(
            [sys.executable, "-m", "faaskeeper.testing.smoke", *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=account.environment, cwd=ROOT,
            start_new_session=True,
            # A shell has its jobs in the background ignore Ctrl-C, which they inherit.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        self.said: list[str] = []
        self._timer = threading.Timer(2 * PATIENCE_S, self._process.kill)
        self._timer.start()

    def until(self, what: str) -> str:
        """Wait for a line with this; returns it."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.said.append(line)
            if what in line:
                return line
        raise AssertionError("".join(self.said))

    def signal(self, number: int) -> None:
        """To it, and to what it runs, as a terminal does."""
        os.killpg(self._process.pid, number)

    def end(self) -> int:
        """Wait for its end; returns the status."""
        assert self._process.stdout is not None
        self.said += list(self._process.stdout)
        self._process.stdout.close()
        self._timer.cancel()
        return self._process.wait()

    def report(self) -> Report:
        return Report.load(self.directory)


@pytest.mark.clouds
def test_the_gate_passes_and_says_what_an_emulator_does_not_show(account: Account) -> None:
    run = Run(account)
    assert run.end() == 0, "".join(run.said)
    report = run.report()
    assert report.emulated
    tried = {(each.section, each.what): each for each in report.lines}
    for section, what in (
        ("deployment", "fk deploy service, by a role with the policies of deployer.yaml alone"),
        ("deployment", "fk deploy service --dry-run shows no changes afterwards"),
        ("deployment", "fk doctor"),
        ("rights", "fk finds the boundary of roles"),
        ("rights of a client", "may not read the deployment's key"),
        ("suites", "semantic suite"),
        ("suites", "session suite"),
        ("suites", "watch suite"),
        ("suites", "crash suite"),
        ("crashes", "functions died while the crash suite ran"),
        ("crashes", "fk deploy functions --rollback"),
        ("removal", "nothing is left, by the account's own lists"),
    ):
        assert tried[section, what].verdict is Verdict.OK, tried[section, what]
    untried = {each.what for each in report.lines if each.verdict is Verdict.UNTRIED}
    assert {
        "CloudFormation's calls with the deployer's rights",
        "writer's role is within the boundary",
        "latencies beside the model's",
        "DynamoDB, write units",
        "the run costs less than $1.00",
        "2 of the recorded scenarios",
        "101 of the recorded scenarios",
    } <= untried
    assert [each["operation"] for each in report.latencies] == ["set", "create", "delete", "get", "watch"]
    assert all(each["modelled"] for each in report.latencies)
    text = (run.directory / "report.md").read_text()
    assert "**This ran on emulators, not on AWS.**" in text
    assert "\n## What was not exercised\n" in text
    assert "FAILED" not in text
    assert account.names() == {}
    assert "AWS_SECRET" not in (run.directory / "log.txt").read_text()


def roles(iam: Any) -> list[str]:
    """The names of the roles that there are."""
    return [each["RoleName"] for each in iam.list_roles()["Roles"] if each["RoleName"].startswith("smoke-")]


@pytest.mark.clouds
@pytest.mark.parametrize(
    ("number", "during"),
    [(signal.SIGINT, "ok     test_the_client_shows"), (signal.SIGTERM, "out.json --config")],
    ids=["Ctrl-C in a suite", "TERM while it deploys"],
)
def test_an_interrupted_run_removes_what_it_made(account: Account, number: int, during: str) -> None:
    run = Run(account)
    run.until("by a role with the policies of deployer.yaml alone")
    run.until(during)
    iam = account.raw("iam")
    assert roles(iam) != []  # that of who deploys, at least
    run.signal(number)
    assert run.end() == 1
    assert account.names() == {}
    assert roles(iam) == []
    iam.close()
    report = run.report()
    failed = [each.said for each in report.lines if each.verdict is Verdict.FAILED]
    assert failed == ["it was interrupted"]
    assert report.lines[-1].what == "nothing is left, by the account's own lists"


@pytest.mark.clouds
def test_what_a_killed_run_left_is_removed_by_the_command_that_it_printed(account: Account) -> None:
    run = Run(account)
    line = run.until("if this is killed, remove what it made: ")
    run.until("no changes afterwards")
    run.signal(signal.SIGKILL)
    run.end()
    assert account.names() != {}
    command = shlex.split(line.split(": ", 1)[1])
    for _ in range(2):  # it may be repeated
        done = subprocess.run(
            command, capture_output=True, text=True, env=account.environment, cwd=ROOT, check=False,
            timeout=PATIENCE_S,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    assert account.names() == {}


@pytest.mark.clouds
def test_a_deployment_that_fails_is_reported_and_removed(account: Account) -> None:
    account.parameters["WriterMemory"] = "1"
    account.write({})
    run = Run(account)
    assert run.end() == 1
    text = (run.directory / "report.md").read_text()
    assert "# FaaSKeeper on AWS: FAILED" in text
    assert "WriterMemory" in text
    assert account.names() == {}


# ---- the bill ------------------------------------------------------------------------------------


class CostExplorer:
    """Answers as Cost Explorer does. ``charged``: dollars by service; ``status``: of the tag."""

    def __init__(self) -> None:
        self.charged: dict[str, float] = {}
        self.status = "Active"
        self.asked: list[Any] = []
        explorer = self

        class Api(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                explorer.asked.append(body)
                if self.headers["X-Amz-Target"].endswith("GetCostAndUsage"):
                    groups = [
                        {"Keys": [name], "Metrics": {"UnblendedCost": {"Amount": str(value), "Unit": "USD"}}}
                        for name, value in explorer.charged.items()
                    ]
                    answer: Any = {"ResultsByTime": [{"Groups": groups}]}
                else:
                    tag = {"TagKey": "faaskeeper", "Type": "UserDefined", "Status": explorer.status}
                    answer = {"CostAllocationTags": [tag]}
                told = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(told)))
                self.end_headers()
                self.wfile.write(told)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def explorer() -> Iterator[CostExplorer]:
    made = CostExplorer()
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_the_bill_is_compared_with_what_was_counted(explorer: CostExplorer) -> None:
    report = Report("AWS", "smoke-1", "us-east-1", "1", False, 1_800_000_000, 1_800_003_600)
    report.usage = [Used("DynamoDB, write units", 20_000, 0.625e-6, "m"), Used("Lambda, requests", 0, 1, "m")]
    data = {
        "cloud-provider": "aws",
        "deployment-name": "smoke-1",
        "deployment-region": "us-east-1",
        "aws": {"endpoint-url": explorer.url},
    }
    Config.deserialize(data)
    said: list[str] = []
    with pytest.raises(Failed, match="up to two days behind"):
        bill.compare(report, data, "", said.append)
    explorer.status = "Inactive"
    with pytest.raises(
        Failed, match=r"TagKey=faaskeeper,Status=Active.*--backfill-from 2027-01-01T00:00:00Z"
    ):
        bill.compare(report, data, "", said.append)
    explorer.charged = {"Amazon DynamoDB": 0.0125}
    assert bill.compare(report, data, "", said.append)
    assert "| Amazon DynamoDB | 0.0125 | 0.0125 |" in said[0]
    asked = explorer.asked[-1]
    assert asked["TimePeriod"] == {"Start": "2027-01-15", "End": "2027-01-16"}
    assert asked["Filter"]["And"][0]["Tags"]["Values"] == ["smoke-1"]
    explorer.charged["AmazonCloudWatch"] = 0.5
    assert not bill.compare(report, data, "", said.append)
    assert "| AmazonCloudWatch | 0.0000 | 0.5000 |" in said[-2]
    report.emulated = True
    with pytest.raises(Failed, match="nobody charges"):
        bill.compare(report, data, "", said.append)
