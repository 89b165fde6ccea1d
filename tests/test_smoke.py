"""The gate's parts that need no deployment: its report, its figures, and code that dies."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from faaskeeper.config import Config
from faaskeeper.deploy.gcp.package import package
from faaskeeper.testing.conformance import golden
from faaskeeper.testing.smoke import aws, awsusage, gcp, gcpusage, suites, timing
from faaskeeper.testing.smoke.__main__ import main
from faaskeeper.testing.smoke.gate import Gate, Options
from faaskeeper.testing.smoke.mortal import LAST, mortal
from faaskeeper.testing.smoke.report import Line, Report, Used, Verdict
from faaskeeper.testing.smoke.stage import Attempt, Files, Stage
from tests import modelled


def report() -> Report:
    made = Report("AWS", "smoke-1", "us-east-1", "1.0", False, 1.0, 2.0, {"run as": "me"})
    made.add("suites", "watch suite", True, "4 tests")
    made.add("rights", "may not a|b", False, "it was\nallowed")
    made.note("cost", "a note")
    made.untried("cost", "S3, puts", "nobody counts")
    made.latencies = [
        {"operation": "set", "number": 3, "measured": [1.0, 2.0, 3.0], "modelled": [4.0, 5.0, 6.0]},
        {"operation": "get", "number": 3, "measured": [1.0, 2.0, 3.0], "modelled": None},
    ]
    made.usage = [Used("DynamoDB, write units", 1000, 1e-6, "m"), Used("S3, puts", None, 1.0, "m")]
    return made


def test_a_report_is_read_as_it_was_written_and_shows_each_line(tmp_path: Path) -> None:
    made = report()
    text = made.save(tmp_path).read_text()
    assert Report.load(tmp_path) == made
    assert text.startswith("# FaaSKeeper on AWS: FAILED\n")
    assert "1 ok, 1 FAILED, 1 note, 1 not exercised." in text
    assert "| rights | may not a\\|b | FAILED | it was allowed |" in text
    assert text.index("## What failed") < text.index("## What was not exercised") < text.index("watch suite")
    assert "| set | 3 | 1.0 / 2.0 / 3.0 | 4.0 / 5.0 / 6.0 |" in text
    assert "| S3, puts | not counted | 1 | 0.000000 | m |" in text
    assert "| total |  |  | 0.0010 |  |" in text
    assert "emulators" not in text


def test_a_report_without_anything_right_has_not_passed() -> None:
    made = Report("AWS", "smoke-1", "us-east-1", "1.0", False, 1.0)
    assert not made.passed
    made.untried("suites", "watch suite", "why")
    assert not made.passed
    made.add("suites", "session suite", True)
    assert made.passed
    made.add("suites", "crash suite", False)
    assert not made.passed


def test_the_model_s_figures_are_those_of_the_documentation() -> None:
    assert modelled.KEPT.read_text() == modelled.text()
    for cloud, channel in (("aws", "sqs"), ("gcp", "pubsub")):
        data: dict[str, Any] = {"cloud-provider": cloud, "deployment-name": "fk", "deployment-region": "r"}
        if cloud == "gcp":
            data["gcp"] = {"project-id": "p"}
        usual = timing.modelled(Config.deserialize(data))
        assert set(usual) == set(timing.OPERATIONS)
        names = set(modelled.documented()[cloud])
        queues = {"aws": ("sqs-unordered", "dynamodb", "direct"), "gcp": ("pubsub-ordered", "direct")}[cloud]
        reached = {
            timing.row_of(Config.deserialize({**data, "user-storage": storage, **more}))
            for storage, more in product(
                ("hybrid", "key-value", "persistent"),
                (
                    {"client-channel": "tcp"},
                    {"client-channel": channel},
                    {"client-channel": "tcp", "distributor-queue": channel},
                    *({"client-channel": "tcp", "worker-queue": each} for each in queues),
                ),
            )
        }
        beside = {each for each in names if "watch inline" in each or "in two calls" in each}
        assert names - beside <= reached


def test_the_scenarios_that_no_cloud_shows_are_among_the_recorded_ones() -> None:
    assert set(suites.BY_ADDRESS) <= set(map(golden.name_of, golden.SCENARIOS))


def test_percentiles_are_those_of_the_model_s_tables() -> None:
    assert timing.percentiles([float(each) for each in range(100, 0, -1)]) == [51.0, 96.0, 100.0]


def test_code_that_dies_says_so_and_lets_heartbeat_live(tmp_path: Path) -> None:
    code = mortal(package(), "gcp", 0.1, 0.2)
    assert code.key != package().key
    assert code.key == mortal(package(), "gcp", 0.1, 0.2).key
    archive = zipfile.ZipFile(io.BytesIO(code.body))
    archive.extractall(tmp_path)
    names = archive.namelist()
    assert sorted(set(names)) == sorted(names)
    script = "import time; from main import writer, heartbeat; time.sleep(10)"
    environment = {"PYTHONPATH": str(tmp_path), "PYTHONSAFEPATH": "1", "PATH": ""}
    command = [sys.executable, "-c", script]
    for name in ("fk-writer", "watch"):
        done = subprocess.run(
            command, env={**environment, "K_SERVICE": name}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert done.stderr == f"{LAST}\n"
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run(command, env={**environment, "K_SERVICE": "fk-heartbeat"}, timeout=2, check=False)


# ---- steps that fail -----------------------------------------------------------------------------


class Pretended(Stage):
    """A cloud where each step does nothing, but those that ``fails`` names."""

    cloud = "nowhere"
    who = "by nobody"
    emulated = False

    def __init__(self, directory: Path, fails: str = "") -> None:
        data = {"cloud-provider": "aws", "deployment-name": "smoke-1", "deployment-region": "us-east-1"}
        super().__init__(Files(directory), data, lambda line: None)
        self.fails = fails
        self.called: list[str] = []
        self.there: list[str] = []

    def _do(self, what: str) -> None:
        self.called.append(what)
        if what == self.fails:
            raise RuntimeError(f"{what} is broken")

    def prepare(self, report: Report) -> None:
        self.there = ["a table"]
        self._do("prepare")

    def deployer(self) -> dict[str, str]:
        return {}

    own = deployer

    def deployed(self, report: Report) -> None:
        self._do("deployed")

    def second(self, report: Report) -> None:
        self._do("second")

    def renew(self) -> None:
        self._do("renew")

    def connect(self, config: Config, port: int) -> Any:
        raise AssertionError

    def beat(self) -> None:
        raise AssertionError

    def mortal(self) -> tuple[float, float]:
        return 0.0, 0.0

    def dying(self) -> None:
        self._do("dying")

    def deaths(self) -> int:
        return 0

    def attempts(self) -> list[Attempt]:
        return [Attempt("fly", False, "it was allowed"), Attempt("swim", True, "AccessDenied")]

    def usage(self, began: float, ended: float) -> list[Used]:
        return [Used("everything", 3, 1.0, "m")]

    def left(self) -> list[str]:
        return self.there

    def remove(self) -> str:
        return ""

    def finished(self) -> None:
        self.there = []

    def close(self) -> None:
        self._do("close")

    def run(self, environment: Any, module: str, *arguments: str) -> str:
        self._do(f"fk {' '.join(each for each in arguments if each.startswith('--'))}")
        return ""


def tried(stage: Pretended) -> tuple[bool, list[Line]]:
    gate = Gate(stage, Options(wait_s=0.0), lambda line: None)
    return gate.run(), gate.report.lines


def failed(lines: list[Line]) -> dict[str, str]:
    return {each.what: each.said for each in lines if each.verdict is Verdict.FAILED}


@pytest.mark.parametrize("step", ["prepare", "fk --config --dry-run", "fk --config --yes", "deployed"])
def test_a_step_without_which_nothing_can_be_tried_ends_the_run_with_the_removal(
    step: str, tmp_path: Path
) -> None:
    stage = Pretended(tmp_path, step)
    passed, lines = tried(stage)
    assert not passed
    assert next(iter(failed(lines).values())) == f"RuntimeError: {step} is broken"
    assert "fk --config --clean --yes" in stage.called
    assert stage.there == []
    assert "RuntimeError" in (tmp_path / "log.txt").read_text()


def test_what_a_client_may_do_too_much_and_what_costs_too_much_fails(tmp_path: Path) -> None:
    (tmp_path / "out.json").write_text("{}")  # no suite can run with that
    _, lines = tried(Pretended(tmp_path))
    wrong = failed(lines)
    assert wrong["may not fly"] == "it was allowed"
    assert "may not swim" not in wrong
    assert wrong["the run costs less than $1.00"].startswith("$3.0000 by these counts")


def test_what_is_left_fails_and_so_does_what_was_there_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("faaskeeper.testing.smoke.gate._LEFT_S", 0.0)
    stage = Pretended(tmp_path, "prepare")
    monkeypatch.setattr(stage, "finished", lambda: None)
    assert failed(tried(stage)[1])["nothing is left, by the account's own lists"] == "1 left: a table"
    stage = Pretended(tmp_path)
    stage.there = ["somebody's table"]
    passed, lines = tried(stage)
    assert not passed
    assert "somebody's table" in failed(lines)["the run came to its end"]
    assert stage.called == []  # nothing of somebody else's is removed


# ---- bad input -----------------------------------------------------------------------------------


def test_bad_input_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "config.json"
    config.write_text(
        '{"cloud-provider": "aws", "deployment-name": "fk", "deployment-region": "us-east-1", '
        '"aws": {"profile": "me"}}'
    )
    for arguments, problem in (
        (["gcp", str(config)], "is for 'aws', not for 'gcp'"),
        (["aws", str(config), "--directory", str(tmp_path / "run")], "set AWS_PROFILE=me for the gate"),
        (["aws", str(tmp_path / "none.json")], "cannot read"),
        (["clean", str(tmp_path / "none")], "has no run"),
        (["cost", str(tmp_path / "none")], "has no report"),
    ):
        assert main(arguments) == 2
        said = capsys.readouterr().err
        assert problem in said
        assert said.count("\n") == 1


# ---- what services count -------------------------------------------------------------------------


class Counting:
    """AWS' calls that the usage makes: each metric has a sum, by its name."""

    region = "us-east-1"

    def __init__(self, sums: dict[str, list[float]]) -> None:
        self.sums = sums
        self.asked: list[Any] = []

    def client(self, service: str, **options: Any) -> Any:
        return self

    def call(self, what: str, act: Any, **parameters: Any) -> Any:
        return act(**parameters)

    def get_caller_identity(self) -> Any:
        return {"Account": "1", "Arn": "arn:aws:iam::1:root"}

    def get_paginator(self, operation: str) -> Any:
        return self

    def paginate(self, **parameters: Any) -> list[Any]:
        names = ("smoke-1-worker.fifo", "smoke-1-client-1.fifo", "smoke-1-dead-calls", "smoke-12-worker.fifo")
        dimensions = [{"Dimensions": [{"Name": "QueueName", "Value": each}]} for each in names]
        return [{"Metrics": dimensions}]

    def get_metric_data(self, MetricDataQueries: Any, NextToken: str = "", **_: Any) -> Any:
        """Half of the values come with a second page."""
        self.asked += MetricDataQueries
        results = []
        for each in MetricDataQueries:
            values = self.sums.get(each["MetricStat"]["Metric"]["MetricName"], [])
            results.append({"Id": each["Id"], "Values": values[1:] if NextToken else values[:1]})
        return {"MetricDataResults": results, **({} if NextToken else {"NextToken": "1"})}


def test_usage_on_aws_is_what_each_service_counted_times_the_prices() -> None:
    counting = Counting(
        {"ConsumedWriteCapacityUnits": [5.0, 1.0], "NumberOfMessagesSent": [2.0], "Duration": [2000.0],
         "Invocations": [7.0]}
    )  # fmt: skip
    config = Config.deserialize(
        {"cloud-provider": "aws", "deployment-name": "smoke-1", "deployment-region": "us-east-1"}
    )
    used = {
        each.what: each
        for each in awsusage.usage(counting, config, {"writer": 1024, "watch": 512}, 0.0, 3600.0)  # type: ignore[arg-type]
    }
    tables = 9
    assert used["DynamoDB, write units"].count == 6 * tables
    assert used["DynamoDB, read units"].count is None
    assert used["SQS, requests to fifo queues, at most"].count == 4  # two of its own, none of smoke-12
    assert used["SQS, requests to standard queues, at most"].count == 2
    assert used["Lambda, requests"].count == 14
    assert used["Lambda, GB-seconds"].count == pytest.approx(2 + 1)
    assert used["Lambda, GB-seconds"].cost == pytest.approx(3 * 1.33334e-5)
    assert used["alarms and dashboard, months"].cost == pytest.approx(3.6 / 720)


def test_a_name_is_a_deployment_s_only_if_it_is_all_of_its_name() -> None:
    for called in (
        "smoke-1-log",
        "/aws/lambda/smoke-1-writer",
        "arn:aws:lambda:r:1:function:smoke-1-writer:live",
    ):
        assert aws.belongs(called, "smoke-1")
    for called in ("smoke-12-log", "other-smoke-1-log", "arn:aws:lambda:r:1:function:smoke-12-writer:live"):
        assert not aws.belongs(called, "smoke-1")
    for called in (
        "projects/p/topics/smoke-1-worker",
        "projects/p/databases/smoke-1",
        "FaaSKeeper smoke-1: lag",
        "projects/p/roles/faaskeeper_smoke_1_listener_x",
    ):
        assert gcp.belongs(called, "smoke-1")
    for called in (
        "projects/p/topics/smoke-12-worker",
        "projects/smoke-1/topics/other",
        "FaaSKeeper smoke-12: lag",
    ):
        assert not gcp.belongs(called, "smoke-1")


def test_google_s_times_have_up_to_nine_digits_of_a_second() -> None:
    assert gcpusage.moment("2026-11-27T10:00:00Z") == gcpusage.moment("2026-11-27T09:59:59.999999999Z") + 1e-9
