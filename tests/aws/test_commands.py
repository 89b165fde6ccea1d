"""``fk`` on a deployment: ``doctor``, ``deadletters``, ``export`` and ``import``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from faaskeeper.core.acl import digest
from faaskeeper.providers.aws.queues import text_of
from faaskeeper.providers.aws.tables import DynamoTable
from faaskeeper.providers.cloud.supers import SavedSuperUser
from faaskeeper.testing.patience import PATIENCE_S
from tests import snippets
from tests.aws import backends
from tests.aws.system import System
from tests.cli.trees import (
    commands_on_trees_work,
    commands_on_znodes_work,
    trees_move_between_deployments,
)


class Deployed:
    """A deployment, and ``fk`` on it."""

    def __init__(self, endpoint: str) -> None:
        self.system = System(endpoint, {})
        self.out = self.system.directory / "out.json"
        self.out.write_text(json.dumps(self.system.data))

    def fk(self, *arguments: str, code: int = 0, stdin: str = "", both: bool = True) -> str:
        """What a command prints, with ``both`` also to standard error."""
        done = subprocess.run(
            [sys.executable, "-m", "faaskeeper.cli", *arguments],
            input=stdin, capture_output=True, text=True, env={**os.environ, **backends.KEYS},
            cwd=Path(__file__).parent.parent.parent, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + (done.stderr if both else "")


@pytest.fixture
def deployed(ministack: str) -> Iterator[Deployed]:
    made = Deployed(ministack)
    yield made
    made.system.stop()


def test_the_program_of_who_deploys_by_hand_sets_the_super_user(deployed: Deployed) -> None:
    identity = digest("root:pw")
    environment = {**os.environ, **backends.KEYS}
    source = snippets.program("set_super_user")
    arguments = (str(deployed.out), identity)
    snippets.run(source, deployed.system.directory, *arguments, environment=environment)
    with backends.aws(deployed.system.endpoint) as aws:
        settings = DynamoTable(aws, f"{deployed.system.name}-settings", "settings")
        assert SavedSuperUser(settings, "", lambda: 0)(identity, 1)


def test_the_doctor_finds_what_is_wrong_and_says_what_to_do(
    deployed: Deployed,
) -> None:
    said = deployed.fk("doctor", str(deployed.out))
    assert "FAIL" not in said
    for what in ("credentials", "clock", "tree", "heartbeat", "log", "worker queue", "session"):
        assert f"ok   {what}" in said
    url = deployed.system.data["aws"]["worker-queue-url"].replace("-worker", "-worker-dead")
    sqs = backends.raw("sqs", deployed.system.endpoint)
    sqs.send_message(QueueUrl=url, MessageBody="?", MessageGroupId="w", MessageDeduplicationId="1")
    sqs.close()
    assert "FAIL dead letters: 1 in worker-dead.fifo" in deployed.fk("doctor", str(deployed.out), code=1)
    deployed.system.data["deployment-name"] = "another"
    deployed.out.write_text(json.dumps(deployed.system.data))
    assert "that it is deployed" in deployed.fk("doctor", str(deployed.out), code=1)


def test_dead_letters_are_shown_sent_again_and_dropped(deployed: Deployed) -> None:
    system = deployed.system
    assert "No dead letters" in deployed.fk("deadletters", str(deployed.out))
    name = system.data["aws"]["worker-queue-url"].replace("-worker", "-worker-dead")
    sqs = backends.raw("sqs", system.endpoint)
    for number, body in enumerate((text_of(b"\0" * 40), "not ours")):
        sqs.send_message(
            QueueUrl=name, MessageBody=body, MessageGroupId="w", MessageDeduplicationId=str(number)
        )
    shown = deployed.fk("deadletters", str(deployed.out))
    assert "40 bytes" in shown
    assert "8 characters, not a message of FaaSKeeper" in shown
    assert "sent 2 again" in deployed.fk("deadletters", str(deployed.out), "--redrive")
    with system.client() as client:  # whose own request comes after them
        client.create("/a")
    said = system.output("writer")
    assert "dropped 1 messages that no client sent" in said  # the text
    assert "dropped a message" in said  # the bytes
    sqs.send_message(QueueUrl=name, MessageBody="x", MessageGroupId="w", MessageDeduplicationId="3")
    sqs.close()
    assert "there is no terminal" in deployed.fk("deadletters", str(deployed.out), "--drop", code=2)
    assert "dropped 1" in deployed.fk("deadletters", str(deployed.out), "--drop", "--yes")
    assert "No dead letters" in deployed.fk("deadletters", str(deployed.out))


def test_commands_on_znodes_and_trees_work_on_aws(deployed: Deployed) -> None:
    def fk(*arguments: str, stdin: str = "") -> str:
        return deployed.fk("-c", str(deployed.out), *arguments, stdin=stdin)

    commands_on_znodes_work(lambda lines: fk("shell", stdin=lines.decode()))
    with deployed.system.client() as client:
        commands_on_trees_work(client, fk)


def test_trees_move_to_aws_and_back(deployed: Deployed, tmp_path: Path) -> None:
    def fk(*arguments: str) -> str:
        return deployed.fk("-c", str(deployed.out), *arguments, both=False)

    trees_move_between_deployments(fk, deployed.out, tmp_path)


def test_a_node_is_edited_on_aws(deployed: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDITOR", "sed -i s/true/false/")
    for words in (("create", "/app.json", '{"debug": true}'), ("edit", "/app.json")):
        deployed.fk("-c", str(deployed.out), *words)
    assert deployed.fk("-c", str(deployed.out), "get", "/app.json") == '{"debug": false}\n'


def test_a_tree_moves_from_aws_to_one_machine(deployed: Deployed, tmp_path: Path) -> None:
    with deployed.system.client() as client:
        client.create("/a", b"text")
        client.create("/a/large", b"\xff" * 100_000)
    dump = tmp_path / "dump"
    assert "wrote 3 znodes" in deployed.fk("export", str(deployed.out), "--to", str(dump))
    here = tmp_path / "here"
    assert "created 2 znodes" in deployed.fk("--directory", str(here), "import", "--from", str(dump))
    with FaaSKeeperClient(Config.local(here)) as local:
        assert local.get_data("/a").data == b"text"
        assert local.get_data("/a/large").data == b"\xff" * 100_000
