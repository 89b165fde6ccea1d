"""What ``fk`` prints: exact for scripts, harmless for terminals, whole, and whatever the locale says."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from faaskeeper.cli.context import Context
from faaskeeper.cli.shell import execute
from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from faaskeeper.core.requests import NO_DATA
from faaskeeper.testing.patience import PATIENCE_S
from tests.cli.console import FK, ROOT, Fk, Terminal

ESCAPES = "\x1b]0;title\x07\x1b[31mred\x9b0m\u202e"


@pytest.fixture
def fk(tmp_path: Path) -> Fk:
    return Fk(tmp_path)


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    context = Context(Config.local(tmp_path))
    context.one_shot = False
    context.connect()
    yield context
    context.close()


Captured = pytest.CaptureFixture[str]


def said(context: Context, capsys: Captured, line: str) -> str:
    assert execute(context, line) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def got(context: Context, capsys: Captured, line: str) -> Any:
    return json.loads(said(context, capsys, line))


def test_raw_is_what_is_stored_and_nothing_else(context: Context, capfdbinary: Any) -> None:
    for number, data in enumerate((b"", b"text", b"text\n", bytes(range(256)), ESCAPES.encode())):
        context.client.create(f"/{number}", data)
        assert execute(context, f"get --raw /{number}") == 0
        assert capfdbinary.readouterr().out == data


def test_json_says_what_is_stored_of_text_of_bytes_and_of_nothing(context: Context, capsys: Captured) -> None:
    client = context.client
    client.create("/text", "ü\x00\x7f\\xff".encode())
    client.create("/bytes", b"\\xff\xff")
    client.create("/empty")
    made = client.transaction().create("/none").parts[0]
    client.commit([made._replace(data=NO_DATA)])
    shown = got(context, capsys, "get --json /text")
    assert (shown["data"], "encoding" in shown) == ("ü\x00\x7f\\xff", False)
    shown = got(context, capsys, "get --json /bytes")
    assert (b64decode(shown["data"]), shown["encoding"]) == (b"\\xff\xff", "base64")
    assert got(context, capsys, "get --json /empty")["data"] == ""
    assert got(context, capsys, "get --json /none")["data"] is None
    children = got(context, capsys, "tree / --json")["children"]
    assert {each["path"]: each.get("encoding") for each in children}["/bytes"] == "base64"


def test_raw_goes_with_nothing_else(context: Context) -> None:
    for option in ("--json", "--stat"):
        assert execute(context, f"get / --raw {option}") == 2


def test_a_tree_is_never_cut_however_narrow_the_terminal(context: Context, capsys: Captured) -> None:
    name, data = "n" * 300, "d" * 5000
    context.client.create(f"/{name}", data.encode())
    context.client.create(f"/{name}/{name}", b"two\nlines")
    tree = said(context, capsys, f"tree /{name} --data")
    assert tree == f"{name}: {data}\n└── {name}: two\\nlines\n"
    assert said(context, capsys, "tree / --data").count("\n") == 6


def test_a_tree_is_as_deep_as_paths_can_be(context: Context, capsys: Captured) -> None:
    path = "/a" * 450
    context.client.create(path, makepath=True)
    assert said(context, capsys, "tree /a").count("\n") == 450


def test_a_tree_shows_nodes_with_more_children_than_a_record_holds(
    context: Context, capsys: Captured
) -> None:
    with context.client.transaction() as transaction:
        for number in range(300):
            transaction.create(f"/{number:03d}")
    assert len(got(context, capsys, "tree --json")["children"]) == 301


def test_names_and_data_are_escaped_where_a_person_reads_them(context: Context, capsys: Captured) -> None:
    context.client.create("/a\u202eb", ESCAPES.encode())
    escaped = "\\x1b]0;title\\x07\\x1b[31mred\\x9b0m\\u202e"
    assert said(context, capsys, "ls / -i").splitlines()[0] == f"a\\u202eb\t{escaped}"
    assert f"── a\\u202eb: {escaped}\n" in said(context, capsys, "tree --data")
    assert said(context, capsys, "exists /a\u202eb") == "Node /a\\u202eb exists\n"
    as_json = said(context, capsys, "get --json /a\u202eb")
    assert as_json.isprintable() or not any(0x7F <= ord(each) <= 0x9F for each in as_json)
    assert json.loads(as_json)["data"] == ESCAPES
    assert execute(context, "create /a\u202eb") == 4
    assert "\u202e" not in capsys.readouterr().err


def test_a_one_shot_command_sends_a_terminal_no_escapes(fk: Fk) -> None:
    fk.said("create", "/a", ESCAPES)
    assert fk.run("get", "/a").stdout == ESCAPES.encode() + b"\n"
    terminal = Terminal([*FK, "get", "/a"], fk.environment)
    assert "\x07" not in terminal.wait_for(r"\\x1b\]0;title\\x07\\x1b\[31mred\\x9b0m\\u202e\s")
    assert terminal.wait() == 0


LOCALES = (
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"LANG": "C", "PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "latin-1"},
)


@pytest.mark.parametrize("locale", LOCALES)
def test_output_and_input_are_utf_8_whatever_the_locale(fk: Fk, locale: dict[str, str]) -> None:
    fk.environment.pop("LC_ALL", None)
    fk.environment.update(locale)
    assert fk.said("create", "/é中", "dâtä") == "Created /é中\n"
    script = "\ufeffget /é中\nls /\ntree / --data\ncreate /ö 'ß'\nget /ö --json\nget /né\n"
    done = fk.run("shell", stdin=script.encode())
    assert done.returncode == 3
    assert "Traceback" not in done.stderr.decode()
    assert done.stdout.decode().splitlines()[:3] == ["dâtä", "zookeeper", "é中"]
    assert "└── é中: dâtä" in done.stdout.decode()
    assert '"data": "ß"' in done.stdout.decode()


def test_a_terminal_without_utf_8_gets_what_it_can_show(fk: Fk) -> None:
    fk.said("create", "/é", "ü")
    fk.environment["PYTHONIOENCODING"] = "ascii"
    terminal = Terminal([*FK, "tree", "/", "--data"], fk.environment)
    terminal.wait_for(r"`-- \\xe9: \\xfc")
    assert terminal.wait() == 0


def run(fk: Fk, *arguments: str, **streams: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*FK, *arguments], env=fk.environment, cwd=ROOT, timeout=PATIENCE_S, check=False, **streams
    )


@pytest.mark.parametrize("command", [["ls"], ["tree"], ["export"], ["--help"], ["cost"]])
def test_output_to_a_full_disk_is_an_error_of_one_line(fk: Fk, command: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        done = run(fk, *command, stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert b"No space left on device" in done.stderr


def test_a_reader_that_has_enough_is_no_fault_to_speak_of(fk: Fk) -> None:
    with FaaSKeeperClient(Config.local(fk.directory / "data")) as client:
        for number in range(300):
            client.create_async(f"/{number}", b"x" * 1000)
    for command in (["tree", "/", "--data"], ["export"]):
        reading, writing = os.pipe()
        process = subprocess.Popen(
            [*FK, *command], stdout=writing, stderr=subprocess.PIPE, env=fk.environment, cwd=ROOT
        )
        os.close(writing)
        os.read(reading, 1)
        os.close(reading)
        _, said = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, said) == (1, b"")


def test_closed_streams_are_no_traceback(fk: Fk) -> None:
    shell = ["sh", "-c"]
    words = " ".join([*FK, "ls", "/"])
    done = fk.run(f"{words} >&-", command=shell)
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert fk.run(f"{words} <&-", command=shell).returncode == 0
    assert fk.run(f"{words} 2>&-", command=shell).stdout == b"zookeeper\n"


# ---- watches of a command by itself ----------------------------------------------------------------


def quick(fk: Fk) -> None:
    """A service whose heartbeat runs every second, so that nodes with a time to live go soon."""
    config = fk.directory / "config.json"
    config.write_text(
        json.dumps(
            {
                "cloud-provider": "local",
                "deployment-name": "x",
                "directory": str(fk.directory / "data"),
                "heartbeat-frequency": 1,
            }
        )
    )
    fk.environment["FK_CONFIG"] = str(config)


@pytest.mark.parametrize(
    ("command", "event"),
    [
        (["get", "/t", "-w"], "WatchedEvent type: NodeDeleted path: /t"),
        (["addWatch", "/", "--recursive"], "WatchedEvent type: NodeDeleted path: /t"),
        (["ls", "/", "-w", "--json"], '"event": "NodeChildrenChanged", "path": "/"'),
    ],
)
def test_a_command_by_itself_waits_for_the_event_of_its_watch(fk: Fk, command: list[str], event: str) -> None:
    quick(fk)
    fk.said("create", "/t", "x", "--ttl", "500")
    assert event in fk.said(*command, "--timeout", "60").splitlines()[-1]


def test_the_exit_status_tells_that_no_event_came(fk: Fk) -> None:
    done = fk.run("exists", "/none", "-w", "--timeout", "0.05")
    assert done.returncode == 8
    assert b"no event within 0.05 s" in done.stderr


def test_ctrl_c_ends_a_command_that_waits(fk: Fk) -> None:
    terminal = Terminal([*FK, "get", "/", "-w", "--stat"], fk.environment)
    terminal.wait_for("pzxid")
    terminal.type("\x03")
    terminal.wait_for("fk: interrupted")
    assert terminal.wait() == 130


def test_a_watch_with_a_time_out_is_waited_for_in_the_shell(context: Context, capsys: Captured) -> None:
    other = FaaSKeeperClient(context.config)
    with other:
        context.client.create("/a")

        def change() -> None:
            while not other.get_data("/a").data:
                other.set_data("/a", b"1")

        thread = threading.Timer(0.1, change)
        thread.start()
        text = said(context, capsys, "get /a -w --timeout 60")
        thread.join()
    assert "WatchedEvent type: NodeDataChanged path: /a\n" in text
    assert execute(context, "get /a -w --timeout 0.01") == 8
    assert execute(context, "addWatch /a -n 0 --timeout 0.01") == 8
    assert execute(context, "get /a --timeout 1") == 2


def test_an_ephemeral_of_a_command_by_itself_is_warned_of(fk: Fk) -> None:
    done = fk.run("create", "-e", "/e")
    assert done.returncode == 0
    assert b"/e is ephemeral: it ends with" in done.stderr
    assert fk.run("shell", stdin=b"create -e /e").stderr == b""
