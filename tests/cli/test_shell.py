"""The shell: at a real terminal, where Ctrl-C is pressed; and the words of its lines."""

from __future__ import annotations

import os
import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faaskeeper.cli.context import Context
from faaskeeper.cli.interrupts import Caller
from faaskeeper.cli.shell import Quit, complete, execute
from faaskeeper.cli.words import split
from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from faaskeeper.testing.patience import PATIENCE_S
from tests.cli.console import FK, Fk, Terminal

PROMPT = r"\[fk: local:faaskeeper-dev\(CONNECTED\) session:(\w+) %d\]"


@pytest.fixture
def fk(tmp_path: Path) -> Fk:
    return Fk(tmp_path)


@pytest.fixture
def terminal(fk: Fk) -> Iterator[Terminal]:
    terminal = Terminal([*FK, "shell"], fk.environment)
    terminal.wait_for(PROMPT % 0)
    yield terminal
    terminal.type("\x03")
    terminal.type("exit\r")
    assert terminal.wait() == 0


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    context = Context(Config.local(tmp_path))
    context.one_shot = False
    context.connect()
    yield context
    context.close()


def test_an_interrupt_ends_a_command_and_not_the_session(terminal: Terminal, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    terminal.type("create -e /e mine\r")
    terminal.wait_for("Created /e")
    terminal.wait_for(PROMPT % 1)
    terminal.type("get -w /e --timeout 600\r")
    terminal.wait_for("mine")
    terminal.type("\x03")
    terminal.wait_for("interrupted")
    terminal.wait_for(PROMPT % 2)
    terminal.type(f"create /x -f {pipe}\r")
    with open(pipe, "wb"):  # the command reads from it now
        terminal.type("\x03")
        terminal.wait_for("interrupted")
        terminal.wait_for(PROMPT % 3)
    terminal.type("getEphemerals\r")
    terminal.wait_for("/e")
    terminal.type("set /e new\r")
    terminal.wait_for("Set /e, version 1")


def test_an_interrupt_at_the_prompt_gives_up_the_line(terminal: Terminal) -> None:
    terminal.type("create /never")
    terminal.wait_for("/never")
    terminal.type("\x03")
    terminal.wait_for(PROMPT % 0)
    terminal.type("exists /never\r")
    terminal.wait_for("Node /never does not exist")


def test_an_interrupt_while_a_tree_is_printed_leaves_the_shell(fk: Fk) -> None:
    with FaaSKeeperClient(Config.local(fk.directory / "data")) as client:
        for number in range(100):  # more data than a terminal buffers: the tree waits for its reader
            client.create_async(f"/n{number:05d}", b"x" * 20_000)
    terminal = Terminal([*FK, "shell"], fk.environment)
    session = terminal.wait_for(PROMPT % 0).rsplit("session:", 1)[1]
    terminal.type("tree / --data\r")
    terminal.wait_for("n00001: x")
    terminal.type("\x03")
    assert session.split()[0] in terminal.wait_for(PROMPT % 1)
    terminal.type("\x04")
    assert terminal.wait() == 0


@pytest.mark.parametrize("leave", ["exit\r", "quit\r", "\x04"])
def test_the_shell_is_left_by_exit_quit_and_the_end_of_input(fk: Fk, leave: str) -> None:
    terminal = Terminal([*FK, "shell"], fk.environment)
    terminal.wait_for(PROMPT % 0)
    terminal.type(leave)
    assert terminal.wait() == 0


def test_exit_ends_a_script(fk: Fk) -> None:
    assert fk.said("shell", stdin=b"create /a\nexit\ncreate /b\n") == "Created /a\n"
    done = fk.run("shell", stdin=b"exit now\n")
    assert done.returncode == 2
    assert b"takes no argument" in done.stderr


def test_a_terminal_gets_no_escapes_out_of_data_and_names(terminal: Terminal, tmp_path: Path) -> None:
    terminal.type("create /\u202eevil 'x'\r")
    terminal.wait_for(r"Created /\\u202eevil")
    terminal.wait_for(PROMPT % 1)
    (tmp_path / "file").write_text("\x1b]0;title\x07 \x9b31m\n")
    terminal.type(f"create /d -f {tmp_path / 'file'}\r")
    terminal.wait_for("Created /d")
    terminal.wait_for(PROMPT % 2)
    terminal.type("get /d\r")
    assert "\x07" not in terminal.wait_for(r"\\x1b\]0;title\\x07 \\x9b31m")


def test_a_call_that_is_interrupted_goes_on_and_nobody_waits_for_it() -> None:
    caller = Caller()
    begun, end, dropped = threading.Event(), threading.Event(), threading.Event()

    def slow() -> str:
        begun.set()
        end.wait(PATIENCE_S)
        return "late"

    def interrupt() -> None:
        begun.wait(PATIENCE_S)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        caller.call(slow, lambda result: dropped.set() if result == "late" else None)
    assert caller.call(lambda: "next") == "next"
    assert not dropped.is_set()
    end.set()
    assert dropped.wait(PATIENCE_S)
    with pytest.raises(ValueError, match="as it was"):
        caller.call(lambda: raised("as it was"))


def raised(message: str) -> None:
    raise ValueError(message)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("gett /", "unknown command 'gett'; 'help' lists them. Did you mean one of 'get'"),
        ("getchildren /", "Did you mean one of 'getChildren'"),
        ("ls --jsn", "Did you mean '--json'?"),
        ("help gett", "Did you mean one of 'get'"),
        ("export", "'export' does not work in the shell"),
        ("xyzzy", "unknown command 'xyzzy'; 'help' lists them\n"),
    ],
)
def test_what_was_perhaps_meant_is_said_in_the_shell(
    context: Context, capsys: pytest.CaptureFixture[str], line: str, said: str
) -> None:
    assert execute(context, line) == 2
    assert said in capsys.readouterr().err


def test_what_was_perhaps_meant_is_said_outside_of_the_shell(fk: Fk) -> None:
    assert "Did you mean one of 'get'" in fk.run("gett", "/").stderr.decode()


def test_a_session_that_was_lost_is_opened_again_by_connect(
    context: Context, capsys: pytest.CaptureFixture[str]
) -> None:
    before = context.client.session_id
    thief = FaaSKeeperClient(context.config)
    thief.start(resume=context.client.ticket)
    thief.stop()
    assert execute(context, "create /a") == 1
    assert "'connect' opens a new one" in capsys.readouterr().err
    assert execute(context, "connect") == 0
    assert context.client.session_id != before
    assert execute(context, "create /a") == 0


def test_completion_quotes_paths_that_need_it(context: Context) -> None:
    assert execute(context, "create '/a b'") == 0
    (text, length), *_ = complete(context, "get /a")
    assert (text, length) == ("'/a b'", 2)
    assert execute(context, f"get {text}") == 0


def test_history_that_cannot_be_kept_does_not_keep_the_shell_from_running(fk: Fk, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where a folder should be")
    terminal = Terminal([*FK, "shell"], fk.environment)
    terminal.wait_for("cannot store the command history")
    terminal.wait_for(PROMPT % 0)
    terminal.type("create /a\r")
    terminal.wait_for("Created /a")
    terminal.type("quit\r")
    assert terminal.wait() == 0


# ---- words ---------------------------------------------------------------------------------------

_LINES = st.text(st.sampled_from("ab/ \t'\"\\\n$é"), max_size=20)


def outcome(function: Callable[[str], list[str]], line: str) -> object:
    try:
        return function(line)
    except ValueError:
        return "an error"


@settings(max_examples=500, deadline=None)
@given(_LINES)
def test_lines_are_split_as_a_posix_shell_does(line: str) -> None:
    assert outcome(split, line) == outcome(shlex.split, line)


def test_a_comment_begins_where_a_word_would() -> None:
    assert split("create /a#b 'x # y' # a comment") == ["create", "/a#b", "x # y"]
    assert split("# nothing") == []


def test_a_long_line_takes_time_in_proportion_to_its_length(fk: Fk) -> None:
    def took(size: int) -> float:
        line = f'set /a "{"ab " * (size // 6)}" ' + "x\\ '" + "y" * (size // 2) + "'"
        began = time.process_time()
        for _ in range(2**20 // size):
            split(line)
        return time.process_time() - began

    small = min(took(2**14) for _ in range(3))
    assert min(took(2**20) for _ in range(3)) < 5 * small + 0.1
    data = "x" * 2**20
    said = fk.said("shell", stdin=f"create /a {data}\nget /a".encode())
    assert said == f"Created /a\n{data}\n"


def test_what_is_said_of_a_long_line_is_short(context: Context, capsys: pytest.CaptureFixture[str]) -> None:
    for line in ("'" + "x" * 2**20, "y" * 2**20, "get " + "z" * 2**20, "ls --" + "z" * 2**20):
        assert execute(context, line) == 2
        assert len(capsys.readouterr().err) < 5000


def test_quit_is_not_an_error(context: Context) -> None:
    for word in ("quit", "exit"):
        with pytest.raises(Quit):
            execute(context, word)
