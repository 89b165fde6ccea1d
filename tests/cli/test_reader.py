"""Reads without a session show what a session shows, write nothing, and are made at rest only."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from faaskeeper.cli import output
from faaskeeper.cli.context import Context
from faaskeeper.cli.reader import reader
from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from faaskeeper.core.acl import ALL, READ, digest
from faaskeeper.exceptions import FaaSKeeperException, MalformedInputException, ProviderException
from faaskeeper.providers.local import services
from faaskeeper.providers.local.database import Owner
from faaskeeper.providers.local.service import EmbeddedService
from tests.cli.console import Fk
from tests.providers.test_matching import configured, killed

USER = "user:password"
HIS = [(ALL, "digest", digest(USER))]
SHOWN = [(READ, "world", "anyone"), *HIS]
PATHS = ("/", "/a", "/empty", "/his", "/shown", "/many", "/many/c0", "/none", "/a/none", "/zookeeper/config")
QUOTA = "/zookeeper/quota/a"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A deployment at rest, with data, ACLs, a list of children in pages, and a quota."""
    config = Config.local(tmp_path / "d")
    with FaaSKeeperClient(config) as client:
        client.add_auth("digest", USER)
        client.create("/a", b"\xff data")
        client.create("/a/b", b"below", container=True)
        client.create("/empty")
        client.create("/his", b"secret", acl=HIS)
        client.create("/shown", b"shown", acl=SHOWN)
        client.create("/many")
        for at in range(0, 3_000, 100):
            with client.transaction() as together:
                for number in range(at, at + 100):
                    together.create(f"/many/c{number}")
        for each in (QUOTA, f"{QUOTA}/zookeeper_limits", f"{QUOTA}/zookeeper_stats"):
            client.create(each, b"count=9")
    return config


def outcome(read: Callable[[], Any]) -> Any:
    """What a read returns or raises, to be compared."""
    try:
        found = read()
    except FaaSKeeperException as error:
        return type(error), str(error)
    if isinstance(found, list):
        return [(each.path, each.stat, each.serialize()) for each in found]
    return found.serialize() if hasattr(found, "serialize") else found


def outcomes(source: Any) -> dict[tuple[str, str], Any]:
    found: dict[tuple[str, str], Any] = {}
    for path in (*PATHS, QUOTA, f"{QUOTA}/zookeeper_stats", "no path"):
        for method in ("get_data", "exists", "get_children", "get_acls", "all_children_number"):
            found[method, path] = outcome(lambda m=method, p=path: getattr(source, m)(p))
        if path != "/many":
            found["with data", path] = outcome(lambda p=path: source.get_children(p, True))
    return found


@pytest.mark.parametrize("credentials", [[], [USER]])
def test_a_read_without_a_session_shows_what_one_with_a_session_shows(
    config: Config, credentials: list[str]
) -> None:
    found = reader(config, credentials)
    assert found is not None
    without = outcomes(found)
    found.close()
    client = FaaSKeeperClient(config)
    for each in credentials:
        client.add_auth("digest", each)
    with client:
        within = outcomes(client)
    assert without == within
    assert len(without["get_children", "/many"]) == 3_000  # in pages
    refused = without["get_data", "/his"]
    assert refused["data"] == "secret" if credentials else "ACL" in refused[1]
    assert without["get_data", f"{QUOTA}/zookeeper_stats"]["data"].startswith("count=2")


def files(directory: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in directory.iterdir() if each.name != "owner.lock"}


@pytest.mark.parametrize(
    "command",
    ["get /a", "exists /a", "stat /a", "ls /many -i", "getAcl /a", "getAllChildrenNumber /"],
)
def test_a_command_that_reads_writes_nothing(tmp_path: Path, command: str) -> None:
    fk = Fk(tmp_path)
    fk.said("shell", stdin=b"create /a\ncreate /many\ncreate /many/c x\n")
    before = files(tmp_path / "data")
    assert fk.said(*command.split())
    assert files(tmp_path / "data") == before


def test_what_was_acknowledged_but_not_applied_is_read_by_a_service(tmp_path: Path) -> None:
    config = configured(tmp_path / "data")
    killed(tmp_path / "data", writes=3)
    assert reader(config) is None
    fk = Fk(tmp_path)
    assert fk.said("get", "/late2") == "2\n"
    found = reader(config)
    assert found is not None
    assert found.get_data("/early0").data == b"2"
    found.close()


def test_a_deployment_in_use_and_one_that_does_not_exist_are_read_by_a_service(tmp_path: Path) -> None:
    config = Config.local(tmp_path / "d")
    assert reader(config) is None
    assert not (tmp_path / "d").exists()
    with FaaSKeeperClient(config):
        assert reader(config) is None
    found = reader(config)
    assert found is not None
    with pytest.raises(ProviderException, match="in use by"):
        FaaSKeeperClient(config).start()
    found.close()
    with FaaSKeeperClient(config) as client:
        assert client.exists("/") is not None


def test_who_comes_while_a_directory_is_read_at_rest_waits_for_its_end(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = reader(config)
    assert held is not None
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 9:
            held.close()

    monkeypatch.setattr(services, "time", SimpleNamespace(sleep=pause, monotonic=time.monotonic))
    with FaaSKeeperClient(config) as client:
        assert client.set_data("/empty", b"full").stat.version == 1
    assert len(pauses) == 9


def test_a_directory_is_free_again_before_anything_is_printed(
    config: Config, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    context = Context(config)
    printed: list[str] = []

    def pager(text: str) -> None:
        owner = Owner(config.directory)
        owner.acquire()  # raises InUse
        owner.release()
        printed.append(text)

    monkeypatch.setattr(output, "print_line", pager)
    assert context.call(context.reads().get_data, "/empty").data == b""
    context.print_line("printed")
    context.close()
    assert printed == ["printed"]


def test_records_that_are_kept_in_objects_are_read_by_a_service(tmp_path: Path) -> None:
    config = configured(tmp_path / "data", "hybrid")
    with FaaSKeeperClient(config) as client:
        client.create("/a")
    assert reader(config) is None
    assert reader(configured(tmp_path / "data")) is None  # it says that the configuration is wrong
    with pytest.raises(ProviderException, match="was set up with user-storage"):
        FaaSKeeperClient(configured(tmp_path / "data")).start()


def test_a_deployment_that_is_being_restored_is_not_read(config: Config) -> None:
    service = EmbeddedService(config, config.directory, beat=False, functions=False)
    service.deployment.checkpoints.bar(10**6, "a backup")
    service.stop()
    with pytest.raises(ProviderException, match="is being restored from the backup"):
        reader(config)


def test_files_that_do_not_match_are_refused_without_a_session_too(config: Config) -> None:
    Path(config.directory, "log.end").write_bytes(b"%016d" % 10**6)
    with pytest.raises(ProviderException, match="Restore the whole directory from one backup"):
        reader(config)


def test_a_wrong_credential_is_refused_and_leaves_the_deployment_to_others(config: Config) -> None:
    with pytest.raises(MalformedInputException, match="must be 'user:password'"):
        reader(config, ["nobody"])
    with FaaSKeeperClient(config) as client:
        assert client.exists("/a") is not None
