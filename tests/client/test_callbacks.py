"""Callbacks that fail, whatever they raise: it is logged, and the next one is called."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from faaskeeper.client import FaaSKeeperClient, SessionState
from faaskeeper.client.session import Session
from faaskeeper.exceptions import ProviderException
from faaskeeper.providers.tcp import TcpChannel, TcpListener
from faaskeeper.recipes import ChildrenWatch, DataWatch, Lock
from faaskeeper.testing.patience import PATIENCE_S

Start = Callable[..., FaaSKeeperClient]


class Raising:
    """A callback, of any arguments, that raises."""

    def __init__(self, error: BaseException, fine: int = 0) -> None:
        self.error = error
        self.fine = fine
        self.called = threading.Event()

    def __call__(self, *_: object) -> None:
        if self.fine:
            self.fine -= 1
            return
        self.called.set()
        raise self.error


def by_watch(client: FaaSKeeperClient, raising: Raising) -> None:
    client.get_data("/n", raising)
    client.set_data("/n", b"1")


def by_watch_that_stays(client: FaaSKeeperClient, raising: Raising) -> None:
    client.add_watch("/n", raising, recursive=True)
    client.set_data("/n", b"1")


def by_future(client: FaaSKeeperClient, raising: Raising) -> None:
    client.set_data_async("/n", b"1").add_callback(raising)


def by_read(client: FaaSKeeperClient, raising: Raising) -> None:
    client.get_data_async("/n").add_callback(raising)


def by_listener(client: FaaSKeeperClient, raising: Raising) -> None:
    client.add_listener(raising)
    session_of(client)._become(SessionState.SUSPENDED)


def by_data_watch(client: FaaSKeeperClient, raising: Raising) -> None:
    raising.fine = 1
    DataWatch(client, "/n", raising)
    client.set_data("/n", b"1")


def by_children_watch(client: FaaSKeeperClient, raising: Raising) -> None:
    raising.fine = 1
    ChildrenWatch(client, "/n", raising)
    client.create("/n/c")


def by_lock(client: FaaSKeeperClient, raising: Raising) -> None:
    lock = Lock(client, "/lock", on_loss=raising)
    assert lock.acquire(PATIENCE_S)
    session_of(client)._become(SessionState.SUSPENDED)


def session_of(client: FaaSKeeperClient) -> Session:
    assert client._session is not None
    return client._session


WAYS = [
    by_watch,
    by_watch_that_stays,
    by_future,
    by_read,
    by_listener,
    by_data_watch,
    by_children_watch,
    by_lock,
]
OTHERS = [KeyboardInterrupt("left"), asyncio.CancelledError("left"), ValueError("left")]


@pytest.mark.parametrize(
    ("way", "error"),
    [*((way, SystemExit("left")) for way in WAYS), *((by_watch, error) for error in OTHERS)],
    ids=lambda each: each.__name__ if callable(each) else type(each).__name__,
)
def test_what_a_callback_raises_is_logged_and_the_next_is_called(
    client: FaaSKeeperClient,
    way: Callable[[FaaSKeeperClient, Raising], None],
    error: BaseException,
    caplog: pytest.LogCaptureFixture,
) -> None:
    client.create("/n", b"")
    raising = Raising(error)
    way(client, raising)
    assert raising.called.wait(PATIENCE_S)
    done = threading.Event()
    client.get_data("/n", lambda event: done.set())
    client.set_data("/n", b"2")
    assert done.wait(PATIENCE_S)
    assert f"{type(error).__name__}: left" in caplog.text


def test_a_read_that_fails_in_an_unexpected_way_is_told_and_others_have_their_turn(
    client: FaaSKeeperClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.create("/n", b"1")

    def broken(*_: object) -> None:
        raise ValueError("broken")

    with monkeypatch.context() as patch:
        patch.setattr("faaskeeper.session.calls._node", broken)
        with pytest.raises(ValueError, match="broken"):
            client.get_data_async("/n").get(PATIENCE_S)
    assert client.get_data_async("/n").get(PATIENCE_S).data == b"1"
    assert client.set_data_async("/n", b"2").get(PATIENCE_S).stat.version == 1


def test_a_write_whose_result_cannot_be_made_is_told_and_others_are_answered(
    client: FaaSKeeperClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(client._calls, "shown", lambda path: int(path))
        with pytest.raises(ValueError, match="invalid literal"):
            client.create_async("/n").get(PATIENCE_S)
    assert client.set_data_async("/n", b"2").get(PATIENCE_S).stat.version == 1


@pytest.mark.threads
def test_a_session_whose_keeper_fails_is_lost_and_says_why(
    connect: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = connect()
    session = session_of(client)
    lost = threading.Event()
    client.add_listener(lambda state: lost.set())

    def broken() -> None:
        raise ValueError("the keeper broke")

    monkeypatch.setattr(session, "tidy", broken)
    session._keeper.hand_over()
    assert lost.wait(PATIENCE_S)
    assert client.state is SessionState.LOST
    with pytest.raises(ProviderException, match="the keeper broke"):
        client.exists("/")
    assert "the keeper of session" in caplog.text


def test_a_client_that_fails_on_a_message_by_tcp_hears_the_next(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[bytes] = []
    more = threading.Event()

    def hear(message: bytes) -> None:
        if message == b"bad":
            raise ValueError("cannot be heard")
        heard.append(message)
        more.set()

    listener: Any = TcpListener("127.0.0.1", 0, hear)
    channel = TcpChannel()
    with caplog.at_level(logging.ERROR):
        assert channel.deliver(listener.address, b"bad")
        connection = channel._connections[listener.address]
        assert channel.deliver(listener.address, b"good")
        assert more.wait(PATIENCE_S)
    assert channel._connections[listener.address] is connection
    assert heard == [b"good"]
    assert "cannot be heard" in caplog.text
    channel.close()
    listener.close()
