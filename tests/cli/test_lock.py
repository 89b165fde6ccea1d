"""``fk lock`` in processes of its own: statuses, signals, the terminal, and what is killed or stopped."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from faaskeeper.testing.patience import PATIENCE_S
from tests.cli.console import FK, ROOT, Fk, Terminal

GOES_ON = "echo $$; while :; do sleep 0.05; done"
SAYS = f'trap "echo ended; exit 3" TERM; {GOES_ON}'
"""Says its process, and that it was asked to end."""


@pytest.fixture
def fk(tmp_path: Path) -> Fk:
    return Fk(tmp_path)


Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(fk: Fk) -> Iterator[Start]:
    """Starts ``fk lock``, in a process group of its own; kills what is left."""
    made: list[subprocess.Popen[bytes]] = []

    def run(*arguments: str) -> subprocess.Popen[bytes]:
        made.append(
            subprocess.Popen(
                [*FK, "lock", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT,
                env=fk.environment, start_new_session=True,
            )
        )  # fmt: skip
        return made[-1]

    yield run
    for each in made:
        if each.poll() is None:
            each.send_signal(signal.SIGCONT)
            each.kill()
        each.communicate(timeout=PATIENCE_S)


def first_line(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().decode().strip()


def ended(process: subprocess.Popen[bytes]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=PATIENCE_S)
    return process.returncode, out.decode(), err.decode()


def test_the_command_has_the_token_and_its_status_is_the_lock_s(fk: Fk) -> None:
    script = "echo $FK_LOCK_PATH $FK_FENCING_TOKEN $FK_SESSION $FK_LOCK_NODE; cat; exit 7"
    tokens = []
    for turn in range(2):
        done = fk.run("lock", "/jobs/nightly", "--", "sh", "-c", script, stdin=b"input")
        assert done.returncode == 7, done.stderr
        line, given = done.stdout.decode().split("\n")
        path, token, session, node = line.split()
        assert (path, given) == ("/jobs/nightly", "input")
        assert int(session, 16) < int(token)
        assert node.startswith("/jobs/nightly/lock-")
        assert node.endswith(f"-{turn:010d}")
        tokens.append(int(token))
    assert tokens == sorted(tokens)
    assert fk.said("ls", "/jobs/nightly") == ""


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("kill -9 $$", 137), ("kill -TERM $$", 143)])
def test_a_command_that_a_signal_ends_has_a_shell_s_status(fk: Fk, script: str, status: int) -> None:
    assert fk.run("lock", "/l", "--", "sh", "-c", script).returncode == status


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("/l", "--", "no-such-command"), 127, "cannot run no-such-command: no such command"),
        (("/l", "--", "/etc/passwd"), 126, "cannot run /etc/passwd: it is not executable"),
        (("/l",), 2, "Missing argument '-- COMMAND...'"),
        (("/l", "--read", "--election", "--", "true"), 2, "exclude each other"),
        (("/l", "--grace", "10", "--", "true"), 2, "does not fit a session time-out of 30 s: use at most 9"),
        (("/l", "--session-timeout", "3", "--", "true"), 2, "at least 4"),
        (("/l", "--semaphore", "0", "--", "true"), 2, "not an integer from 1"),
        (("l", "--", "true"), 2, "'l'"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_touches_nothing(
    fk: Fk, arguments: tuple[str, ...], status: int, said: str
) -> None:
    done = fk.run("lock", *arguments)
    assert done.returncode == status
    assert said in done.stderr.decode()
    assert b"Traceback" not in done.stderr
    assert not (fk.directory / "data").exists()


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (("--election",), "lock-"),
        (("--read",), "read-"),
        (("--write",), "write-"),
        (("--semaphore", "2"), "lease-"),
    ],
)
def test_each_kind_is_the_recipe_of_that_name(fk: Fk, options: tuple[str, ...], name: str) -> None:
    done = fk.run("lock", "/l", *options, "--", "sh", "-c", "echo $FK_LOCK_NODE")
    assert done.stdout.decode().startswith(f"/l/{name}")


def test_a_signal_goes_to_the_command(start: Start, fk: Fk) -> None:
    process = start("/l", "--", "sh", "-c", SAYS)
    first_line(process)
    process.terminate()
    assert ended(process)[:2] == (3, "ended\n")
    assert fk.said("ls", "/l") == ""


def test_a_killed_fk_takes_its_command_along_and_the_lock_is_free_when_its_session_has_ended(
    start: Start, fk: Fk
) -> None:
    process = start("/l", "--session-timeout", "10", "--grace", "0.5", "--", "sh", "-c", SAYS)
    first_line(process)
    process.kill()
    status, out, _ = ended(process)  # the end of its output: nothing that could write is left
    assert (status, out) == (-signal.SIGKILL, "ended\n")
    waited = fk.run("lock", "/l", "--wait", "0", "-E", "9", "--identifier", "me", "--", "true")
    assert waited.returncode == 9
    assert b"fk: /l was not free within 0 s: " in waited.stderr
    assert b"me" not in waited.stderr
    waited = fk.run("lock", "/l", "--wait", "0", "-E", "9", "--json", "--", "true")
    error = json.loads(waited.stderr)
    assert (waited.returncode, error["status"], error["kind"]) == (9, 9, "timeout")
    assert fk.run("lock", "/l", "--wait", str(PATIENCE_S), "--", "true").returncode == 0


def test_a_wait_that_a_signal_ends_leaves_nothing(start: Start, fk: Fk) -> None:
    holder = start("/l", "--session-timeout", "600", "--", "sh", "-c", SAYS)
    first_line(holder)
    holder.kill()
    ended(holder)
    (before,) = fk.said("ls", "/l").split()
    for number, status in ((signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)):
        waiting = start("/l", "--session-timeout", "600", "--", "true")
        _until_it_handles(waiting, number)
        waiting.send_signal(number)
        assert ended(waiting)[0] == status
        assert fk.said("ls", "/l").split() == [before]


def _until_it_handles(process: subprocess.Popen[bytes], number: int) -> None:
    """Wait until a process has a handler of a signal, and has a directory's owner file open."""
    while True:
        text = Path(f"/proc/{process.pid}/status").read_text()
        caught = int(text.split("SigCgt:")[1].split()[0], 16)
        if caught >> (signal.SIGUSR1 - 1) & 1:
            return
        time.sleep(0.01)


def test_a_stopped_fk_does_not_keep_its_command(start: Start) -> None:
    process = start(
        "/l", "--session-timeout", "10", "--grace", "0.2", "--", "sh", "-c", f'trap "" TERM; {GOES_ON}'
    )
    command = int(first_line(process))
    process.send_signal(signal.SIGSTOP)
    deadline = time.monotonic() + PATIENCE_S
    while Path(f"/proc/{command}/cmdline").exists():  # the guard has it reaped
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGCONT)
    status, _, err = ended(process)
    assert status == 1
    assert "fk: the lock /l was lost: " in err


# ---- at a terminal -----------------------------------------------------------------------------


def shell(fk: Fk) -> Terminal:
    """A shell with job control."""
    terminal = Terminal(["bash", "--norc", "--noediting", "-i"], {**fk.environment, "PS1": "ready> "})
    terminal.wait_for("ready> ")
    return terminal


def typed(*arguments: str) -> str:
    return " ".join([*FK, "lock", "/l", *arguments]) + "; echo status $?\n"


def test_a_command_reads_the_terminal_and_is_interrupted_alone(fk: Fk) -> None:
    terminal = shell(fk)
    script = """trap "echo got; exit 5" INT; read line; echo "read <$line>"; while :; do sleep 0.05; done"""
    terminal.type(typed("--", "sh", "-c", f"'{script}'"))
    terminal.type("some words\n")
    terminal.wait_for("read <some words>")
    terminal.type("\x03")
    terminal.wait_for("got")
    terminal.wait_for("status 5")
    terminal.type("exit\n")
    terminal.wait()


def test_a_job_is_stopped_and_continued_as_a_whole(fk: Fk) -> None:
    terminal = shell(fk)
    terminal.type(typed("--", "sh", "-c", '\'echo here; read a; echo "<$a>"; read b; echo "<$b>"\''))
    terminal.wait_for("here\r\n")
    terminal.type("\x1a")
    terminal.wait_for("Stopped")
    terminal.wait_for("ready> ")
    terminal.type("fg\n")
    terminal.type("one\n")
    terminal.wait_for("<one>")
    terminal.type("two\n")
    terminal.wait_for("<two>")
    terminal.wait_for("ready> ")
    terminal.type("exit\n")
    terminal.wait()


def test_a_job_that_was_stopped_for_too_long_is_not_continued(fk: Fk) -> None:
    terminal = shell(fk)
    seen = fk.directory / "seen"
    (fk.directory / "writes.py").write_text(  # a shell that starts a program at that moment may not stop
        f"import time; out = open({str(seen)!r}, 'a', 1); print('here', flush=True)\n"
        "while True: out.write('.\\n'); time.sleep(0.02)"
    )
    words = (sys.executable, str(fk.directory / "writes.py"))
    terminal.type(typed("--session-timeout", "8", "--", *words))
    terminal.wait_for("here\r\n")
    terminal.type("\x1a")
    terminal.wait_for("ready> ")
    before = seen.read_text()
    terminal.type("sleep 8.2; echo slept\n")
    terminal.wait_for("\nslept")
    terminal.type("fg\n")
    terminal.wait_for("the lock /l was lost")
    assert seen.read_text() == before
    terminal.type("exit\n")
    terminal.wait()
