"""``fk backup`` and ``fk restore`` on AWS: of a deployment in use, and to a moment.

What the emulator cannot show: that a restore takes minutes, and the rights that it needs.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from faaskeeper.backup.driver import Source
from faaskeeper.backup.file import read
from faaskeeper.backup.restoring import restore
from faaskeeper.config import Config
from faaskeeper.core.errors import Denied
from faaskeeper.deploy.aws import backups as ours
from faaskeeper.deploy.aws.backups import AwsBackups
from faaskeeper.exceptions import SessionExpiredException
from faaskeeper.providers.aws.clients import Aws
from tests.aws import backends
from tests.aws.system import System
from tests.aws.test_commands import Deployed
from tests.backup.trees import Tree, backup_of, of_backup, plain

LARGE = b"\xff" * 100_000
LAYOUTS = ["hybrid", "key-value", "persistent"]


@pytest.fixture
def deployed(ministack: str) -> Iterator[Deployed]:
    made = Deployed(ministack)
    yield made
    made.system.stop()


@pytest.fixture(params=LAYOUTS)
def system(request: pytest.FixtureRequest, ministack: str) -> Iterator[System]:
    """A deployment that can be restored to moments, as the template makes it."""
    made = System(ministack, {"user-storage": request.param})
    recoverable(made)
    yield made
    made.stop()


def recoverable(system: System) -> None:
    dynamodb, s3 = backends.raw("dynamodb", system.endpoint), backends.raw("s3", system.endpoint)
    for short in ("log", "records", "checkpoint"):
        dynamodb.update_continuous_backups(
            TableName=f"{system.name}-{short}",
            PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True},
        )
    bucket = system.data["aws"]["data-bucket"]
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    dynamodb.close()
    s3.close()


def tables(endpoint: str, name: str) -> list[str]:
    dynamodb = backends.raw("dynamodb", endpoint)
    pages = dynamodb.get_paginator("list_tables").paginate()
    found = [each for page in pages for each in page["TableNames"] if each.startswith(name)]
    dynamodb.close()
    return found


def tree_of(source: Source, folder: Path) -> Tree:
    return plain(of_backup(backup_of(source, folder / "tree")))


def now() -> int:
    """A moment (ms since 1970) at which nothing happens."""
    moment = int(time.time() * 1000) + 1
    while time.time() * 1000 <= moment + 1:
        pass
    return moment


def test_a_deployment_in_use_is_backed_up_and_set_back(deployed: Deployed, tmp_path: Path) -> None:
    file, out = str(tmp_path / "backup.gz"), str(deployed.out)
    with deployed.system.client() as client:
        client.create("/a", b"1")
        client.create("/a/large", LARGE)
        client.create("/a/mine", ephemeral=True)
        said = json.loads(deployed.fk("backup", out, "--to", file, "--json").splitlines()[0])
        assert said["znodes"] == 7
        assert "session is open" in deployed.fk("restore", out, "--from", file, "--yes", code=1)
    lasting = deployed.system.client(session_timeout=4.0)
    lasting.start()
    lasting.set_data("/a", b"2")
    lasting.create("/later", LARGE)
    said = json.loads(
        deployed.fk("restore", out, "--from", file, "--yes", "--end-sessions", "--json").splitlines()[0]
    )
    assert said["ephemerals"] == 1
    assert said["removed"] == 1
    with pytest.raises(SessionExpiredException):
        lasting.create("/no")
    lasting.stop(close=False)
    deployed.system.beat()
    with deployed.system.client() as client:
        node = client.get_data("/a")
        assert (node.data, node.stat.version) == (b"1", 0)
        assert client.get_data("/a/large").data == LARGE
        assert client.exists("/later") is None
        assert client.exists("/a/mine") is None
        assert client.create("/a/new", b"", sequential=True).path.endswith("2")
        assert client.set_data("/a", b"3").stat.mzxid > said["zxid"]


def test_a_new_deployment_gets_the_backup_of_another(
    deployed: Deployed, ministack: str, tmp_path: Path
) -> None:
    file = str(tmp_path / "backup")
    with deployed.system.client() as client:
        client.create("/a", LARGE)
    deployed.fk("backup", str(deployed.out), "--to", file)
    other = Deployed(ministack)
    try:
        assert "restored" in other.fk("restore", str(other.out), "--from", file)
        with other.system.client() as client:
            assert client.get_data("/a").data == LARGE
    finally:
        other.system.stop()


def test_a_moment_is_restored_from_tables_of_it_and_nothing_is_left(
    system: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # as if all clocks were equal: with the margin the test would have to wait
    monkeypatch.setattr(ours, "_OFFSETS", dict.fromkeys(("checkpoint", "records", "log"), 0))
    driver = AwsBackups(system.config, pause=lambda seconds: None)
    with system.client() as client:
        client.create("/a", b"1")
        client.create("/large", LARGE)
        client.create("/gone", LARGE)
        moment = now()
        with driver.source() as source:
            before = tree_of(source, tmp_path)
        client.set_data("/a", b"2")
        client.set_data("/large", b"small")
        client.delete("/gone")
        client.create("/later")
    s3 = backends.raw("s3", system.endpoint)
    bucket = system.data["aws"]["data-bucket"]
    for each in s3.list_objects_v2(Bucket=bucket, Prefix="b/").get("Contents", ()):
        s3.delete_object(Bucket=bucket, Key=each["Key"])  # as sweeping does later
    s3.close()
    said: list[str] = []
    with driver.past(moment, said.append) as past:
        assert len(tables(system.endpoint, f"{system.name}-log-at")) == 1
        file = tmp_path / "backup"
        backup = backup_of(past, file)
    assert plain(of_backup(backup)) == before
    assert not [each for each in tables(system.endpoint, system.name) if "-at-" in each]
    assert sum(each.startswith("restoring") for each in said) == 3
    with driver.target() as target:
        restore(target, read(file), end_sessions=True)
    system.beat()
    with system.client() as client:
        assert client.get_data("/large").data == LARGE
        assert client.get_data("/gone").data == LARGE
        assert client.exists("/later") is None


def test_the_command_restores_a_moment_of_another_deployment(
    deployed: Deployed, ministack: str, tmp_path: Path
) -> None:
    recoverable(deployed.system)
    with deployed.system.client() as client:
        client.create("/a", LARGE)
    moment = datetime.fromtimestamp(now() / 1000, UTC).isoformat()
    other = Deployed(ministack)
    try:
        said = other.fk("restore", str(other.out), "--at", moment, "--of", str(deployed.out))
        assert said.count("restoring fk-") == 3
        assert "restored 5 znodes" in said
        with other.system.client() as client:
            assert client.get_data("/a").data == LARGE
    finally:
        other.system.stop()
    assert not [each for each in tables(ministack, deployed.system.name) if "-at-" in each]


def test_what_is_asked_of_dynamodb(ministack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    system = System(ministack, {})
    try:
        recoverable(system)
        driver = AwsBackups(system.config, pause=lambda seconds: None)
        asked: list[dict[str, Any]] = []
        whole = Aws.call

        def call(self: Aws, name: str, operation: Any, **parameters: Any) -> Any:
            if name == "dynamodb restore_table_to_point_in_time":
                asked.append(parameters)
            return whole(self, name, operation, **parameters)

        monkeypatch.setattr(Aws, "call", call)
        with system.client() as client:
            client.create("/a")
        moment = now()
        with driver.past(moment, lambda line: None):
            pass
        times = {each["SourceTableName"].rsplit("-", 1)[1]: each["RestoreDateTime"] for each in asked}
        assert (times["records"] - times["checkpoint"]).total_seconds() == 2
        assert (times["log"] - times["records"]).total_seconds() == 2
        assert times["records"].timestamp() == pytest.approx(moment / 1000)
        assert {each["BillingModeOverride"] for each in asked} == {"PAY_PER_REQUEST"}
    finally:
        system.stop()


def test_what_an_interrupted_command_left_is_used_and_deleted(ministack: str) -> None:
    system = System(ministack, {})
    try:
        recoverable(system)
        with system.client() as client:
            client.create("/a")
        moment = now()
        backends.create_table(ministack, f"{system.name}-log-at-{moment // 1000}")
        with AwsBackups(system.config, pause=lambda seconds: None).past(moment, lambda line: None):
            pass
        assert not [each for each in tables(ministack, system.name) if "-at-" in each]
    finally:
        system.stop()


def test_a_moment_out_of_reach_and_tables_without_recovery_are_refused(ministack: str) -> None:
    system = System(ministack, {})
    try:
        driver = AwsBackups(system.config)
        with pytest.raises(Denied, match="has no point-in-time recovery"), driver.past(1, print):
            pass
        recoverable(system)
        with pytest.raises(Denied, match="can be restored to moments from"), driver.past(1, print):
            pass
        absent = Config.deserialize({**system.data, "deployment-name": "absent"})
        with pytest.raises(Denied, match="is deployed"), AwsBackups(absent).past(1, print):
            pass
    finally:
        system.stop()
