"""The super user ends the session of another client, which finds out by itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from faaskeeper.client import FaaSKeeperClient, SessionState
from faaskeeper.config import Config
from faaskeeper.core.acl import digest
from faaskeeper.exceptions import MalformedInputException, NoAuthException, SessionExpiredException
from faaskeeper.testing.patience import PATIENCE_S


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config.local(tmp_path / "service").with_super_user(digest("root:pw"))


@pytest.fixture
def admin(config: Config) -> Iterator[FaaSKeeperClient]:
    made = FaaSKeeperClient(config)
    made.add_auth("digest", "root:pw")
    with made:
        yield made


def test_a_client_finds_out_that_its_session_was_ended(
    admin: FaaSKeeperClient, connect: Callable[..., FaaSKeeperClient]
) -> None:
    client = connect(session_timeout=4)
    lost = threading.Event()
    client.add_listener(lambda state: lost.set() if state is SessionState.LOST else None)
    client.create("/lock", ephemeral=True)
    assert admin.end_session(str(client.session_id))
    assert admin.exists("/lock") is None
    assert lost.wait(PATIENCE_S)  # when it renews its lease: it asks for nothing
    with pytest.raises(SessionExpiredException):
        client.create("/b")
    assert not admin.end_session(str(client.session_id))


def test_who_is_not_the_super_user_ends_their_own_session_only(
    admin: FaaSKeeperClient, connect: Callable[..., FaaSKeeperClient]
) -> None:
    client = connect()
    with pytest.raises(NoAuthException, match="only the super user may end session"):
        client.end_session(str(admin.session_id))
    with pytest.raises(MalformedInputException):
        client.end_session("not a session")
    assert client.end_session(str(client.session_id))
    with pytest.raises(SessionExpiredException):
        client.create("/b")
