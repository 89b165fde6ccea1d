"""``fk deploy functions`` on Google Cloud: only the code changes, forwards and back."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from faaskeeper.config import Config
from faaskeeper.deploy.gcp import deployment as deploying
from faaskeeper.deploy.gcp.applied import Applied
from faaskeeper.deploy.gcp.deployment import GcpDeployment
from faaskeeper.deploy.gcp.package import package
from faaskeeper.deploy.package import Package
from faaskeeper.exceptions import ProviderException
from faaskeeper.providers.gcp.clients import Gcp
from tests.gcp import backends
from tests.gcp.test_deploy import Cloud, cloud

__all__ = ["cloud"]


def applied(cloud: Cloud) -> list[dict[str, Any]]:
    """The variables of each apply since the last look."""
    return [each["variables"] for each in cloud.told() if each["command"][1] == "apply"]


def test_updating_the_code_keeps_what_else_was_deployed(cloud: Cloud) -> None:
    cloud.write(
        {
            "tags": {"team": "storage"},
            "configuration": {"benchmarking": True, "benchmarking-frequency": 7},
            "deploy": {"warm_writers": 1, "log_level": "INFO"},
        }
    )
    cloud.service()
    (before,) = applied(cloud)
    assert before["labels"] == {"team": "storage"}
    assert (before["warm_writers"], before["log_level"], before["benchmarking"]) == (1, "INFO", 7)
    out = json.loads(cloud.out.read_text())
    assert out["gcp"]["deploy"]["warm_writers"] == 1
    assert "updated the functions of" in cloud.fk("deploy", "functions", str(cloud.out), "--yes")
    assert applied(cloud) == [before]
    del out["gcp"]["deploy"]["warm_writers"], out["tags"]
    cloud.out.write_text(json.dumps(out))  # as a release wrote it that did not keep them
    cloud.fk("deploy", "functions", str(cloud.out), "--yes")
    assert applied(cloud) == [before]


@pytest.fixture
def change(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Callable[[Package | None], str]:
    """Updates the functions to some code, or back; returns the name of the code that was deployed."""
    for name, value in cloud.environment.items():
        monkeypatch.setenv(name, value)

    def to(code: Package | None) -> str:
        deployment = GcpDeployment(Config.load(cloud.out), lambda seconds: None)
        try:
            if code is None:
                deployment.roll_back(lambda line: None)
            else:
                monkeypatch.setattr(deploying, "package", lambda: code)
                deployment.update_code(lambda line: None)
        finally:
            deployment.close()
        (variables,) = applied(cloud)
        name: str = variables["code_object"]
        return name

    return to


def test_functions_go_back_to_the_code_from_before_the_last_update(
    cloud: Cloud, change: Callable[[Package | None], str]
) -> None:
    cloud.service()
    assert "No changes." in cloud.fk("deploy", "functions", str(cloud.out), "--dry-run")
    cloud.told()
    assert "there is no earlier code" in cloud.fk(
        "deploy", "functions", str(cloud.out), "--yes", "--rollback", code=1
    )
    first = package()
    newer = [Package(f"functions-{number}.zip", lambda: first.body) for number in range(2)]
    cloud.told()
    assert change(newer[0]) == newer[0].key
    assert change(newer[1]) == newer[1].key
    said = cloud.fk("deploy", "functions", str(cloud.out), "--rollback", "--dry-run")
    assert f"back to {newer[0].key}" in said
    assert 'update   google_cloudfunctions2_function.function["writer"]' in said
    assert "google_storage_bucket" not in said
    cloud.told()
    assert change(newer[1]) == newer[1].key  # the same once more is no update
    assert change(None) == newer[0].key
    assert change(None) == first.key
    with pytest.raises(ProviderException, match="no earlier code"):
        change(None)
    assert change(newer[1]) == newer[1].key
    assert change(None) == first.key


def test_a_deployment_without_a_record_says_what_to_do(cloud: Cloud, gcp: Gcp) -> None:
    cloud.service()
    bucket = f"{cloud.name}-deploy-{cloud.project}"
    with backends.gcp(cloud.project) as mine:
        mine.storage().bucket(bucket).blob("applied.json").delete()
        record = Applied(mine, bucket, cloud.name)
        with pytest.raises(ProviderException, match="run 'fk deploy service' once"):
            record.variables()
    said = cloud.fk("deploy", "functions", str(cloud.out), "--yes", code=1)
    assert "is not recorded: run 'fk deploy service' once" in said


def test_deployment_manager_is_called_what_it_is(cloud: Cloud) -> None:
    cloud.write({"deploy": {"with": "deployment-manager"}})
    assert "Google ended its support for Deployment Manager on 31 March 2026" in cloud.service("--dry-run")


def test_a_label_that_google_does_not_take_is_named(cloud: Cloud) -> None:
    cloud.write({"tags": {"Team": "a"}})
    assert "the key 'tags' has 'Team': 'a': on Google Cloud" in cloud.service(code=2)
