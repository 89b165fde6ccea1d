"""How long a login lasts, and what is ended with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from faaskeeper.core.acl import digest
from faaskeeper.exceptions import ProviderException
from faaskeeper.ui import logins as module
from faaskeeper.ui.access import Access
from faaskeeper.ui.logins import Logins, TooOften, Visit
from faaskeeper.ui.settings import Settings

HOUR_S = 3600.0
TOKEN = Settings(("127.0.0.1", 1), ("localhost",), token="right")
GATE = Settings(("127.0.0.1", 1), ("localhost",), gate="/gate")


class Clock:
    """Seconds, set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "elapsed_s", made)
    return made


@pytest.fixture
def open_logins(config: Config) -> Iterator[list[Logins]]:
    made: list[Logins] = []
    yield made
    for each in made:
        each.close()


def logins_of(config: Config, settings: Settings, made: list[Logins]) -> Logins:
    shared = Visit(Access(config), settings)
    made.append(Logins(settings, shared, lambda credential: Access(config, (credential,))))
    return made[-1]


def enter(logins: Logins, secret: str, user: str = "", before: str = "") -> str:
    cookie = logins.enter(user, secret, "192.0.2.1", before)
    assert cookie is not None
    return cookie


def test_each_login_by_token_is_over_when_nobody_uses_it(
    config: Config, clock: Clock, open_logins: list[Logins]
) -> None:
    logins = logins_of(config, TOKEN, open_logins)
    forgotten, used = enter(logins, "right"), enter(logins, "right")
    for _ in range(13):
        clock.now += HOUR_S
        assert logins.of(used) is not None
    assert logins.of(forgotten) is None


def test_a_page_that_only_listens_does_not_keep_a_login(
    config: Config, clock: Clock, open_logins: list[Logins]
) -> None:
    logins = logins_of(config, TOKEN, open_logins)
    cookie = enter(logins, "right")
    for _ in range(12):
        assert logins.good(cookie)
        clock.now += HOUR_S
    assert logins.good(cookie)
    clock.now += 1
    assert not logins.good(cookie)
    assert logins.of(cookie) is None


def test_a_login_ends_after_a_week_however_much_it_is_used(
    config: Config, clock: Clock, open_logins: list[Logins]
) -> None:
    logins = logins_of(config, TOKEN, open_logins)
    cookie = enter(logins, "right")
    for _ in range(7 * 24):
        clock.now += HOUR_S
        assert logins.of(cookie) is not None
    clock.now += HOUR_S
    assert logins.of(cookie) is None


def test_a_new_login_is_in_place_of_the_one_before(config: Config, open_logins: list[Logins]) -> None:
    logins = logins_of(config, TOKEN, open_logins)
    first = enter(logins, "right")
    second = enter(logins, "right", before=first)
    assert (logins.of(first), logins.of(second) is not None) == (None, True)


def test_the_session_of_a_login_that_is_over_is_ended_though_nobody_asks(
    config: Config, client: FaaSKeeperClient, clock: Clock, open_logins: list[Logins]
) -> None:
    client.create("/gate", acl=[(31, "digest", digest("alice:secret"))])
    logins = logins_of(config, GATE, open_logins)
    visit = logins.of(enter(logins, "secret", "alice"))
    assert visit is not None
    visit.access.client.create("/held", ephemeral=True)
    clock.now += 13 * HOUR_S
    logins.sweep()
    assert client.exists("/held") is None
    with pytest.raises(ProviderException):
        visit.access.client  # noqa: B018


def test_a_deployment_that_is_not_reached_is_no_wrong_password(
    config: Config, client: FaaSKeeperClient, open_logins: list[Logins], monkeypatch: pytest.MonkeyPatch
) -> None:
    client.create("/gate", acl=[(31, "digest", digest("alice:secret"))])
    logins = logins_of(config, GATE, open_logins)
    start = FaaSKeeperClient.start

    def fail(self: FaaSKeeperClient) -> str:
        raise ProviderException("the deployment is not reached")

    monkeypatch.setattr(FaaSKeeperClient, "start", fail)
    for _ in range(20):
        with pytest.raises(ProviderException):
            logins.enter("alice", "secret", "192.0.2.1")
    monkeypatch.setattr(FaaSKeeperClient, "start", start)
    assert logins.enter("alice", "secret", "192.0.2.1") is not None


def test_all_together_may_guess_only_so_often(
    config: Config,
    client: FaaSKeeperClient,
    clock: Clock,
    open_logins: list[Logins],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_ALL", 3)
    client.create("/gate", acl=[(31, "digest", digest("alice:secret"))])
    logins = logins_of(config, GATE, open_logins)
    for each in range(3):
        assert logins.enter("alice", "wrong", f"192.0.2.{each}") is None
    with pytest.raises(TooOften):
        logins.enter("alice", "secret", "192.0.2.9")
    clock.now += 61
    assert logins.enter("alice", "secret", "192.0.2.9") is not None
