"""``fk top`` counts what the log and the leases have, and names what is not known."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from faaskeeper.cli import measuring
from faaskeeper.cli.commands.top import rows
from faaskeeper.cli.measuring import Meter, first_since
from faaskeeper.client import FaaSKeeperClient
from faaskeeper.clocks import clock
from faaskeeper.config import Config
from faaskeeper.core.errors import Unavailable
from faaskeeper.core.log import Entry, Log
from faaskeeper.exceptions import NodeDoesntExistException
from faaskeeper.providers.memory import MemoryTable
from tests.cli.console import FK, Fk, Terminal
from tests.gateway.servers import Server

Start = Callable[..., FaaSKeeperClient]
ON_AWS = {"cloud-provider": "aws", "deployment-name": "any", "deployment-region": "us-east-1"}


@pytest.fixture
def fk(tmp_path: Path) -> Fk:
    return Fk(tmp_path)


def test_writes_sessions_and_paths_are_counted(connect: Start, config: Config) -> None:
    writer, client = connect(), connect()
    writer.create("/hot", b"")
    writer.create("/cold", b"", ephemeral=True)
    meter = Meter(client, config, window=3600)
    first = meter.look()
    for _ in range(5):
        writer.set_data("/hot", b"x" * 100)
    with pytest.raises(NodeDoesntExistException):
        writer.set_data("/absent")
    second = meter.look()
    assert second["transaction"] - first["transaction"] == 6
    assert round(3600 * (second["writes_per_s"] - first["writes_per_s"])) in range(0, 40)  # rounded to 0.01/s
    assert second["paths"][0] == {"path": "/hot", "writes": 6}
    assert second["sessions"] == 2
    assert (second["ephemerals"], second["znodes"] - first["znodes"]) == (1, 0)
    assert "cost" in second["unknown"]
    lines = dict(rows(second))
    assert lines["most writes"].split() == ["6", "/hot"]


def test_what_is_older_than_the_window_does_not_count(
    connect: Start, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect()
    client.create("/n", b"")
    assert Meter(client, config, window=3600).look()["paths"] != []
    monkeypatch.setattr(measuring, "clock", lambda: clock() + 3_700_000)
    assert Meter(client, config, window=3600).look()["paths"] == []


def test_a_log_of_which_the_beginning_is_gone_is_read_from_what_there_is(
    connect: Start, config: Config
) -> None:
    client = connect()
    for number in range(20):
        client.create(f"/n{number}")
    log = client.connection.log
    log.trim(log.after(0, 10)[0])
    assert len(Meter(client, config, window=3600).look()["paths"]) == 10


def test_what_cannot_be_read_is_named_with_the_reason(
    connect: Start, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect()

    class Leases:
        def all(self) -> object:
            raise Unavailable("no right to list leases")

    monkeypatch.setattr(client.connection, "leases", Leases())
    monkeypatch.setattr(client.connection, "tally", None)
    found = Meter(client, config).look()
    assert (found["sessions"], found["znodes"]) == (None, None)
    assert found["unknown"]["sessions"] == "no right to list leases"
    assert "did not count" in found["unknown"]["znodes"]
    assert "sessions" not in dict(rows(found))


def test_the_month_s_cost_is_estimated_from_its_writes(connect: Start) -> None:
    client = connect()
    for number in range(10):
        client.create(f"/n{number}", b"x" * 1000)
    meter = Meter(client, Config.deserialize(ON_AWS))
    month = meter.look()["month"]
    assert month["writes"] == client.connection.log.after(0)[0][-1].last
    assert month["dollars"] == pytest.approx(sum(month["parts"].values()), abs=0.001)
    before = month["parts"]["writes"]
    for _ in range(100):
        client.set_data("/n0", b"y" * 1000)
    later = meter.look()["month"]
    assert later["writes"] == month["writes"] + 100
    assert later["parts"]["writes"] > 5 * before


@pytest.mark.parametrize("stripes", [1, 8])
def test_the_first_entry_since_a_time_is_found(stripes: int) -> None:
    log = Log(MemoryTable(), stripes=lambda: stripes)
    first, now = 1, clock()
    entries = []
    for number in range(60):
        entry = Entry(first, first + number % 5, now + 1000 * number, (), ())
        log.append(entry, 0)
        entries.append(entry)
        first = entry.last + 1
    last = entries[-1].last
    for entry in entries:
        assert first_since(log, entry.time, last) == (entry.first - 1, entry.time)
        assert first_since(log, entry.time - 999, last) == (entry.first - 1, entry.time)
    assert first_since(log, entries[-1].time + 1, last)[0] == last
    log.trim(entries[:20])
    assert first_since(log, 0, last) == (entries[20].first - 1, entries[20].time)


def test_a_server_is_asked_and_one_that_does_not_answer_is_named(fk: Fk, tmp_path: Path) -> None:
    server = Server(tmp_path / "server", "--commands", "mntr")
    address = f"127.0.0.1:{server.port}"
    found = json.loads(fk.said("top", "--once", "--json", "--server", address))
    (asked,) = found["servers"]
    assert (asked["server"], asked["watches"], asked["requests_per_s"]) == (address, 0, None)
    assert fk.said("top", "--server", address).count("watches") == 1
    server.kill()
    (asked,) = json.loads(fk.said("top", "--once", "--json", "--server", address))["servers"]
    assert "does not answer" in asked["error"]


def test_the_table_at_a_terminal_is_renewed_until_it_is_interrupted(fk: Fk) -> None:
    terminal = Terminal([*FK, "top", "--interval", "0.1"], fk.environment)
    for _ in range(3):
        terminal.wait_for("not known")
    terminal.type("\x03")
    assert terminal.wait() == 0
