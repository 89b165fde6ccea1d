"""The super user of a deployment on a cloud: a salted hash that functions and trusted writers read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from faaskeeper.config import Config
from faaskeeper.core.acl import READ, digest
from faaskeeper.core.errors import Unavailable
from faaskeeper.deploy.aws.deployment import AwsDeployment
from faaskeeper.deploy.aws.parameters import parameters
from faaskeeper.deploy.gcp.deployment import GcpDeployment
from faaskeeper.deploy.supers import save_super_user, super_user_notes
from faaskeeper.exceptions import NoAuthException
from faaskeeper.providers.cloud import supers
from faaskeeper.providers.cloud.supers import GUESSES, REFRESH_MS, SavedSuperUser, set_super_user
from faaskeeper.providers.memory import MemoryTable
from tests.paper import Paper, PaperService, paper

ROOT, OTHER = digest("root:pw"), digest("root:other")
ALICE_S = [(READ, "digest", digest("alice:pw"))]


class Saved:
    """The settings, and a function that reads them."""

    def __init__(self, configured: str = "") -> None:
        self.settings = MemoryTable()
        self.now = 0
        self.hashes = 0
        self.user = SavedSuperUser(self.settings, configured, lambda: self.now)

    def later(self) -> None:
        self.now += REFRESH_MS + 1


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> Saved:
    made = Saved()
    scrypt = supers.scrypt

    def counted(*args: Any, **more: Any) -> bytes:
        made.hashes += 1
        return scrypt(*args, **more)

    monkeypatch.setattr(supers, "scrypt", counted)
    return made


def test_the_super_user_is_who_shows_the_id_that_was_set(saved: Saved) -> None:
    assert not saved.user(ROOT, 1)
    set_super_user(saved.settings, ROOT)
    assert not saved.user(ROOT, 1)  # until the row is read again
    saved.later()
    assert saved.user(ROOT, 1)
    assert not saved.user(OTHER, 1)
    set_super_user(saved.settings, OTHER)
    saved.later()
    assert not saved.user(ROOT, 1)
    assert saved.user(OTHER, 1)
    set_super_user(saved.settings, "")
    saved.later()
    assert not saved.user(OTHER, 1)


def test_the_row_shows_the_name_and_nothing_else_of_the_id(saved: Saved) -> None:
    set_super_user(saved.settings, ROOT)
    first = saved.settings.get("super", "super")
    set_super_user(saved.settings, ROOT)
    second = saved.settings.get("super", "super")
    assert first is not None
    assert second is not None
    assert first["user"] == "root"
    assert first["salt"] != second["salt"]
    assert first["hash"] != second["hash"]
    assert ROOT.split(":")[1] not in repr(first)


def test_an_id_is_hashed_once_and_other_users_ids_never(saved: Saved) -> None:
    set_super_user(saved.settings, ROOT)
    saved.hashes = 0
    for client in range(20):
        assert saved.user(ROOT, client)
        assert not saved.user(digest(f"user{client}:pw"), client)
    assert saved.hashes == 1


def test_a_client_has_a_few_guesses_and_keeps_no_other_from_its_own(saved: Saved) -> None:
    set_super_user(saved.settings, ROOT)
    saved.hashes = 0
    for number in range(100):
        assert not saved.user(digest(f"root:{number}"), "hostile")
    assert saved.hashes == GUESSES
    assert not saved.user(ROOT, "hostile")  # too late
    assert saved.user(ROOT, "another")
    assert saved.user(ROOT, "hostile")  # known by now, and the id is right


def test_while_the_settings_cannot_be_read_the_row_that_is_known_counts(saved: Saved) -> None:
    set_super_user(saved.settings, ROOT)
    assert saved.user(ROOT, 1)
    get = saved.settings.get

    def fail(*key: str) -> Any:
        raise Unavailable("no answer")

    saved.settings.get = fail  # type: ignore[method-assign]
    saved.later()
    assert saved.user(ROOT, 1)
    saved.settings.get = get  # type: ignore[method-assign]


def test_functions_of_an_earlier_deployment_have_the_id_in_their_configuration() -> None:
    saved = Saved(ROOT)
    assert saved.user(ROOT, 1)
    assert not saved.user(OTHER, 1)
    set_super_user(saved.settings, OTHER)
    saved.later()
    assert not saved.user(ROOT, 1)
    assert saved.user(OTHER, 1)


class _Service:
    """What saving the super user uses of a service."""

    def __init__(self, saved: Saved, **options: str) -> None:
        data = {"cloud-provider": "aws", "deployment-name": "fk", "deployment-region": "r"}
        self.config = Config.deserialize({**data, **options})
        self.table = lambda short: saved.settings


def test_a_configuration_that_does_not_name_the_super_user_keeps_it_and_an_empty_one_removes_it(
    saved: Saved,
) -> None:
    said: list[str] = []
    for options, there, note in (
        ({}, False, 0),
        ({"super-digest": ROOT}, True, 0),
        ({}, True, 0),  # as a client's configuration, which may be deployed again
        ({"super-digest": ""}, False, 1),
    ):
        service = _Service(saved, **options)
        assert len(super_user_notes(service.config)) == note
        save_super_user(service, said.append)  # type: ignore[arg-type]
        assert (saved.settings.get("super", "super") is not None) is there
    assert said == ["the super user is root", "there is no super user"]


class _Aws(AwsDeployment):
    def told(self) -> dict[str, Any]:
        return {"given": parameters(self.service, "bucket", "code"), "written": self.preliminary()}


class _Gcp(GcpDeployment):
    def told(self) -> dict[str, Any]:
        return {"given": self.variables("code"), "written": self.preliminary()}


@pytest.mark.parametrize("made", [_Aws, _Gcp])
def test_the_digest_is_in_no_parameter_and_not_in_what_clients_get(made: type[_Aws] | type[_Gcp]) -> None:
    """CloudFormation and Terraform would keep it where many may read, and clients guess from it."""
    provider = "aws" if made is _Aws else "gcp"
    data = {
        "cloud-provider": provider, "deployment-name": "fk-test", "deployment-region": "r",
        "client-channel": "tcp", "gcp": {"project-id": "p"},
    }  # fmt: skip
    without, told = (
        _told(made, {**data, **more}) for more in ({}, {"super-digest": ROOT, "heartbeat-frequency": 600})
    )
    assert json.dumps(told) != json.dumps(without)  # what is configured does get there
    assert ROOT.split(":")[1] not in json.dumps(told)
    assert "super" not in json.dumps(told).lower()


def _told(made: type[_Aws] | type[_Gcp], data: dict[str, Any]) -> dict[str, Any]:
    deployment = made(Config.deserialize(data))
    try:
        return deployment.told()
    finally:
        deployment.close()


# ---- a whole deployment --------------------------------------------------------------------------


@pytest.fixture
def cloud() -> Iterator[Paper]:
    with paper() as made:
        set_super_user(made.table("settings"), ROOT)
        made.begin()
        yield made


def test_the_super_user_writes_where_an_acl_lets_nobody_write(cloud: Paper) -> None:
    with cloud.client() as alice, cloud.client() as root:
        alice.create("/a", b"", acl=ALICE_S)
        root.add_auth("digest", "root:other")
        with pytest.raises(NoAuthException):
            root.set_data("/a", b"1")
        root.add_auth("digest", "root:pw")
        root.set_data("/a", b"2")
        with pytest.raises(NoAuthException):  # its library does not know that it is the super user
            root.get_data("/a")


def test_one_who_names_the_super_user_in_the_own_configuration_reads_as_it(cloud: Paper) -> None:
    config = Config.deserialize(
        {
            "cloud-provider": "aws",
            "deployment-name": "paper",
            "deployment-region": "here",
            "super-digest": ROOT,
        }
    )
    with cloud.client() as alice:
        alice.create("/a", b"1", acl=ALICE_S)
        cloud.config = config
        with cloud.client() as root:
            root.add_auth("digest", "root:pw")
            assert root.get_data("/a").data == b"1"


def test_a_server_that_writes_directly_knows_the_super_user(cloud: Paper) -> None:
    service = PaperService(cloud, cloud.config.written_directly())
    connection = service.connect(-1, lambda: None)
    judge = connection.super_digest
    assert not isinstance(judge, str)
    assert judge(ROOT, "client")
    assert not judge(OTHER, "client")
    connection.close()
