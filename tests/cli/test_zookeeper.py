"""``fk`` on ZooKeeper's own server and on ``fk serve``, as processes: every command, and the mirror."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from faaskeeper.testing.emulation import processes
from faaskeeper.testing.patience import PATIENCE_S
from tests.cli.console import FK, Fk
from tests.cli.trees import commands_on_trees_work, commands_on_znodes_work
from tests.mirror.test_mirror import Load


@pytest.fixture
def console(tmp_path: Path) -> Fk:
    return Fk(tmp_path)


def test_every_command_on_znodes_works_on_a_server(console: Fk, port: int) -> None:
    commands_on_znodes_work(lambda lines: console.said("-c", f"zk://127.0.0.1:{port}", "shell", stdin=lines))


def test_commands_on_trees_work_on_a_server(console: Fk, port: int) -> None:
    at = f"zk://127.0.0.1:{port}"
    file = console.directory / "input"

    def fk(*arguments: str, stdin: str = "") -> str:
        file.write_text(stdin)
        return console.said("-c", at, *arguments, *([str(file)] if stdin else []))

    with FaaSKeeperClient(Config.load(at)) as client:
        commands_on_trees_work(client, fk, kinds=False)
    refused = console.run("-c", at, "find", "/", "--type", "ttl")
    assert (refused.returncode, refused.stderr) == (
        2,
        b"fk: a ZooKeeper server does not tell containers and times to live\n",
    )
    moved = console.run("-c", at, "mv", "/moved", "/again")
    assert b"containers and times to live become persistent" in moved.stderr
    for path in ("/app", "/many", "/again"):
        console.said("-c", at, "deleteall", path)


def test_the_address_may_come_from_the_environment_with_a_chroot(console: Fk, port: int) -> None:
    console.environment["FK_CONFIG"] = f"zk://127.0.0.1:{port}"
    console.said("create", "/apps/mine/n", "-p")
    console.environment["FK_CONFIG"] += "/apps/mine"
    assert console.said("ls", "/") == "n\n"
    console.said("deleteall", "/n")
    console.environment["FK_CONFIG"] += "/none"
    done = console.run("create", "/n")
    assert (done.returncode, done.stderr) == (
        3,
        b"fk: /n has no parent: the chroot does not exist; -p creates it\n",
    )


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (("get", "/none"), 3, "fk: the node /none does not exist\n"),
        (("create", "/zookeeper"), (2, 4), "/zookeeper"),
        (
            ("create", "/none/n"),
            3,
            "fk: /none/n has no parent: the node /none does not exist; -p creates it\n",
        ),
        (("delete", "/zookeeper"), (2, 5), "/zookeeper"),
        (("logs",), 1, "is a ZooKeeper server"),
    ],
)
def test_errors_have_one_line_and_their_status(
    console: Fk, port: int, words: tuple[str, ...], status: int | tuple[int, ...], says: str
) -> None:
    done = console.run("-c", f"zk://127.0.0.1:{port}", *words)
    text = done.stderr.decode()
    assert done.returncode in (status if isinstance(status, tuple) else (status,)), text
    assert says in text
    assert text.count("\n") == 1, text


@pytest.mark.parametrize(
    "words",
    [
        ("backup", "AT", "--to", "FILE"),
        ("restore", "AT", "--from", "FILE"),
        ("doctor", "AT"),
        ("cost", "AT"),
        ("deadletters", "AT"),
        ("deploy", "service", "FILE", "--config", "AT"),
        ("serve", "AT", "--listen", "127.0.0.1:0"),
    ],
)
def test_what_only_a_deployment_has_is_refused_in_a_line(
    console: Fk, tmp_path: Path, words: tuple[str, ...]
) -> None:
    (tmp_path / "file").write_bytes(b"")
    names = {"AT": "zk://127.0.0.1:1/app", "FILE": str(tmp_path / "file")}
    done = console.run(*(names.get(word, word) for word in words))
    last = done.stderr.decode().splitlines()[-1]
    assert done.returncode in (1, 2), done.stderr.decode()
    if words[0] != "restore":  # it looks at the backup first
        assert "zk" in last or "zookeeper" in last, last
    assert "Traceback" not in done.stderr.decode()


def test_a_tree_moves_by_a_dump_too(console: Fk, real: int) -> None:
    at = f"zk://127.0.0.1:{real}"
    console.said("-c", at, "create", "/dump/n", "x", "-p")
    done = console.run("export", at)
    assert b"containers and times to live are not in it" in done.stderr
    assert console.run("import", stdin=done.stdout).returncode == 0
    assert console.said("get", "/dump/n") == "x\n"
    console.said("-c", at, "deleteall", "/dump")


# ---- the mirror ------------------------------------------------------------------------------


class Follower:
    """``fk mirror --follow`` in a process."""

    def __init__(self, console: Fk, source: str, target: str, *options: str) -> None:
        self.log = console.directory / "mirror.log"
        with self.log.open("ab") as log:
            before = log.tell()
            self.process = processes.start(
                [*FK, "mirror", source, target, "--follow", "--look", "0.5", *options],
                stderr=log,
                stdout=log,
                env=console.environment,
            )
        self._before = before

    def wait_for(self, words: str) -> None:
        while words not in self.text:
            assert self.process.poll() is None, self.text
            try:
                self.process.wait(0.05)
            except subprocess.TimeoutExpired:
                pass

    @property
    def text(self) -> str:
        return self.log.read_bytes()[self._before :].decode()

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        status = self.process.wait(PATIENCE_S)
        processes.kill(self.process)  # its watcher
        return status


@pytest.mark.simulator  # the killed one's lock is held for 10 s
def test_a_mirror_killed_under_load_goes_on_to_the_cut_over(console: Fk, real: int) -> None:
    config = Config.load(f"zk://127.0.0.1:{real}")
    source, target = f"zk://127.0.0.1:{real}/moving", ":/moved/here"
    with FaaSKeeperClient(config) as client:
        client.create("/moving")
        load = Load(config, "/moving")
        load.wait(200)
        follower = Follower(console, source, target)
        follower.wait_for("following")
        load.wait(load.done + 500)
        assert follower.end(signal.SIGKILL) == -signal.SIGKILL
        follower = Follower(console, source, target)
        follower.wait_for("following")
        refused = console.run("mirror", source, target, "--cut-over", "--quiet", "1")
        load.stop()
        client.create("/moving/end", b"1")
        assert follower.end(signal.SIGTERM) == 0, follower.text
    assert refused.returncode == 1, refused.stderr.decode()  # the directory is in use, or still changes
    done = json.loads(console.said("mirror", source, target, "--cut-over", "--quiet", "0.5", "--json"))
    assert len(done["digest"]) == 64
    assert console.said("get", "/moved/here/end") == "1\n"
    again = console.run("mirror", source, target)
    assert again.returncode == 1
    assert b"is not empty and no mirror of" in again.stderr
    back = console.said("mirror", target, f"zk://127.0.0.1:{real}/back/again", "--cut-over", "--quiet", "0")
    assert done["digest"] in back
    assert f"connect string 127.0.0.1:{real}/back/again" in back


def test_a_mirror_is_tried_dry_and_tells_what_it_did_in_json(console: Fk, real: int) -> None:
    at, words = f"zk://127.0.0.1:{real}", (f"zk://127.0.0.1:{real}/dry", ":/dry")
    console.said("-c", at, "create", "/dry/n", "x", "-p")
    done = console.run("mirror", *words, "--dry-run")
    assert done.stdout == b"create /dry\ncreate /dry/n\n"
    assert b": create 2\n" in done.stderr
    rows = console.said("mirror", *words, "--dry-run", "--json").splitlines()
    assert json.loads(rows[1]) == {"operation": "create", "path": "/dry/n"}
    assert console.run("exists", "/dry").returncode == 3
    found = json.loads(console.said("mirror", *words, "--json"))
    assert (found["znodes"], found["ephemerals"], found["behind"]) == (2, [], {})
    assert console.said("mirror", *words, "--dry-run") == ""


def test_an_interrupted_mirror_has_ended_between_two_transactions(console: Fk, real: int) -> None:
    source = f"zk://127.0.0.1:{real}/stopping"
    console.said("-c", f"zk://127.0.0.1:{real}", "create", "/stopping")
    follower = Follower(console, source, ":/stopping")
    follower.wait_for("Ctrl-C ends it")
    assert follower.end(signal.SIGINT) == 0
    assert "Traceback" not in follower.text
    assert b"equal again: 1 znodes" in console.run("mirror", source, ":/stopping").stderr


def test_no_password_is_in_what_a_mirror_says(console: Fk, real: int) -> None:
    at = f"zk://127.0.0.1:{real}"
    console.said("-c", at, "--auth", "user:geheim", "create", "/secret", "--acl", "auth::cdrwa")
    console.environment["FK_SOURCE_AUTH"] = "other:geheim"
    done = console.run("mirror", f"{at}/secret", ":/secret", "--target-auth", "also:geheim")
    assert done.returncode == 1
    assert b"--source-auth needs READ" in done.stderr
    assert b"geheim" not in done.stderr
    console.environment["FK_SOURCE_AUTH"] = "user:geheim"
    done = console.run("mirror", f"{at}/secret", ":/secret")
    assert b"--target-auth needs all permissions" in done.stderr
    console.environment["FK_TARGET_AUTH"] = "user:geheim"
    assert console.run("mirror", f"{at}/secret", ":/secret").returncode == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("zk://h/app", "out.json"), "'out.json' is not a tree: write CONFIG:/PATH or zk://HOST:PORT/PATH"),
        (("zk://u:geheim@h/app", ":/x"), "has no password in it"),
        ((":/zookeeper/quota", "zk://h/x"), "/zookeeper/quota is every deployment's own"),
        (("zk://h/app", ":/app", "--cut-over", "--follow"), "--cut-over ends a mirror"),
        (("zk://h/app", ":/app", "--dry-run", "--follow"), "--dry-run shows what the first copy would do"),
        (("zk://h/app", ":/app", "--ttl", "x"), "--ttl 'x' is not GLOB=MS"),
        (("zk://h/app", ":/app", "--map-id", "sasl"), "is not SCHEME:ID=SCHEME:ID"),
    ],
)
def test_wrong_arguments_are_refused_in_a_line(console: Fk, words: tuple[str, ...], says: str) -> None:
    done = console.run("mirror", *words)
    assert done.returncode == 2
    assert says in done.stderr.decode()
    assert b"geheim" not in done.stderr
