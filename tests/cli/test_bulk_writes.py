"""``cp``, ``mv``, ``txn``, ``edit``, ``import --below``: commands that change many nodes, or with care."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from faaskeeper.cli import moving
from faaskeeper.cli.context import Context
from faaskeeper.cli.shell import execute
from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from faaskeeper.testing.patience import PATIENCE_S
from tests.cli.console import ROOT, Fk
from tests.cli.trees import commands_on_trees_work

Tree = dict[str, tuple[bytes, object, object, bool]]


@pytest.fixture
def fk(tmp_path: Path) -> Fk:
    return Fk(tmp_path)


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    made = Context(Config.local(tmp_path / "service"), auth=["me:secret"])
    made.one_shot = False
    yield made
    made.close()


def fill(client: FaaSKeeperClient, number: int = 0) -> None:
    """A tree of each kind of node below /app; with as many more as are asked for."""
    client.create("/app", b"root")
    client.create("/app/mine", b"\xff\0", acl=[(31, "auth", "")])
    client.create("/app/mine/below", b"1")
    client.create("/app/box", container=True)
    client.create("/app/ttl", b"x", ttl=3_600_000)
    client.create("/app/queue")
    for _ in range(4):
        client.create("/app/queue/item-", b"", sequential=True)
    client.delete("/app/queue/item-0000000000")
    client.delete("/app/queue/item-0000000003")
    for each in range(number):
        client.create(f"/app/box/{each:04d}", b"%d" % each)


def tree(client: FaaSKeeperClient, top: str) -> Tree:
    """What is below a path, by relative paths: data, ACL, time to live, whether it is a container."""
    found: Tree = {}
    waiting = [top]
    while waiting:
        path = waiting.pop()
        node = client.get_data(path)
        acl = client.get_acls(path)[0]
        found[path[len(top) :]] = (node.data, acl, node.ttl, node.container)
        waiting += [child.path for child in client.get_children(path)]
    return found


def test_a_copy_has_data_acls_and_kinds_and_leaves_ephemerals_out(
    context: Context, capsys: pytest.CaptureFixture[str]
) -> None:
    client = context.client
    fill(client)
    before = tree(client, "/app")
    client.create("/app/here", ephemeral=True)
    assert execute(context, "cp -r /app /copies/app --parents --json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["nodes"], said["ephemerals"]) == (8, ["/app/here"])
    assert tree(client, "/copies/app") == before
    assert client.create("/copies/app/queue/item-", sequential=True).path.endswith("-0000000003")
    assert execute(context, "cp /app/queue /single") == 0
    assert "-r copies them, too" in capsys.readouterr().err
    assert client.get_children("/single") == []
    assert execute(context, "cp -r /app/mine /open --acl world:anyone:r") == 9  # no child can be created
    assert execute(context, "cp /app/mine /open2 --acl world:anyone:r") == 0
    assert client.get_acls("/open2")[0] == [(1, "world", "anyone")]


def test_a_copy_replaces_nothing_unless_it_is_told_to(
    context: Context, capsys: pytest.CaptureFixture[str]
) -> None:
    client = context.client
    client.create("/a", b"new")
    client.create("/a/b", b"new", acl=[(31, "auth", "")])
    client.create("/c", b"old")
    client.create("/c/b", b"old")
    client.create("/c/kept", b"old")
    assert execute(context, "cp -r /a /c") == 4
    assert client.get_data("/c").data == b"old"
    assert execute(context, "cp -r /a /c --force --dry-run") == 0
    assert capsys.readouterr().out == "/a -> /c\n/a/b -> /c/b\n"
    assert client.get_data("/c").data == b"old"
    assert execute(context, "cp -r /a /c --force") == 0
    assert (client.get_data("/c").data, client.get_data("/c/b").data) == (b"new", b"new")
    assert client.get_acls("/c/b")[0] == client.get_acls("/a/b")[0]
    assert client.get_data("/c/kept").data == b"old"


def test_what_cannot_be_copied_or_moved_is_refused_before_anything_is_done(fk: Fk) -> None:
    fk.said("shell", stdin=b"create /a x\ncreate /a/b y\n")
    for command, status in (
        (["cp", "-r", "/a", "/a/b/c"], 2),
        (["cp", "/a", "/a"], 2),
        (["cp", "/none", "/b"], 3),
        (["cp", "/a", "/none/b"], 3),
        (["cp", "-r", "/a", "/" + "x" * 958], 7),
        (["mv", "/a", "/a/b"], 2),
        (["mv", "/zookeeper", "/b"], 2),
        (["mv", "/none", "/b"], 3),
        (["mv", "/a/b", "/a"], 4),
    ):
        assert fk.run(*command).returncode == status, command
    assert fk.said("find", "/a") == "/a\n/a/b\n"
    assert fk.run("exists", "/b").returncode == 3


def test_a_hash_that_may_not_be_read_is_never_copied_as_something_else(fk: Fk) -> None:
    fk.environment["FK_AUTH"] = "me:secret"
    fk.said("create", "/a", "x", "--acl", "auth::cdrwa,world:anyone:r")
    fk.environment["FK_AUTH"] = "you:other"
    done = fk.run("cp", "/a", "/b")
    assert done.returncode == 9
    assert b"a password's hash" in done.stderr
    fk.said("cp", "/a", "/b", "--acl", "world:anyone:r")
    assert fk.said("getAcl", "/b") == "world:anyone:r\n"


def test_a_small_tree_moves_in_one_transaction(context: Context, capsys: pytest.CaptureFixture[str]) -> None:
    client = context.client
    fill(client)
    before = tree(client, "/app")
    assert execute(context, "mv /app /other --dry-run") == 0
    assert "/app/box -> /other/box" in capsys.readouterr().out
    assert execute(context, "mv /app /other") == 0
    assert capsys.readouterr().out == "Moved 8 nodes to /other in one transaction\n"
    assert client.exists("/app") is None
    assert tree(client, "/other") == before
    assert len({client.exists(f"/other{path}").stat.czxid for path in before}) == 1  # type: ignore[union-attr]
    assert client.create("/other/queue/item-", sequential=True).path.endswith("-0000000004")


@pytest.mark.parametrize("change", ["set", "delete", "create"])
def test_a_tree_that_others_change_meanwhile_does_not_move(
    context: Context, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], change: str
) -> None:
    client = context.client
    fill(client)
    commit = client.commit

    def late(operations: Sequence[Any]) -> Any:
        if change == "set":
            client.set_data("/app/ttl", b"later")
        elif change == "delete":
            client.delete("/app/ttl")
        else:
            client.create("/app/ttl/new")
        return commit(operations)

    monkeypatch.setattr(client, "commit", late)
    assert execute(context, "mv /app /other") == {"set": 6, "delete": 3, "create": 5}[change]
    assert "Nothing was moved" in capsys.readouterr().err
    assert client.exists("/other") is None
    assert client.exists("/app/mine/below") is not None


def test_a_tree_with_ephemerals_does_not_move(context: Context, capsys: pytest.CaptureFixture[str]) -> None:
    fill(context.client)
    context.client.create("/app/here", ephemeral=True)
    assert execute(context, "mv /app /other") == 2
    assert "cannot be moved: /app/here" in capsys.readouterr().err
    assert context.client.exists("/other") is None


KILLED = """
import os, signal, sys
from faaskeeper.cli.main import main
from faaskeeper.client import FaaSKeeperClient
left = [int(sys.argv[1])]
commit = FaaSKeeperClient.commit
def dying(self, operations):
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    return commit(self, operations)
FaaSKeeperClient.commit = dying
main(["mv", "/app", "/other", *sys.argv[2:]])
"""


def test_a_move_in_steps_that_is_killed_at_any_of_them_loses_nothing_and_goes_on(
    fk: Fk, tmp_path: Path
) -> None:
    """Each turn ends one transaction later than the last; and one is killed again when it goes on."""

    def killed(turn: int, *options: str) -> int:
        return subprocess.run(
            [sys.executable, "-c", KILLED, str(turn), *options],
            env=fk.environment, cwd=ROOT, capture_output=True, timeout=PATIENCE_S, check=False,
        ).returncode  # fmt: skip

    for turn in range(12):
        fk = Fk(tmp_path / str(turn))
        fk.environment["FK_AUTH"] = "me:secret"
        config = Config.local(tmp_path / str(turn) / "data")
        client = FaaSKeeperClient(config)
        client.add_auth("digest", "me:secret")
        with client:
            fill(client, 120)
            before = tree(client, "/app")
        done = killed(turn)
        with client:
            found = {**(tree(client, "/other") if client.exists("/other") else {})}
            found |= tree(client, "/app") if client.exists("/app") else {}
            assert found == before
        if done == 0:
            break
        assert done == -9
        if turn:
            assert fk.run("mv", "/app", "/other").returncode == 4
        killed(1, "--resume")
        fk.run("mv", "/app", "/other", "--resume")
        with client:
            assert client.exists("/app") is None
            assert tree(client, "/other") == before
            assert client.create("/other/queue/item-", sequential=True).path.endswith("-0000000004")
    assert turn >= 5


def test_a_move_in_steps_deletes_nothing_that_was_changed_after_it_was_copied(
    context: Context, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    client = context.client
    fill(client, 100)
    monkeypatch.setattr(moving, "MOST_OPERATIONS", 1)
    commit = client.commit
    changes: list[Callable[[], object]] = []

    def late(operations: Sequence[Any]) -> Any:
        if type(operations[0]).__name__ == "Check" and changes:
            changes.pop()()
        return commit(operations)

    monkeypatch.setattr(client, "commit", late)
    changes.append(lambda: client.set_data("/app/box/0000", b"written at last"))
    assert execute(context, "mv /app /other") == 6
    assert client.get_data("/app/box/0000").data == b"written at last"
    assert "--resume goes on" in capsys.readouterr().err
    assert execute(context, "mv /app /other --resume") == 4
    assert "/app/box/0000 and /other/box/0000 differ" in capsys.readouterr().err
    assert execute(context, "cp -f /app/box/0000 /other/box/0000") == 0
    changes.append(lambda: client.set_data("/other/box/0001", b"the copy changes, too"))
    assert execute(context, "mv /app /other --resume") == 6
    assert client.get_data("/app/box/0001").data == b"1"
    client.set_data("/other/box/0001", b"1")
    changes.append(lambda: client.create("/app/box/new"))
    assert execute(context, "mv /app /other --resume") in (4, 5)
    assert client.exists("/app/box/new") is not None
    assert execute(context, "mv /app /other --resume") == 0
    assert client.exists("/app") is None
    assert client.get_data("/other/box/0000").data == b"written at last"
    assert client.exists("/other/box/new") is not None


def test_commands_on_trees_work_on_one_machine(
    context: Context, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def fk(*arguments: str, stdin: str = "") -> str:
        (tmp_path / "input").write_text(stdin)
        words = [*arguments, str(tmp_path / "input")] if stdin else arguments
        assert execute(context, " ".join(words)) == 0
        return capsys.readouterr().out

    commands_on_trees_work(context.client, fk)


# ---- transactions --------------------------------------------------------------------------------


def test_a_transaction_comes_from_a_file_or_standard_input(fk: Fk, tmp_path: Path) -> None:
    lines = (
        b"# all of this\ncheck /zookeeper\ncreate /a 'x y' --ttl 60000\n"
        b"set /a z # not before\ncreate /a-\tq -s\n"
    )
    assert fk.said("txn", "--dry-run", stdin=lines).splitlines()[1] == "create /a"
    assert fk.run("exists", "/a").returncode == 3
    assert fk.said("txn", stdin=lines).splitlines() == [
        "Checked /zookeeper",
        "Created /a",
        "Set /a, version 1",
        "Created /a-0000000001",
    ]
    (tmp_path / "file").write_bytes(b"check /a 1\ndelete /a -v 1\n")
    said = [json.loads(line) for line in fk.said("txn", str(tmp_path / "file"), "--json").splitlines()]
    assert said == [{"operation": "check", "path": "/a"}, {"operation": "delete", "path": "/a"}]


@pytest.mark.parametrize(
    ("lines", "status", "message"),
    [
        (
            b"create /b\ncheck /a 5\ncreate /c\n",
            6,
            "line 2, check: the version of /a is not 5. Nothing was changed",
        ),
        (b"create /b\n\ncreate /none/c\n", 3, "line 3, create: /none/c has no parent"),
        (b"create /b\nfrob /a\n", 2, "line 2: unknown operation 'frob'"),
        (b"create /b\nset /a\n", 2, "line 2: Missing argument 'VALUE'"),
        (b"create /b\ncreate 'x\n", 2, "line 2: No closing quotation"),
        (b"create /b\ncreate x\n", 2, "line 2: a path must begin with '/'"),
        (b"create /b\ncreate /c -e --ttl 5\n", 2, "line 2: "),
        (b"# nothing\n", 2, "the transaction is empty"),
    ],
)
def test_a_transaction_that_fails_names_the_line_and_changes_nothing(
    fk: Fk, lines: bytes, status: int, message: str
) -> None:
    fk.said("create", "/a")
    done = fk.run("txn", stdin=lines)
    assert done.returncode == status
    assert message in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()
    assert fk.run("exists", "/b").returncode == 3
    assert json.loads(fk.run("txn", "--json", stdin=lines).stderr)["status"] == status


# ---- editing -------------------------------------------------------------------------------------


def editor(fk: Fk, tmp_path: Path, script: str) -> None:
    """Have fk use an editor that runs a script of the shell on the file "$1"."""
    file = tmp_path / "an editor"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o700)
    fk.environment["EDITOR"] = f"'{file}' --wait"
    fk.environment["TMPDIR"] = str(tmp_path)
    fk.environment.pop("VISUAL", None)


def kept(tmp_path: Path) -> list[Path]:
    return sorted(tmp_path.glob("fk-edit-*/*"))


def test_what_was_edited_is_set(fk: Fk, tmp_path: Path) -> None:
    fk.said("create", "/app.json", "old")
    editor(fk, tmp_path, 'case "$2" in *.json) ;; *) exit 9;; esac; cat "$2" > seen; echo new > "$2"')
    assert fk.said("edit", "/app.json") == "Set /app.json, version 1\n"
    assert fk.run("get", "/app.json", "--raw").stdout == b"new"
    assert json.loads(fk.said("edit", "/app.json", "--raw", "--json"))["stat"]["dataLength"] == 4
    assert fk.said("edit", "/app.json") == "/app.json is unchanged\n"
    assert kept(tmp_path) == []
    assert list(tmp_path.glob("fk-edit-*")) == []
    (ROOT / "seen").unlink()


def test_who_is_slower_keeps_the_text_in_a_file(fk: Fk, tmp_path: Path) -> None:
    fk.said("create", "/a", "old")
    fk_set = f"{sys.executable} -m faaskeeper.cli set /a faster > /dev/null"
    editor(fk, tmp_path, f'echo mine > "$2"; {fk_set}')  # the directory is free while one edits
    done = fk.run("edit", "/a")
    assert done.returncode == 6
    (file,) = kept(tmp_path)
    assert done.stderr.decode() == f"fk: /a was changed meanwhile. Your text is in {file}\n"
    assert file.read_text() == "mine\n"
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert fk.said("get", "/a") == "faster\n"


@pytest.mark.parametrize(
    ("script", "status", "files"),
    [
        ('echo half > "$2"; exit 3', 1, 1),
        ("exit 3", 1, 0),
        ('head -c 1048577 /dev/zero > "$2"', 7, 1),
        ('rm "$2"', 1, 0),
    ],
)
def test_an_editor_that_fails_sets_nothing(
    fk: Fk, tmp_path: Path, script: str, status: int, files: int
) -> None:
    fk.said("create", "/a", "old")
    editor(fk, tmp_path, script)
    done = fk.run("edit", "/a")
    assert done.returncode == status
    assert "Traceback" not in done.stderr.decode()
    assert len(kept(tmp_path)) == files
    assert fk.said("get", "/a") == "old\n"


def test_an_editor_that_does_not_exist_is_named(fk: Fk) -> None:
    fk.said("create", "/a")
    fk.environment["EDITOR"] = fk.environment["VISUAL"] = "/none/editor"
    assert b"the editor '/none/editor' does not start" in fk.run("edit", "/a").stderr
    fk.environment["EDITOR"] = fk.environment["VISUAL"] = "'"
    assert fk.run("edit", "/a").returncode == 2
    del fk.environment["EDITOR"], fk.environment["VISUAL"]
    done = fk.run("edit", "/a")  # vi would wait for a terminal
    assert (done.returncode, b"there is no terminal for an editor: set $EDITOR" in done.stderr) == (2, True)


def test_an_error_of_a_transaction_names_the_node(fk: Fk) -> None:
    done = fk.run("txn", stdin=b"create /none/n x\n")
    assert (done.returncode, done.stderr) == (
        3,
        b"fk: line 1, create: /none/n has no parent. Nothing was changed\n",
    )
    error = json.loads(fk.run("txn", "--json", stdin=b"set /none x\n").stderr)
    assert (error["path"], error["status"]) == ("/none", 3)


# ---- import below a path, dry runs ---------------------------------------------------------------


def test_a_dump_may_be_imported_below_a_path(fk: Fk, tmp_path: Path) -> None:
    fk.said("shell", stdin=b"create /a text\ncreate /a/b x\ncreate /e x true\n")
    dump = str(tmp_path / "dump")
    fk.said("export", "--to", dump)
    assert fk.run("import", "--from", dump, "--below", "/none/here").returncode == 3
    done = fk.run("import", "--from", dump, "--below", "/here", "--dry-run")
    assert b"would have created 3 znodes" in done.stderr
    assert fk.run("exists", "/here").returncode == 3
    said = json.loads(fk.said("import", "--from", dump, "--below", "/here", "--json"))
    assert (said["created"], said["skipped"]) == (3, [])
    assert fk.said("find", "/here") == "/here\n/here/a\n/here/a/b\n"
    assert fk.run("import", "--from", dump, "--below", "/here").returncode == 4
    fk.said("import", "--from", dump, "--below", "/here", "--overwrite")
    assert fk.run("import", "--from", dump, "--below", "/" + "x" * 958).returncode == 1


def test_deleteall_shows_what_it_would_delete(fk: Fk) -> None:
    fk.said("shell", stdin=b"create /a\ncreate /a/b\n")
    assert fk.said("deleteall", "/a", "--dry-run") == "/a\n/a/b\n"
    assert json.loads(fk.said("deleteall", "/a", "--json")) == {"path": "/a", "deleted": 2}
