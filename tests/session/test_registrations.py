"""Rows of watches and their index: as many as are waited for, and not as ever were."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from faaskeeper.client import FaaSKeeperClient, SessionState
from faaskeeper.core.errors import Unavailable
from faaskeeper.core.watches import Row, WatchTable
from faaskeeper.core.writer import order
from faaskeeper.exceptions import SessionExpiredException
from faaskeeper.providers.local import services as local
from faaskeeper.providers.memory import MemoryTable
from faaskeeper.session.registrations import Registrations
from faaskeeper.testing.patience import PATIENCE_S

SESSION = 7
Start = Callable[..., FaaSKeeperClient]


def row(path: str, kind: str = "data", stamp: int = 1) -> Row:
    return Row(path, kind, SESSION, stamp, "here")


class Place:
    """A table of watches, and what one session registered in it, ten at least."""

    def __init__(self) -> None:
        self.table = MemoryTable()
        self.watches = WatchTable(self.table)
        self.registrations = Registrations(self.watches, threading.Lock, 10)
        self.wanted: set[tuple[str, str]] = set()

    def put(self, path: str, kind: str = "data") -> None:
        self.registrations.put(row(path, kind))

    def idle(self) -> list[tuple[str, str]]:
        return self.registrations.idle(lambda path, kind: (path, kind) in self.wanted)

    def index(self) -> list[str]:
        return [key for key, _ in self.table.query(f"session {SESSION}", "", 100_000).items]

    def marked(self) -> bool:
        return bool(self.table.query("recursive", "", 10).items)


def test_what_nobody_waits_for_goes_with_its_row_once_there_is_much_of_it() -> None:
    place = Place()
    place.wanted = {("/wanted", "data")}
    place.put("/wanted")
    for number in range(5_000):
        place.put(f"/n{number}")
        if number % 2:
            place.watches.remove(row(f"/n{number}"))  # it has fired
        if place.registrations.many:
            place.registrations.forget(SESSION, place.idle())
    assert len(place.index()) <= 11
    assert len(place.table._items) <= 12
    assert place.watches.rows("/wanted") == [row("/wanted")]


def test_what_is_waited_for_stays_however_much_it_is_and_is_not_looked_through_each_time() -> None:
    place = Place()
    looked = []
    for number in range(1_000):
        place.wanted.add((f"/n{number}", "data"))
        place.put(f"/n{number}")
        if place.registrations.many:
            looked.append(number)
            place.registrations.forget(SESSION, place.idle())
    assert len(place.index()) == 1_000
    assert len(looked) < 10


def test_what_is_registered_again_while_it_is_removed_stays() -> None:
    place = Place()
    place.put("/n")
    idle = place.idle()
    place.put("/n")
    place.registrations.forget(SESSION, idle)
    assert place.index() == ["data /n"]
    assert place.watches.rows("/n") == [row("/n")]
    place.registrations.forget(SESSION, place.idle())
    assert place.index() == place.watches.rows("/n") == []
    place.put("/n")
    assert place.index() == ["data /n"]


def test_what_could_not_be_removed_is_removed_the_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place()
    for number in range(3):
        place.put(f"/n{number}")
    delete = place.table.delete

    def fails(*args: object) -> None:
        raise Unavailable("no answer")

    monkeypatch.setattr(place.table, "delete", fails)
    with pytest.raises(Unavailable):
        place.registrations.forget(SESSION, place.idle())
    assert place.registrations.many
    monkeypatch.setattr(place.table, "delete", delete)
    place.registrations.forget(SESSION, place.idle())
    assert place.index() == []
    assert not place.table._items
    assert not place.registrations.many


def test_a_removal_that_takes_effect_late_leaves_what_was_registered_since() -> None:
    place = Place()
    place.put("/n", "recursive")
    late: list[Callable[[], None]] = []
    drop = place.watches._drop
    place.watches._drop = lambda *args: late.append(lambda: drop(*args))  # type: ignore[method-assign]
    place.registrations.forget(SESSION, place.idle())
    place.put("/n", "recursive")
    assert len(late) == 2
    for each in late:
        each()
    assert place.index() == ["recursive /n"]
    assert place.marked()


@pytest.mark.parametrize("kind", ["data", "recursive"])
def test_a_row_that_may_come_yet_is_still_in_the_index_when_it_does(kind: str) -> None:
    place = Place()
    put = place.watches.put
    late: list[Callable[[], None]] = []

    def lands_late(row: Row) -> None:
        late.append(lambda: put(row))
        raise Unavailable("no answer")

    place.watches.put = lands_late  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        place.put("/n", kind)
    place.watches.put = put  # type: ignore[method-assign]
    place.registrations.remove(row("/n", kind))
    place.registrations.forget(SESSION, place.idle())
    late[0]()
    assert place.watches.rows("/n") == [row("/n", kind)]
    place.watches.clear(SESSION, last=True)
    assert not place.table._items


def test_the_mark_of_recursive_watches_goes_with_the_last_of_them_and_at_once() -> None:
    place = Place()
    place.put("/a", "recursive")
    place.put("/b", "recursive")
    place.registrations.remove(row("/a", "recursive"))
    assert place.marked()
    place.registrations.remove(row("/b", "recursive"))
    assert not place.marked()
    assert not place.table._items


def rows_of(client: FaaSKeeperClient) -> int:
    """Rows and entries of the client's session in the service's table."""
    session = client._session
    assert session is not None
    table = session.connection.watches._table
    assert isinstance(table, MemoryTable)
    return sum(len(items) for items in table._items.values())


def test_a_session_that_watches_ever_new_paths_does_not_grow(
    connect: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect()
    session = client._session
    assert session is not None
    session.registrations._least = session.registrations._most = 5
    tidied = threading.Event()
    forget = session.registrations.forget

    def noted(*args: object) -> None:
        forget(*args)  # type: ignore[arg-type]
        tidied.set()

    monkeypatch.setattr(session.registrations, "forget", noted)
    client.create("/kept")
    told = threading.Event()
    client.get_data("/kept", lambda event: told.set())
    for _ in range(40):
        path = client.create("/lock-", sequential=True).path
        client.exists(path, lambda event: None)
        client.delete(path)
    assert tidied.wait(PATIENCE_S), "the keeper does it"
    session.tidy()
    assert len(session.registrations) <= 6
    assert rows_of(client) <= 7
    client.set_data("/kept", b"1")
    assert told.wait(PATIENCE_S)


def test_a_watch_that_is_being_set_is_not_taken_for_one_that_nobody_waits_for(connect: Start) -> None:
    client = connect()
    session = client._session
    assert session is not None
    client.create("/n")
    put = session.registrations.put
    told = threading.Event()

    def tidied_in_between(row: Row) -> None:
        put(row)
        with session._lock:
            idle = session.registrations.idle(session.rules.waits_for)
        session.registrations.forget(session.id, idle)

    session.registrations.put = tidied_in_between  # type: ignore[method-assign]
    client.get_data("/n", lambda event: told.set())
    assert [each.kind for each in session.connection.watches.rows("/n")] == ["data"]
    client.set_data("/n", b"1")
    assert told.wait(PATIENCE_S)


def test_a_recursive_watch_that_is_removed_costs_others_nothing_any_more(connect: Start) -> None:
    client = connect()
    session = client._session
    assert session is not None
    watches = session.connection.watches
    client.add_watch("/", print, recursive=True)
    assert watches.recursive(lambda session: False)
    client.remove_watches("/")
    assert not watches.recursive(lambda session: False)
    assert rows_of(client) == 0


def test_a_watch_that_is_set_while_another_of_its_kind_is_removed_keeps_its_row(connect: Start) -> None:
    client = connect()
    session = client._session
    assert session is not None
    remove = session.registrations.remove
    told = threading.Event()

    def meanwhile(row: Row) -> None:
        session.registrations.remove = remove  # type: ignore[method-assign]
        client.add_watch("/", lambda event: told.set())
        remove(row)

    client.add_watch("/", print)
    session.registrations.remove = meanwhile  # type: ignore[method-assign]
    client.remove_watches("/", watch=print)  # type: ignore[arg-type]
    assert [each.kind for each in session.connection.watches.rows("/")] == ["persistent"]
    client.create("/n")
    assert told.wait(PATIENCE_S)


@pytest.mark.parametrize("learns", ["by its lease", "by an answer"])
def test_a_row_that_is_put_after_its_session_was_cleared_goes_with_what_the_client_learns(
    connect: Start, learns: str
) -> None:
    """The client stands still between the index and the row; nobody but it knows of the row."""
    client = connect()
    session = client._session
    assert session is not None
    watches = session.connection.watches
    client.create("/n")
    index = watches.index

    def stands_still(*args: object) -> None:
        index(*args)  # type: ignore[arg-type]
        watches.clear(session.id)
        watches.index = index  # type: ignore[method-assign]

    watches.index = stands_still  # type: ignore[method-assign]
    client.add_watch("/n", print, recursive=True)
    assert watches.rows("/n")
    service = local.services.owned(client._config.directory)
    assert service is not None
    lease = session.connection.leases.get(session.id)
    assert lease is not None
    service.deployment.leases.mark(lease)
    if learns == "by its lease":
        session.renew()
    else:
        service.deployment.worker_queue.send("writer", "test", order(service.deployment, [session.id]))
        with pytest.raises(SessionExpiredException):
            client.set_data("/n", b"1")
        session._listener.close()  # whoever hands answers over has done so
    assert client.state is SessionState.LOST
    assert watches.rows("/n") == []
    assert not watches.recursive(lambda session: False)


def test_a_mark_is_not_left_where_the_index_is_gone_already() -> None:
    place = Place()
    place.put("/n", "recursive")
    drop = place.watches._drop

    def index_last(partition: str, key: str, stamp: int) -> None:
        drop(partition, key, stamp)
        if partition.startswith("session"):
            raise Unavailable("the answer was lost")

    place.watches._drop = index_last  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        place.registrations.forget(SESSION, place.idle())
    assert not place.table._items
