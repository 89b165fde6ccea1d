"""``fk deploy``: what it shows, asks and writes, whatever the cloud does."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from faaskeeper.cli import deployments
from faaskeeper.cli.main import main
from faaskeeper.config import Config
from faaskeeper.deploy.deployment import Plan, Progress, client_configuration
from faaskeeper.exceptions import ProviderException


class Cloud:
    """A deployment without a cloud."""

    def __init__(self) -> None:
        self.plan = Plan(("Add      table",), ("drifted  queue",))
        self.missing = ""
        self.done: list[str] = []
        self.during: Callable[[], None] = lambda: None
        """Called while it is being deployed."""

    def __call__(self, config: Config, pause: Callable[[float], None]) -> Cloud:
        self.config = config
        return self

    def no_credentials(self) -> str:
        return self.missing

    def outline(self) -> list[str]:
        return ["Add      all"]

    def rights(self) -> list[str]:
        return ["service: verb"]

    def prepare(self, progress: Progress) -> None:
        self.done.append("prepared")

    def changes(self) -> Plan:
        return self.plan

    def preliminary(self) -> dict[str, object]:
        return client_configuration(self.config, {})

    def deploy(self, progress: Progress) -> dict[str, object]:
        self.done.append("deployed")
        self.during()
        progress("one step")
        return client_configuration(self.config, {"data-bucket": "b"})

    def code_changes(self, progress: Progress, *, back: bool = False) -> Plan:
        self.done.append("planned back" if back else "planned")
        return self.plan

    def update_code(self, progress: Progress) -> None:
        self.done.append("updated")

    def roll_back(self, progress: Progress) -> None:
        self.done.append("rolled back")

    def holdings(self) -> list[str]:
        return ["a table"]

    def clean(self, progress: Progress) -> None:
        self.done.append("cleaned")

    def close(self) -> None:
        self.done.append("closed")


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Cloud:
    made = Cloud()
    monkeypatch.setattr(deployments, "deployment_of", made)
    return made


class Fk:
    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.out, self.config = directory / "out.json", directory / "config.json"
        self._capsys = capsys
        data = {"cloud-provider": "aws", "deployment-name": "fk", "deployment-region": "us-east-1"}
        self.config.write_text(
            json.dumps({**data, "tags": {"team": "a"}, "aws": {"deploy": {"Tracing": "Active"}}})
        )

    def run(self, *words: str, code: int = 0) -> str:
        with pytest.raises(SystemExit) as ended:
            main(list(words))
        printed = self._capsys.readouterr()
        assert ended.value.code == code, printed
        return printed.out + printed.err

    def service(self, *more: str, code: int = 0) -> str:
        return self.run("deploy", "service", str(self.out), "--config", str(self.config), *more, code=code)

    def functions(self, *more: str, code: int = 0) -> str:
        return self.run("deploy", "functions", str(self.out), *more, code=code)


@pytest.fixture
def fk(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Fk:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    return Fk(tmp_path, capsys)


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Somebody at a terminal, who gives these answers."""
    answers: list[str] = []

    def confirm(question: str, abort: bool) -> None:
        import click

        print(question)
        if answers.pop(0) != "y":
            raise click.Abort

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("click.confirm", confirm)
    return answers


def test_a_deployment_is_shown_with_its_cost_and_asked_for(fk: Fk, cloud: Cloud, answered: list[str]) -> None:
    answered.append("n")
    said = fk.service(code=1)
    for part in ("Add      table", "drifted  queue", "at rest", "per month", "Deploy this?", "Aborted!"):
        assert part in said
    assert cloud.done == ["prepared", "closed"]
    assert not fk.out.exists()
    answered.append("y")
    assert f"deployed fk; the client configuration is {fk.out}" in fk.service()
    assert cloud.done[2:] == ["prepared", "deployed", "closed"]
    written = json.loads(fk.out.read_text())
    assert written["aws"] == {"data-bucket": "b"}
    assert written["tags"] == {"team": "a"}
    assert written["configuration"] == {"benchmarking": False, "benchmarking-frequency": 1}


def test_nothing_is_asked_where_nothing_changes(fk: Fk, cloud: Cloud, answered: list[str]) -> None:
    cloud.plan = Plan()
    assert "No changes." in fk.service()
    assert "deployed" in cloud.done
    assert answered == []


def test_without_a_terminal_there_is_one_clear_error_before_anything_is_done(fk: Fk, cloud: Cloud) -> None:
    for more in ((), ("--clean",)):
        said = fk.service(*more, code=2)
        assert "there is no terminal: add --yes to go ahead" in said
    assert cloud.done == []
    assert "deployed fk" in fk.service("--yes")
    assert "removed fk" in fk.service("--clean", "--yes")
    assert not fk.out.exists()


def test_a_plan_that_is_refused_is_shown_and_not_asked_for(fk: Fk, cloud: Cloud) -> None:
    cloud.plan = Plan(("Modify   table",), refused="its data would be lost")
    said = fk.service("--yes", code=1)
    assert "Modify   table" in said
    assert "fk: its data would be lost" in said
    assert "deployed" not in cloud.done
    assert "Refused: its data would be lost" in fk.service("--dry-run")


def test_a_dry_run_without_credentials_shows_what_the_template_says(fk: Fk, cloud: Cloud) -> None:
    cloud.missing = "no credentials for AWS"
    said = fk.service("--dry-run")
    for part in ("no credentials for AWS. What follows", "Add      all", "at rest", "  service: verb"):
        assert part in said
    assert cloud.done == ["closed"]


def test_what_dies_in_the_middle_leaves_a_file_to_go_on_with(fk: Fk, cloud: Cloud) -> None:
    seen: list[dict[str, Any]] = []

    def die() -> None:
        seen.append(json.loads(fk.out.read_text()))
        raise KeyboardInterrupt

    cloud.during = die
    said = fk.service("--yes", code=130)
    assert "the same command waits for it and completes it" in said
    assert seen[0]["deployment-name"] == "fk"
    assert json.loads(fk.out.read_text()) == seen[0]
    cloud.during = lambda: None
    fk.service("--yes")
    complete = fk.out.read_text()
    cloud.during = die
    fk.service("--yes", code=130)
    assert fk.out.read_text() == complete  # what clients use is kept


def test_what_fails_keeps_the_clients_configuration(fk: Fk, cloud: Cloud) -> None:
    fk.service("--yes")
    complete = fk.out.read_text()

    def fail() -> None:
        raise ProviderException("the stack is ROLLBACK_COMPLETE")

    cloud.during = fail
    assert "fk: the stack is ROLLBACK_COMPLETE" in fk.service("--yes", code=1)
    assert fk.out.read_text() == complete


def test_nothing_is_deployed_if_the_configuration_cannot_be_written(fk: Fk, cloud: Cloud) -> None:
    fk.out = fk.out.parent / "absent" / "out.json"
    assert f"{fk.out}: No such file or directory" in fk.service("--yes", code=1)
    assert cloud.done == ["closed"]  # nothing was even asked


def test_functions_are_updated_and_rolled_back_with_the_clients_configuration(fk: Fk, cloud: Cloud) -> None:
    fk.service("--yes")
    updated = fk.functions("--yes")
    assert "updated the functions of fk" in updated
    assert "Add      table" in updated
    assert "rolled back the functions of fk" in fk.functions("--rollback", "--yes")
    assert cloud.done[3:] == ["planned", "updated", "closed", "planned back", "rolled back", "closed"]


def test_new_code_is_shown_and_asked_for(fk: Fk, cloud: Cloud, answered: list[str]) -> None:
    answered.extend("yn")
    fk.service()
    cloud.done.clear()
    said = fk.functions(code=1)
    for part in ("Add      table", "drifted  queue", "Deploy this?", "Aborted!"):
        assert part in said
    answered.append("n")
    assert "Go back to this code?" in fk.functions("--rollback", code=1)
    assert cloud.done == ["planned", "closed", "planned back", "closed"]
    answered.append("y")
    assert "rolled back the functions of fk" in fk.functions("--rollback")
    cloud.plan = Plan()
    said = fk.functions()
    assert "No changes." in said
    assert "updated the functions of fk" in said
    assert answered == []


def test_without_a_terminal_new_code_is_one_clear_error_before_anything_is_done(fk: Fk, cloud: Cloud) -> None:
    fk.service("--yes")
    cloud.done.clear()
    for more in ((), ("--rollback",)):
        assert "there is no terminal: add --yes to go ahead" in fk.functions(*more, code=2)
    assert cloud.done == []


def test_a_dry_run_of_new_code_changes_nothing(fk: Fk, cloud: Cloud) -> None:
    fk.service("--yes")
    cloud.done.clear()
    cloud.plan = Plan(("Modify   table",), refused="its data would be lost")
    for more in ((), ("--rollback",)):
        said = fk.functions("--dry-run", *more)
        assert "Modify   table" in said
        assert "Refused: its data would be lost" in said
    assert "fk: its data would be lost" in fk.functions("--yes", code=1)
    assert not {"updated", "rolled back"} & set(cloud.done)
