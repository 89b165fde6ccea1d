"""What the examples claim to survive, they survive: processes are killed and stopped for real."""

from __future__ import annotations

import itertools
import json
import queue
import re
import signal
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.recipes import LockingQueue
from faaskeeper.testing.patience import PATIENCE_S
from tests.backends import free_port
from tests.examples.running import Program, config, copied, heard, python, until

Said = queue.Queue[tuple[str, str]]
Lines = list[tuple[str, str]]
OVER = re.compile(" leads no more$| begins again: ")


@pytest.fixture
def said() -> Iterator[Said]:
    """What all programs print. They end with the test."""
    yield queue.Queue()
    for program in list(Program.running):
        program.kill()


def test_a_count_goes_on_whatever_happens_to_its_leader(tmp_path: Path, said: Said) -> None:
    folder = copied("election", tmp_path)
    lines: Lines = []
    with FaaSKeeperClient(config(folder)) as client:
        nodes = {name: python(folder, said, name, "node.py", name) for name in "ABCD"}

        def leader(*others: str) -> str:
            name, _ = heard(said, lambda name, line: " leads with " in line and name not in others, lines)
            until(client, "/app/count", lambda data: f'"by": "{name}"'.encode() in data)
            return name

        first = leader()
        nodes[first].kill()
        second = leader(first)
        nodes[second].send(signal.SIGSTOP)
        third = leader(first, second)
        nodes[second].send(signal.SIGCONT)
        heard(said, lambda name, line: name == second and OVER.search(line) is not None, lines)
        nodes[third].send(signal.SIGTERM)
        fourth = leader(first, third)
        nodes[fourth].kill()
        states = [
            json.loads(each.data) for each in client.history("/app/count", newest_first=False) if each.data
        ]
    assert [state["count"] for state in states] == list(range(1, len(states) + 1))
    tokens = [state["token"] for state in states]
    assert tokens == sorted(tokens)
    assert len(set(tokens)) >= 4
    if (third, f"{third} has ended") not in lines:
        heard(said, lambda name, line: line == f"{third} has ended", lines)


def test_a_fleet_keeps_its_rate_and_loses_no_job(tmp_path: Path, said: Said) -> None:
    folder = copied("workers", tmp_path)
    lines: Lines = []
    jobs = [f"job-{number}" for number in range(24)]
    with FaaSKeeperClient(config(folder)) as client:
        every = LockingQueue(client, "/jobs")
        every.put(b"hang", priority=1)
        workers = {
            name: python(folder, said, name, "worker.py", name, "--rate", "20", "--seats", "2")
            for name in "ABC"
        }
        busy, _ = heard(said, lambda name, line: line.endswith("begins hang"), lines)
        every.put_all(job.encode() for job in jobs)
        heard(said, lambda name, line: line.endswith("begins job-11"), lines)
        workers[busy].kill()
        heard(said, lambda name, line: line.endswith("begins hang"), lines)

        def done() -> set[str]:
            return {line.split()[-1] for _, line in lines if " has done " in line}

        while len(done()) < len(jobs):
            heard(said, lambda name, line: " has done " in line, lines)
    beginnings = [
        each for each in (re.match(r"([\d.]+) (\w) begins (.*)", line) for _, line in lines) if each
    ]
    moments = sorted(float(each[1]) for each in beginnings)
    assert all(later - earlier > 0.048 for earlier, later in itertools.pairwise(moments))
    assert [line for _, line in lines if " lost " in line] == []
    assert done() == set(jobs)
    assert sorted(each[3] for each in beginnings) == sorted([*jobs, "hang", "hang"])


def test_flags_stay_while_the_service_is_away_and_follow_when_it_is_back(tmp_path: Path, said: Said) -> None:
    folder = copied("flags", tmp_path)
    lines: Lines = []
    port = free_port()

    def shown(user: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/beta/{user}") as answer:
            return str(answer.read().decode().strip())

    words = [sys.executable, "-m", "faaskeeper.cli", "serve", "service.json", "--listen", "127.0.0.1:0"]
    owner = Program(folder, said, "owner", *words)
    heard(said, lambda name, line: line.startswith("serving"), lines)
    server = python(folder, said, "server", "server.py", f"127.0.0.1:{port}")
    heard(said, lambda name, line: name == "server" and line.startswith("serving"), lines)
    with FaaSKeeperClient(config(folder)) as client:
        client.create("/flags/beta", b"100")
        heard(said, lambda name, line: line == "beta is on for 100 %", lines)
        owner.send(signal.SIGSTOP)
        assert shown("alice") == "on"
        writing = client.set_data_async("/flags/beta", b"0")
        assert shown("alice") == "on"
        owner.send(signal.SIGCONT)
        writing.get(PATIENCE_S)
        heard(said, lambda name, line: line == "beta is on for 0 %", lines)
        assert shown("alice") == "off"
        owner.kill()  # another process takes the service over
        client.set_data("/flags/beta", b"100")
        heard(said, lambda name, line: line == "beta is on for 100 %", lines)
        assert shown("alice") == "on"
    server.kill()


def test_an_instance_that_ends_is_replaced_and_its_place_is_not_given_again(
    tmp_path: Path, said: Said
) -> None:
    folder = copied("registry", tmp_path)
    lines: Lines = []
    following = python(folder, said, "following", "caller.py", "shop", "--follow")
    heard(said, lambda name, line: line.rstrip() == "there:", lines)
    first = python(folder, said, "A", "instance.py", "shop", "A")
    heard(said, lambda name, line: line == "there: A", lines)
    second = python(folder, said, "B", "instance.py", "shop", "B")
    heard(said, lambda name, line: line == "there: A B", lines)
    first.kill()
    heard(said, lambda name, line: line == "there: B", lines)
    again = python(folder, said, "A", "instance.py", "shop", "A")
    heard(said, lambda name, line: line == "there: B A", lines)
    with FaaSKeeperClient(config(folder)) as client:
        names = sorted(child.path for child in client.get_children("/services/shop"))
    assert [name[-1] for name in names] == ["1", "2"]
    for program in (following, second, again):
        program.kill()
