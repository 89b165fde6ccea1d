"""What holds for every command: JSON, errors in JSON, a group of help; and the shell's directory."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from faaskeeper.cli import completing
from faaskeeper.cli.arguments import resolved
from faaskeeper.cli.commands import COMMANDS, DEPLOYMENT_COMMANDS
from faaskeeper.cli.context import Context
from faaskeeper.cli.groups import GROUPS, OTHERS, grouped
from faaskeeper.cli.main import COMPLETE
from faaskeeper.cli.progress import bar
from faaskeeper.cli.shell import complete, execute, prompt_text
from faaskeeper.config import Config
from faaskeeper.testing.patience import PATIENCE_S
from tests.cli.console import FK, ROOT, Fk, Terminal
from tests.gateway.servers import Server

MANY = ("cp", "mv", "deleteall", "txn", "import", "restore", "mirror")
"""Commands that change more than one node."""
TALKS = ("shell",)
"""Its commands have --json."""


@pytest.fixture
def fk(tmp_path: Path) -> Fk:
    return Fk(tmp_path)


def every() -> Iterator[tuple[str, click.Command]]:
    for name, command in (*COMMANDS.items(), *DEPLOYMENT_COMMANDS.items()):
        below = command.commands if isinstance(command, click.Group) else {"": command}
        for last, each in below.items():
            yield f"{name} {last}".strip(), each


def options(command: click.Command) -> set[str]:
    return {option for each in command.params for option in each.opts}


def test_every_command_prints_json_and_those_that_change_much_can_be_tried_dry() -> None:
    for name, command in every():
        if name not in TALKS:
            assert "--json" in options(command), name
        if name in MANY or name.startswith("deploy "):
            assert "--dry-run" in options(command), name


def test_every_command_is_in_one_group_of_help(fk: Fk) -> None:
    names = [*COMMANDS, *DEPLOYMENT_COMMANDS]
    assert OTHERS not in dict(grouped(names))
    members = [each for _, group in GROUPS for each in group]
    assert len(members) == len(set(members))
    said = fk.said("--help")
    assert said.index("\nNodes:\n") < said.index("\nTrees:\n") < said.index("\nRunning:\n")
    assert all(re.search(rf"^  {name}  ", said, re.MULTILINE) for name in names)
    assert dict(grouped(["get", "new"])) == {"Nodes": ["get"], OTHERS: ["new"]}
    assert "Trees:\n" in fk.said("shell", stdin=b"help\n")


@pytest.mark.parametrize(
    ("words", "status", "kind"),
    [
        (["get", "/none", "--json"], 3, "no node"),
        (["create", "/zookeeper", "--json"], 4, "node exists"),
        (["set", "/zookeeper", "x", "-v", "9", "--json"], 6, "bad version"),
        (["history", "/none", "--json"], 3, "no node"),
        (["get", "--json"], 2, "invalid"),
        (["get", "none", "--json"], 2, "invalid"),
        (["frobnicate", "--json"], 2, "invalid"),
        (["--config", "/none.json", "ls", "--json"], 2, "invalid"),
        (["deploy", "service", "--json"], 2, "invalid"),
        (["get", "/", "-w", "--timeout", "0.01", "--json"], 8, "timeout"),
        (["health", "127.0.0.1:1", "--json"], 1, "failed"),
    ],
)
def test_errors_are_json_where_json_is_asked_for(fk: Fk, words: list[str], status: int, kind: str) -> None:
    done = fk.run(*words)
    assert done.returncode == status
    (line,) = done.stderr.decode().splitlines()
    error = json.loads(line)
    assert (error["status"], error["kind"]) == (status, kind)
    assert error["error"]


def test_json_after_two_dashes_is_data(fk: Fk) -> None:
    assert fk.said("create", "/a", "--", "--json") == "Created /a\n"
    done = fk.run("create", "/a", "--", "--json")
    assert done.stderr == b"fk: the node /a exists\n"
    said = fk.run("shell", stdin=b"get /none --json\n").stderr
    assert json.loads(said)["path"] == "/none"


def test_each_command_that_only_printed_text_prints_json(
    context: Context, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(line: str) -> object:
        assert execute(context, f"{line} --json") == 0
        return json.loads(capsys.readouterr().out)

    said("create /a x")
    assert said("sync /a") == {"path": "/a"}
    assert said("getAllChildrenNumber /a") == {"path": "/a", "number": 0}
    assert said("setAcl /a world:anyone:cdrwa")["stat"]["aversion"] == 1  # type: ignore[index]
    assert said("addauth digest me:secret") == {"scheme": "digest"}
    assert said("digest me:secret")["id"].startswith("me:")  # type: ignore[index]
    assert execute(context, "addWatch /a") == 0
    assert said("removeWatches /a") == {"path": "/a"}
    assert "logs" in said("logs")  # type: ignore[operator]
    assert said("delete /a") == {"path": "/a"}


def test_a_cost_is_json(fk: Fk) -> None:
    found = json.loads(fk.said("cost", "--json"))
    assert found["month"]["together"] == pytest.approx(sum(found["month"].values()) / 2)
    assert found["zookeeper"] > 0


def test_a_plan_to_deploy_is_json(fk: Fk, tmp_path: Path) -> None:
    file = str(tmp_path / "config.json")
    fk.said("init", "aws", file, "--yes", "--json")
    for name in [each for each in fk.environment if each.startswith("AWS_")]:
        del fk.environment[name]
    fk.environment |= {"HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"}
    plan = ["deploy", "service", str(tmp_path / "OUT.json"), "--config", file, "--dry-run", "--json"]
    said = json.loads(fk.said(*plan))
    assert said["deployment"] == "faaskeeper-dev"
    assert said["changes"]
    assert said["rights"]


# ---- the shell's directory -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("directory", "path", "expected"),
    [
        ("/", "a", "/a"),
        ("/a", "b/c", "/a/b/c"),
        ("/a/b", "..", "/a"),
        ("/a/b", "../../..", "/"),
        ("/a", ".", "/a"),
        ("/a", "./b/", "/a/b"),
        ("/a", "/b", "/b"),
        ("/a", "/b/../c", "/b/../c"),
        ("/a", "b//c", "/a/b//c"),
        ("/a", "/b/", "/b/"),
    ],
)
def test_a_path_begins_at_the_directory_of_the_shell(directory: str, path: str, expected: str) -> None:
    assert resolved(directory, path) == expected


def test_relative_paths_work_in_the_shell_and_nowhere_else(fk: Fk) -> None:
    said = fk.said(
        "shell",
        stdin=b"create a\ncd a\npwd\ncreate b x\nls\ncreate -s n-\nget b\nget ./b\nls ..\n"
        b"cd ..\npwd\ncd a/b\ncd\npwd\n",
    ).splitlines()
    assert said == [
        "Created /a", "/a", "Created /a/b", "b", "Created /a/n-0000000001", "x", "x",
        "a", "zookeeper", "/", "/",
    ]  # fmt: skip
    done = fk.run("shell", stdin=b"cd /none\n")
    assert (done.returncode, done.stderr) == (3, b"fk: the node /none does not exist\n")
    assert fk.run("shell", stdin=b"cd a//b\n").returncode == 2
    assert fk.run("get", "a").returncode == 2


def test_the_prompt_shows_the_directory_and_words_are_completed_from_it(context: Context) -> None:
    for line in ("create /a", "create /a/bc", "create /a/bd", "cd /a"):
        assert execute(context, line) == 0
    assert " /a 7] " in prompt_text(context, 7)
    assert [text for text, _ in complete(context, "get b")] == ["bc", "bd"]
    assert [text for text, _ in complete(context, "get /a/b")] == ["/a/bc", "/a/bd"]
    assert [text for text, _ in complete(context, "get ../a/bc")] == ["../a/bc"]
    assert list(complete(context, "get --js")) == []


# ---- completion ----------------------------------------------------------------------------------


def completed(fk: Fk, line: str, shell: str = "bash") -> list[str]:
    words = line.split(" ")
    fk.environment |= {COMPLETE: f"{shell}_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    done = fk.run()
    del fk.environment[COMPLETE]
    assert done.stderr == b""
    return [each.split(",", 1)[1] for each in done.stdout.decode().splitlines() if "," in each]


def test_other_shells_complete_commands_options_and_paths(fk: Fk) -> None:
    assert completed(fk, "fk get /") == []
    assert not (fk.directory / "data").exists()  # a look makes no service
    fk.said("shell", stdin=b"create /app\ncreate /app/one\ncreate /app/other\ncreate /b\n")
    assert completed(fk, "fk gr") == ["grep"]
    assert completed(fk, "fk find --ty") == ["--type"]
    assert completed(fk, "fk find --type ep") == ["ephemeral"]
    assert completed(fk, "fk get /") == ["/app", "/b", "/zookeeper"]
    assert completed(fk, "fk get /app/o") == ["/app/one", "/app/other"]
    assert completed(fk, "fk cp -r /app/one /b") == ["/b"]
    assert completed(fk, f"fk -d {fk.directory / 'other'} get /a") == []
    assert completed(fk, "fk frobnicate /a") == []
    assert completed(fk, "fk -c /none.json get /a") == []
    assert fk.said("ls", "/app") == "one\nother\n"  # no session or lock is left


def test_a_completion_that_takes_too_long_offers_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    go_on = threading.Event()

    def slow(ctx: click.Context) -> None:
        go_on.wait(PATIENCE_S)
        raise ValueError

    monkeypatch.setattr(completing, "LIMIT_S", 0.01)
    monkeypatch.setattr(completing, "_client", slow)
    assert completing.paths_of(click.Context(click.Command("fk")), "/a") == []
    go_on.set()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_each_shell_asks_fk(fk: Fk, shell: str) -> None:
    said = fk.said("completion", shell)
    assert f"{COMPLETE}={shell}_complete" in said
    assert json.loads(fk.said("completion", shell, "--json"))["script"].strip() == said.strip()


def test_bash_completes_a_path_by_the_script(fk: Fk, tmp_path: Path) -> None:
    fk.said("shell", stdin=b"create /app\ncreate /app/one\ncreate /app/other\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "fk").write_text(f'#!/bin/sh\nexec {FK[0]} -m faaskeeper.cli "$@"\n')
    (tmp_path / "bin" / "fk").chmod(0o700)
    asked = "COMP_WORDS=(fk get /app/o); COMP_CWORD=2; _fk_completion fk; echo ${COMPREPLY[@]}"
    done = subprocess.run(
        ["bash", "--norc", "-c", f"{fk.said('completion', 'bash')}\n{asked}"],
        env={**fk.environment, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}, cwd=ROOT,
        capture_output=True, text=True, timeout=PATIENCE_S, check=True,
    )  # fmt: skip
    assert done.stdout == "/app/one /app/other\n"


# ---- progress, health ----------------------------------------------------------------------------


def test_a_bar_is_shown_at_a_terminal_only(fk: Fk, capsys: pytest.CaptureFixture[str]) -> None:
    with bar("working", 3) as advance:
        advance(3)
    assert capsys.readouterr().err == ""
    script = (
        "from faaskeeper.cli.progress import bar\n"
        "with bar('working', 3) as advance:\n advance(2)\n input('now?')\nprint('end')\n"
    )
    terminal = Terminal([FK[0], "-c", script], fk.environment)
    terminal.wait_for("working.*2/3")
    terminal.type("\n")
    terminal.wait_for("end")
    assert terminal.wait() == 0


def test_health_asks_a_server_whether_it_serves(fk: Fk, tmp_path: Path) -> None:
    server = Server(tmp_path / "server")
    address = f"127.0.0.1:{server.port}"
    assert fk.said("health", address) == f"{address} serves\n"
    assert json.loads(fk.said("health", address, "--json")) == {
        "address": address, "serves": True, "mode": "standalone",
    }  # fmt: skip
    assert server.stop() == 0
    done = fk.run("health", address)
    assert (done.returncode, done.stderr) == (1, f"fk: {address}: Connection refused\n".encode())
    assert fk.run("health", "nowhere").returncode == 2
    with socket.create_server(("127.0.0.1", 0)) as silent:
        done = fk.run("health", f"127.0.0.1:{silent.getsockname()[1]}", "--timeout", "0.1")
        assert b"does not answer within 0.1 s" in done.stderr
        assert done.returncode == 1


@pytest.mark.parametrize("answer", [b"This ZooKeeper instance is not currently serving requests", b""])
def test_a_server_that_does_not_serve_is_not_healthy(fk: Fk, answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            opened, _ = listening.accept()
            with opened:
                opened.recv(4)
                opened.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        done = fk.run("health", f"127.0.0.1:{listening.getsockname()[1]}")
        thread.join(PATIENCE_S)
    assert done.returncode == 1
    assert b"does not serve" in done.stderr


def test_serve_tells_systemd_when_it_is_ready(tmp_path: Path) -> None:
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(name)
        notified.settimeout(PATIENCE_S)
        process = subprocess.Popen(
            [*FK, "-d", str(tmp_path / "d"), "serve", "--listen", "127.0.0.1:0", "--json"],
            env={**os.environ, "NOTIFY_SOCKET": name}, cwd=ROOT, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert notified.recv(100) == b"READY=1"
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["provider"] == "local"
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
        process.stdout.close()


# ---- doctor, init --------------------------------------------------------------------------------


def test_the_doctor_looks_at_an_embedded_service(fk: Fk, tmp_path: Path) -> None:
    assert "does not exist; the first use makes it" in fk.said("doctor")
    fk.said("create", "/a")
    said = fk.said("doctor").splitlines()
    assert [re.split("[ :]+", line)[:2] for line in said] == [
        ["ok", each] for each in ("directory", "space", "sync", "owner", "files", "log", "session")
    ]
    checks = [json.loads(line) for line in fk.said("doctor", "--json").splitlines()]
    assert all(each["good"] for each in checks)


def test_the_doctor_looks_at_a_service_in_use_and_at_broken_files(fk: Fk, tmp_path: Path) -> None:
    with_owner = Context(Config.local(fk.directory / "data"))
    with_owner.client.create("/a")
    try:
        done = fk.run("doctor")
        assert f"in use by process {os.getpid()}" in done.stdout.decode()
        assert done.returncode == 0, done
    finally:
        with_owner.close()
    state = fk.directory / "data" / "state.db"
    content = bytearray(state.read_bytes())
    content[5000:9000] = b"\xff" * 4000
    state.write_bytes(content)
    done = fk.run("doctor")
    assert done.returncode == 1
    assert re.search("^FAIL files: ", done.stdout.decode(), re.MULTILINE)
    assert "Traceback" not in done.stderr.decode()


def test_an_embedded_service_is_configured(fk: Fk, tmp_path: Path) -> None:
    file = str(tmp_path / "config.json")
    assert f"fk --config {file} shell" in fk.said(
        "init", "local", file, "--directory", str(tmp_path / "x"), "--yes"
    )
    fk.said("-c", file, "create", "/a")
    assert (tmp_path / "x" / "log.db").exists()
    done = fk.run("init", "local", str(tmp_path / "other.json"), "--yes", "--region", "us-east-1")
    assert b"--region is for 'fk init aws'" in done.stderr
