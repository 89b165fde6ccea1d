"""``fk backup`` and ``fk restore`` on Google Cloud: of a deployment in use, and to a moment.

The Datastore emulator ignores the time of a read. So reads that carry one are sent to a copy that was made
at that time, in another project, and versions of objects, which fake-gcs-server has not, are made up. The
service's own answers, and its limits (whole minutes after an hour, seven days), are for a real deployment to
show.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from google.api_core.exceptions import NotFound
from google.cloud.datastore_v1 import types

from faaskeeper.backup.driver import Source
from faaskeeper.backup.file import read
from faaskeeper.backup.restoring import restore
from faaskeeper.core.acl import digest
from faaskeeper.deploy.gcp.backups import EXACT_MS, GcpBackups, Generations, read_times
from faaskeeper.exceptions import SessionExpiredException
from faaskeeper.providers.cloud.supers import SavedSuperUser
from faaskeeper.providers.gcp.clients import Gcp
from faaskeeper.providers.gcp.service import GcpService
from faaskeeper.providers.gcp.tables import DatastoreTable
from faaskeeper.testing.patience import PATIENCE_S
from tests import snippets
from tests.backup.trees import Tree, backup_of, of_backup, plain
from tests.gcp import backends
from tests.gcp.system import System

LARGE = b"\xff" * 100_000
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(params=["hybrid", "key-value", "persistent"])
def system(request: pytest.FixtureRequest, emulators: dict[str, str]) -> Iterator[System]:
    made = System(emulators, {"user-storage": request.param})
    yield made
    made.stop()


def now() -> int:
    """A moment (ms since 1970) at which nothing happens."""
    moment = int(time.time() * 1000) + 1
    while time.time() * 1000 <= moment + 1:
        pass
    return moment


def tree_of(source: Source, folder: Path) -> Tree:
    return plain(of_backup(backup_of(source, folder / "tree")))


def fk(system: System, *arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "faaskeeper.cli", *arguments],
        capture_output=True, text=True, env=dict(os.environ), cwd=ROOT, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_program_of_who_deploys_by_hand_sets_the_super_user(system: System, tmp_path: Path) -> None:
    out, identity = tmp_path / "out.json", digest("root:pw")
    out.write_text(json.dumps(system.data))
    source = snippets.program("set_super_user")
    for ours, theirs in (
        ("aws.service import AwsService", "gcp.service import GcpService"),
        ("AwsService(", "GcpService("),
    ):
        assert ours in source
        source = source.replace(ours, theirs)
    snippets.run(source, tmp_path, str(out), identity, environment=os.environ)
    service = GcpService(system.config)
    assert SavedSuperUser(service.table("settings"), "", lambda: 0)(identity, 1)
    service.calls.close()


def test_a_deployment_in_use_is_backed_up_and_set_back(system: System, tmp_path: Path) -> None:
    file, out = str(tmp_path / "backup.gz"), tmp_path / "out.json"
    out.write_text(json.dumps(system.data))
    with system.client() as client:
        client.create("/a", b"1")
        client.create("/a/large", LARGE)
        client.create("/a/mine", ephemeral=True)
        said = json.loads(fk(system, "backup", str(out), "--to", file, "--json").splitlines()[0])
        assert said["znodes"] == 7
        assert "session is open" in fk(system, "restore", str(out), "--from", file, "--yes", code=1)
    lasting = system.client(session_timeout=4.0)
    lasting.start()
    lasting.set_data("/a", b"2")
    lasting.create("/later", LARGE)
    asked = ("restore", str(out), "--from", file, "--yes", "--end-sessions", "--json")
    said = json.loads(fk(system, *asked).splitlines()[0])
    assert (said["ephemerals"], said["removed"]) == (1, 1)
    with pytest.raises(SessionExpiredException):
        lasting.create("/no")
    lasting.stop(close=False)
    system.beat()
    with system.client() as client:
        node = client.get_data("/a")
        assert (node.data, node.stat.version) == (b"1", 0)
        assert client.get_data("/a/large").data == LARGE
        assert client.exists("/later") is None
        assert client.exists("/a/mine") is None
        assert client.set_data("/a", b"3").stat.mzxid > said["zxid"]


class Frozen:
    """The database as it is now, for reads as of a time."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.project = backends.project()
        self.read = 0
        assert len(self.project) == len(system.project)
        for kind in ("log", "records", "checkpoint"):
            for each in (f"{kind}", f"{kind}-partition"):
                self._copy(each)

    def _copy(self, kind: str) -> None:
        gcp, database = self.system.gcp, self.system.name
        query = types.Query(kind=[types.KindExpression(name=kind)])
        partition = types.PartitionId(project_id=gcp.project, database_id=database)
        while True:
            request = types.RunQueryRequest(
                project_id=gcp.project, database_id=database, partition_id=partition, query=query
            )
            batch = gcp.datastore().run_query(request=request).batch
            for each in batch.entity_results:
                commit = types.CommitRequest(
                    project_id=gcp.project,
                    database_id=database,
                    mode=types.CommitRequest.Mode.NON_TRANSACTIONAL,
                    mutations=[types.Mutation(upsert=each.entity)],
                )
                gcp.datastore().commit(request=self.moved(commit))
            if batch.more_results != types.QueryResultBatch.MoreResultsType.NOT_FINISHED:
                return
            query.start_cursor = batch.end_cursor

    def moved(self, request: Any) -> Any:
        """The same request to the copy: both projects' names have one length."""
        kind = type(request)
        body = kind.serialize(request)
        return kind.deserialize(body.replace(self.system.project.encode(), self.project.encode()))

    def answer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Answer reads as of a time from now on."""
        whole = Gcp.grpc

        def grpc(gcp: Gcp, name: str, client: Any, operation: str, request: Any) -> Any:
            if "read_options" in request and request.read_options.read_time:
                self.read += 1
                request = self.moved(request)
            return whole(gcp, name, client, operation, request)

        monkeypatch.setattr(Gcp, "grpc", grpc)


@pytest.mark.parametrize("system", ["hybrid", "key-value"], indirect=True)
def test_a_moment_is_read_and_restored(
    system: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # as if all clocks were equal: with the margin the test would have to wait
    monkeypatch.setattr("faaskeeper.deploy.gcp.backups.MARGIN_MS", 0)
    driver = GcpBackups(system.config)
    with system.client() as client:
        client.create("/a", b"1")
        client.create("/large", LARGE)
        client.create("/gone", LARGE)
        moment = now()
        with driver.source() as source:
            before = tree_of(source, tmp_path)
        frozen = Frozen(system)
        client.set_data("/a", b"2")
        client.set_data("/large", b"small")
        client.delete("/gone")
        client.create("/later")
    with monkeypatch.context() as patch:
        frozen.answer(patch)
        with driver.past(moment, lambda line: None) as past:
            backup = backup_of(past, tmp_path / "backup")
    assert frozen.read
    assert plain(of_backup(backup)) == before
    with driver.target() as target:
        restore(target, read(tmp_path / "backup"), end_sessions=True)
    system.beat()
    with system.client() as client:
        assert client.get_data("/large").data == LARGE
        assert client.get_data("/gone").data == LARGE
        assert client.exists("/later") is None


@pytest.mark.basic
def test_a_moment_within_the_hour_is_read_as_it_is_and_an_older_one_between_whole_minutes() -> None:
    at = 1_700_000_012_345
    assert read_times(at, at + 10_000) == (at - 2_000, at + 2_000)
    assert read_times(at, at + 1_000) == (at - 2_000, None)
    before, after = read_times(at, at + EXACT_MS)
    assert after is not None
    assert before % 60_000 == after % 60_000 == 0
    assert before < at - 1_999 < at < at + 1_999 < after
    assert after - before <= 2 * 60_000


@pytest.mark.basic
def test_reads_of_a_moment_carry_its_time_in_each_request(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    class Stop(Exception):
        pass

    def grpc(self: Gcp, name: str, client: Any, operation: str, request: Any) -> Any:
        asked.append(request)
        raise Stop

    monkeypatch.setattr(Gcp, "grpc", grpc)
    gcp = Gcp("project")
    at = datetime(2026, 8, 31, 12, tzinfo=UTC)
    table = DatastoreTable(gcp, "database", "records", past=at)
    for read_one in (lambda: table.get("p", "k"), lambda: table.query("p", "", 5)):
        with pytest.raises(Stop):
            read_one()
    assert [each.read_options.read_time.timestamp() for each in asked] == [at.timestamp()] * 2
    gcp.close()


class Generation:
    """A version of an object, as the client library shows it."""

    def __init__(self, name: str, generation: int, made: int, deleted: int | None) -> None:
        self.name = name
        self.generation = generation
        self.time_created = datetime.fromtimestamp(made, UTC)
        self.time_deleted = None if deleted is None else datetime.fromtimestamp(deleted, UTC)

    def download_as_bytes(self, **options: Any) -> bytes:
        return b"%d" % self.generation


class Versions:
    """The library's client of a bucket with versions: the last one of a name is live unless deleted."""

    def __init__(self, rows: list[Generation]) -> None:
        self.rows = rows

    def list_blobs(self, bucket: str, *, prefix: str, versions: bool, **options: Any) -> list[Generation]:
        assert versions
        return [each for each in self.rows if each.name.startswith(prefix)]

    def bucket(self, name: str) -> Versions:
        return self

    def blob(self, key: str) -> Versions:
        return self

    def download_as_bytes(self, **options: Any) -> bytes:
        """Of a name without a live version."""
        raise NotFound("No such object")


@pytest.mark.basic
@pytest.mark.parametrize(
    ("at", "found"),
    [
        (5, None),
        (10, b"1"),
        (19, b"1"),
        (20, b"2"),
        (29, b"2"),
        (30, None),
        (39, None),
        (40, b"4"),
        (99, b"4"),
    ],
)
def test_of_a_record_in_the_bucket_the_generation_at_the_moment_is_read(
    at: int, found: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        Generation("r/a", 1, 10, 20),
        Generation("r/a", 2, 20, 30),
        Generation("r/a", 4, 40, None),
        Generation("r/ab", 9, 1, None),
        Generation("b/x", 7, 50, 60),
    ]
    gcp = Gcp("project")
    monkeypatch.setattr(Gcp, "storage", lambda self: Versions(rows))
    store = Generations(gcp, "bucket", at * 1000)
    record = store.get("r/a")
    assert (None if record is None else record.body) == found
    data = store.get("b/x")  # never replaced under its name, so any generation is what was named
    assert data is not None
    assert data.body == b"7"
    gcp.close()
