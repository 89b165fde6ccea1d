"""``fk`` as a person or a script uses it: in processes of its own, its shell at a real terminal."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from faaskeeper.cli.context import Context
from faaskeeper.cli.main import options_first
from faaskeeper.cli.shell import Quit, complete, execute, prompt_text
from faaskeeper.config import Config
from tests.cli.console import FK, ROOT, Fk, Terminal


@pytest.fixture
def fk(tmp_path: Path) -> Fk:
    return Fk(tmp_path)


def test_one_shot_commands_print_what_was_asked_for(fk: Fk) -> None:
    assert fk.said("create", "/a", "hello") == "Created /a\n"
    assert fk.said("get", "/a") == "hello\n"
    assert fk.said("set", "/a", "new") == "Set /a, version 1\n"
    assert fk.said("create", "/a/s-", "-s", "x y") == "Created /a/s-0000000000\n"
    assert fk.said("ls", "/a") == "s-0000000000\n"
    assert fk.said("getChildren", "/a", "-i") == "s-0000000000\tx y\n"
    assert fk.said("exists", "/a") == "Node /a exists\n"
    assert "numChildren = 1\n" in fk.said("stat", "/a")
    assert fk.said("getAllChildrenNumber", "/") == "5\n"
    assert fk.said("sync", "/a") == "Synced /a\n"
    assert fk.said("getEphemerals") == ""
    assert fk.said("tree", "/a", "--data") == "a: new\n└── s-0000000000: x y\n"
    assert fk.said("delete", "/a/s-0000000000") == "Deleted /a/s-0000000000\n"
    fk.said("create", "/a/b")
    fk.said("create", "/a/b/c")
    assert fk.said("deleteall", "/a") == "Deleted 3 nodes\n"


def test_json_is_for_scripts(fk: Fk) -> None:
    created = json.loads(fk.said("create", "/a", "hello", "--json"))
    got = json.loads(fk.said("get", "/a", "--json"))
    assert got["data"] == "hello"
    assert got["version"]["created"] == created["version"]["created"]
    assert got["stat"]["dataLength"] == 5
    tree = json.loads(fk.said("tree", "/", "--json"))
    assert [child["path"] for child in tree["children"]] == ["/a", "/zookeeper"]
    assert json.loads(fk.said("ls", "/", "--json"))[0] == {"path": "/a"}


@pytest.mark.parametrize(
    ("command", "status", "message"),
    [
        (["get", "/none"], 3, "the node /none does not exist"),
        (["exists", "/none"], 3, ""),
        (["create", "/a"], 4, "the node /a exists"),
        (["delete", "/p"], 5, "the node /p has children"),
        (["set", "/a", "x", "-v", "7"], 6, "the version of /a is not 7"),
        (["delete", "/a", "3"], 6, "the version of /a is not 3"),
        (["get", "a"], 2, "must begin with '/'"),
        (["get"], 2, "Missing argument 'PATH'"),
        (["nonsense"], 2, "No such command 'nonsense'"),
        (["--config", "/none.json", "get", "/a"], 2, "cannot read /none.json"),
    ],
)
def test_an_error_has_a_message_and_a_status_of_its_own(
    fk: Fk, command: list[str], status: int, message: str
) -> None:
    fk.said("shell", stdin=b"create /a\ncreate /p\ncreate /p/c\n")
    done = fk.run(*command)
    assert done.returncode == status
    assert message in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()


def test_data_comes_from_files_and_goes_to_pipes_byte_for_byte(fk: Fk, tmp_path: Path) -> None:
    binary = bytes(range(256)) * 10
    (tmp_path / "data").mkdir()
    (tmp_path / "file").write_bytes(binary)
    fk.said("create", "/file", "--file", str(tmp_path / "file"))
    assert fk.run("get", "/file").stdout == binary
    fk.said("create", "/pipe", "--file", "-", stdin=binary)
    assert fk.run("get", "/pipe").stdout == binary
    done = fk.run("set", "/file", "word", "--file", "-")
    assert done.returncode == 2
    assert "not both" in done.stderr.decode()


def test_the_shell_runs_the_commands_it_reads(fk: Fk) -> None:
    said = fk.said(
        "shell",
        stdin=b"""
        create /root "some data"   # a comment
        create /root/test1 "test_data" false false
        create /root/e '' true true
        get /root/test1 true
        exists /none
        getEphemerals
        set /root/test1 new
        ls /root
        quit
        create /never
        """,
    )
    lines = said.splitlines()
    lines.remove("WatchedEvent type: NodeDataChanged path: /root/test1")  # whenever it came
    assert lines == [
        "Created /root",
        "Created /root/test1",
        "Created /root/e0000000001",
        "test_data",
        "Node /none does not exist",
        "/root/e0000000001",
        "Set /root/test1, version 1",
        "e0000000001",
        "test1",
    ]
    assert fk.run("exists", "/never").returncode == 3


def test_the_shell_ends_with_the_status_of_the_first_error_it_reads(fk: Fk) -> None:
    done = fk.run("shell", stdin=b"create /a\nget /none\ncreate /b\n")
    assert done.returncode == 3
    assert done.stdout == b"Created /a\n"
    assert b"fk: the node /none does not exist" in done.stderr
    assert fk.run("exists", "/b").returncode == 3
    done = fk.run("shell", stdin=b"frobnicate\n")
    assert done.returncode == 2
    assert b"unknown command 'frobnicate'; 'help' lists them" in done.stderr
    done = fk.run("shell", stdin=b"create '/a\n")
    assert done.returncode == 2
    assert b"No closing quotation" in done.stderr


def test_a_session_may_be_closed_and_opened_again_in_the_shell(fk: Fk) -> None:
    said = fk.said("shell", stdin=b"create /e x true\nclose\nconnect\nexists /e\n").splitlines()
    assert said[:2] == ["Created /e", "Session closed"]
    assert re.fullmatch("Session [0-9a-f]{8} is open", said[2])
    assert said[3] == "Node /e does not exist"


def test_help_lists_every_command_and_explains_each(fk: Fk) -> None:
    said = fk.said("shell", stdin=b"help\nhelp create\n")
    for name in ("connect", "close", "quit", "create", "get", "set", "delete", "deleteall", "ls"):
        assert re.search(rf"^{name} ", said, re.MULTILINE)
    for name in ("getChildren", "exists", "stat", "getEphemerals", "sync", "logs"):
        assert re.search(rf"^{name} ", said, re.MULTILINE)
    assert "--sequential" in said


def test_the_scripts_of_the_checkout_start_the_same_command(fk: Fk, tmp_path: Path) -> None:
    done = fk.run("create", "/a", "x", command=[sys.executable, str(ROOT / "fk.py")])
    assert done.stdout == b"Created /a\n", done.stderr
    config = tmp_path / "config.json"
    config.write_text(
        json.dumps(
            {
                "cloud-provider": "local",
                "deployment-name": "x",
                "directory": str(fk.directory / "data"),
            }
        )
    )
    script = [sys.executable, str(ROOT / "bin" / "fkCli.py")]
    done = fk.run(str(config), "--port", "13001", stdin=b"get /a\n", command=script)
    assert done.stdout == b"x\n", done.stderr
    assert options_first(["c.json", "--port", "1", "--verbose"]) == [
        "--port",
        "1",
        "--verbose",
        "shell",
        "c.json",
    ]


@pytest.fixture
def context(tmp_path: Path) -> object:
    context = Context(Config.local(tmp_path))
    context.one_shot = False
    context.connect()
    yield context
    context.close()


def test_completion_offers_commands_and_paths(context: Context) -> None:
    for line in ("create /apple", "create /avocado", "create /apple/core"):
        assert execute(context, line) == 0
    assert [text for text, _ in complete(context, "del")] == ["delete", "deleteall"]
    assert [text for text, _ in complete(context, "get /a")] == ["/apple", "/avocado"]
    assert list(complete(context, "get /apple/")) == [("/apple/core", 7)]
    assert list(complete(context, "get /none/")) == []
    assert ("getChildren", 4) in list(complete(context, "help getc"))


def test_the_prompt_says_where_one_is(context: Context) -> None:
    session = context.client.session_id
    assert prompt_text(context, 3) == f"[fk: local:faaskeeper-dev(CONNECTED) session:{session} 3] "
    with pytest.raises(Quit):
        execute(context, "quit")


def test_the_shell_at_a_terminal_prompts_completes_and_prints_watches(fk: Fk) -> None:
    terminal = Terminal([*FK, "shell"], fk.environment)
    prompt = r"\[fk: local:faaskeeper-dev\(CONNECTED\) session:[0-9a-f]{8} %d\]"
    terminal.wait_for(prompt % 0)
    terminal.type("create /apple red\r")
    terminal.wait_for("Created /apple")
    terminal.wait_for(prompt % 1)
    terminal.type("get -w /app\t")
    terminal.wait_for("le")
    terminal.type("\r")
    terminal.wait_for("red")
    terminal.wait_for(prompt % 2)
    terminal.type("set /apple green\r")
    terminal.wait_for("WatchedEvent type: NodeDataChanged path: /apple")
    terminal.wait_for(prompt % 3)
    terminal.type("get /none\r")
    terminal.wait_for("the node /none does not exist")
    terminal.wait_for(prompt % 4)
    terminal.type("quit\r")
    assert terminal.wait() == 0
    history = fk.directory / "state" / "faaskeeper" / "history"
    assert "+create /apple red" in history.read_text()


def test_nodes_with_acls_need_credentials(fk: Fk) -> None:
    me = ("--auth", "me:pw")
    fk.said(*me, "create", "/own", "mine", "--acl", "auth::cdrwa")
    assert fk.run("get", "/own").returncode == 9
    assert fk.said(*me, "get", "/own") == "mine\n"
    entry = f"digest:{fk.said('digest', 'me:pw').strip()}:rwcda"
    assert fk.said(*me, "getAcl", "/own") == f"{entry}\n".replace("rwcda", "cdrwa")
    fk.said(*me, "setAcl", "/own", "world:anyone:r,ip:10.0.0.0/8:w")
    assert fk.said("get", "/own") == "mine\n"
    assert fk.run("setAcl", "/own", "world:anyone:cdrwa").returncode == 9
    wrong = fk.run("create", "/n", "--acl", "world:anyone:x")
    assert wrong.returncode == 2
    assert b"letters of cdrwa" in wrong.stderr


def test_the_shell_shows_credentials_and_watches_that_stay(fk: Fk) -> None:
    lines = [
        "addauth digest me:pw",
        "create /own x --acl auth::cdrwa",
        "addWatch -r /own",
        "create /own/c",
        "get /own",
    ]
    said = fk.said("shell", stdin="\n".join(lines).encode())
    assert "WatchedEvent type: NodeCreated path: /own/c" in said
    assert "pw" not in said


def test_nodes_that_go_by_themselves_and_parents_are_made(fk: Fk) -> None:
    fk.said("create", "/a/b/c", "-p")
    fk.said("create", "/box", "--container")
    fk.said("create", "/t", "--ttl", "60000")
    assert fk.run("create", "/t2", "--ttl", "0").returncode == 2
    assert fk.said("ls", "/").split() == ["a", "box", "t", "zookeeper"]
