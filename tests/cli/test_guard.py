"""A guard ends its command in time, whatever becomes of the process that gives it orders."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from faaskeeper.cli.holding import Guarded
from faaskeeper.clocks import elapsed
from faaskeeper.testing.patience import PATIENCE_S

FAR = 7_200_000
"""Ms: later than any of these tests ends."""


class Command:
    """A guarded command that says in a pipe what happens to it."""

    def __init__(self, script: str, grace: int = 60_000, until: int = FAR, *, shell: str = "sh") -> None:
        self.guarded = Guarded([shell, "-c", script], os.environ, grace, elapsed() + until)
        process = self.guarded._process
        assert process.stdout is not None
        self.output = process.stdout
        self._said = self.output.fileno()
        self.reports = self._reports()
        self.ended = False

    def _reports(self) -> Iterator[tuple[str, int]]:
        while (found := self.guarded.reports(PATIENCE_S)) is not None:
            assert found, "no report"
            yield from found

    def heard(self, number: int = -1) -> str:
        """So many characters that the command says; all up to its end."""
        text = ""
        while number < 0 or len(text) < number:
            read = os.read(self._said, 1 if number > 0 else 4096).decode()
            if not read:
                break
            text += read
        return text

    def end(self) -> None:
        """Kill it, unless it has ended."""
        if not self.ended:
            self.ended = True
            self.guarded.kill()
            self.guarded.close()


Make = Callable[..., Command]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Runs commands, whose output is a pipe."""
    made: list[Command] = []
    monkeypatch.setattr(subprocess, "Popen", partial(subprocess.Popen, stdout=subprocess.PIPE))

    def make(*args: object, **options: object) -> Command:
        made.append(Command(*args, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for each in made:
        each.end()
        each.output.close()


OBEYS = 'trap "echo t; exit 3" TERM; echo s; while :; do sleep 0.05; done'
REFUSES = 'trap "" TERM; echo s; while :; do sleep 0.05; done'


def test_a_command_that_ends_is_reported_with_its_status(run: Make) -> None:
    assert [each[0] for each in run("exit 7").reports] == ["started", "exited"]
    assert list(run("exit 7").reports)[-1] == ("exited", 7)
    assert list(run("kill -USR1 $$").reports)[-1] == ("exited", -signal.SIGUSR1)


def test_a_command_is_asked_to_end_its_grace_before_the_moment(run: Make) -> None:
    began = elapsed()
    command = run(OBEYS, 60_000, 60_500)
    assert [each for each in command.reports if each[0] != "started"] == [("ending", 0), ("exited", 3)]
    assert elapsed() - began >= 500
    assert command.heard() == "s\nt\n"


def test_a_command_that_refuses_is_killed_at_the_moment(run: Make) -> None:
    began = elapsed()
    command = run(REFUSES, 200, 600)
    assert list(command.reports)[-1] == ("exited", -signal.SIGKILL)
    assert elapsed() - began >= 600
    assert command.heard() == "s\n"


def test_a_later_moment_in_time_keeps_the_command_and_an_earlier_one_ends_it(run: Make) -> None:
    command = run(OBEYS, 100, 1_000)
    command.guarded.until(elapsed() + FAR)
    began = elapsed()
    assert next(command.reports)[0] == "started"
    assert command.guarded.reports(1.5) == []  # nothing happened at the first moment
    assert elapsed() - began >= 1_500
    command.guarded.until(elapsed())
    assert list(command.reports) == [("ending", 0), ("exited", -signal.SIGKILL)]


def test_the_end_of_the_orders_ends_the_command(run: Make) -> None:
    command = run(OBEYS)
    assert command.heard(2) == "s\n"
    os.close(command.guarded._orders)
    command.guarded._orders = os.open(os.devnull, os.O_WRONLY)
    assert list(command.reports)[1:] == [("ending", 0), ("exited", 3)]


def test_what_the_command_has_started_ends_with_it_when_it_has_to(run: Make) -> None:
    command = run(f"({REFUSES}) & wait", 300)
    assert command.heard(2) == "s\n"
    command.guarded.end()
    assert list(command.reports)[-1] == ("exited", -signal.SIGTERM)
    assert command.heard() == ""  # none that could write is left


def test_what_the_command_has_started_has_the_grace_too(run: Make) -> None:
    command = run(f"({OBEYS}) & wait", 60_000)
    assert command.heard(2) == "s\n"
    began = elapsed()
    command.guarded.end()
    assert list(command.reports)[-1] == ("exited", -signal.SIGTERM)
    assert command.heard() == "t\n"
    assert elapsed() - began < 60_000


def test_what_a_command_leaves_behind_when_it_ends_by_itself_goes_on(run: Make) -> None:
    command = run(f"({OBEYS}) & exit 0")
    assert list(command.reports)[-1] == ("exited", 0)
    group = command.guarded._pid
    assert command.heard(2) == "s\n"
    os.killpg(group, signal.SIGTERM)
    assert command.heard() == "t\n"


def test_a_stopped_command_is_killed_without_running_again(run: Make) -> None:
    command = run(OBEYS, 0, 1_500)
    assert command.heard(2) == "s\n"
    os.killpg(command.guarded._pid or next(command.reports)[1], signal.SIGSTOP)
    assert list(command.reports)[-1] == ("exited", -signal.SIGKILL)
    assert command.heard() == ""


def test_a_stopped_command_takes_a_request_to_end(run: Make) -> None:
    command = run(OBEYS)
    assert command.heard(2) == "s\n"
    os.killpg(next(command.reports)[1], signal.SIGSTOP)
    command.guarded.end()
    assert list(command.reports)[-1] == ("exited", 3)


def test_signals_are_for_the_command_and_not_for_the_guard(run: Make) -> None:
    command = run('trap "echo u" USR1; trap "exit 9" TERM; echo s; while :; do sleep 0.05; done')
    assert command.heard(2) == "s\n"
    command.guarded.signal(signal.SIGUSR1)
    assert command.heard(2) == "u\n"
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        os.kill(command.guarded.pid, number)  # as a terminal or a supervisor does to a whole group
    assert command.guarded.reports(0.5) == [("started", command.guarded._pid)]
    assert command.guarded.reports(0.5) == []
    command.guarded.signal(signal.SIGTERM)
    assert list(command.reports) == [("exited", 9)]


def test_a_command_ignores_the_signals_that_who_started_it_ignores_and_no_other(run: Make) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    try:
        command = run("exec cat /proc/self/status")
    finally:
        signal.signal(signal.SIGHUP, before)
    (ignored,) = re.findall(r"SigIgn:\s*(\w+)", command.heard())
    own = {number for number in range(1, 32) if signal.getsignal(number) is signal.SIG_IGN}
    expected = {int(each) for each in {*own, signal.SIGHUP}} - {
        signal.SIGPIPE,
        signal.SIGXFSZ,
    }  # Python's own
    assert {number for number in range(1, 32) if int(ignored, 16) >> (number - 1) & 1} == expected


def test_a_command_ends_with_a_guard_that_is_killed(run: Make) -> None:
    command = run(f"({REFUSES}) & wait")
    assert command.heard(2) == "s\n"
    (_, pid) = next(command.reports)
    os.kill(command.guarded.pid, signal.SIGKILL)
    assert list(command.reports) == []
    assert pid == command.guarded._pid
    command.end()
    assert command.heard() == ""  # none that could write is left


def test_a_command_that_cannot_be_run_is_reported_with_the_reason(run: Make, tmp_path: Path) -> None:
    assert list(run("", shell=str(tmp_path / "absent")).reports) == [("failed", 2)]
    assert list(run("", shell=str(tmp_path)).reports) == [("failed", 13)]
