"""Every command of docs/migrating.md, in its order, on a ZooKeeper server with three estates."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from faaskeeper.testing.emulation import processes
from faaskeeper.testing.patience import PATIENCE_S
from tests.backends import free_port
from tests.zookeeper import zookeeper

PAGE = Path(__file__).parent.parent / "docs" / "migrating.md"
BLOCKS: list[str] = re.findall(r"^ *```sh\n(.*?)^ *```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
READY = {"--follow": "Ctrl-C ends it", "serve": "serving "}
"""What commands that do not end by themselves say when they are ready."""


def estates(client: FaaSKeeperClient) -> None:
    """What Kafka, HBase and Curator keep, without ephemerals: their programs are stopped."""
    with client.transaction() as together:
        for path in (
            "/kafka",
            "/kafka/brokers",
            "/kafka/brokers/ids",
            "/kafka/config",
            "/kafka/config/changes",
        ):
            together.create(path)
        together.create("/kafka/brokers/topics").create(
            "/kafka/brokers/topics/t", b'{"partitions":{"0":[1]}}'
        )
        together.create("/kafka/controller_epoch", b"7")
        together.create("/hbase").create("/hbase/table").create("/hbase/table/t", b"\xff\0\0\0master\x08\x01")
        together.create("/hbase/hbaseid", bytes(range(256)), acl=[(31, "world", "anyone")])
    for _ in range(12):
        client.delete(client.create("/kafka/config/changes/config_change_", sequential=True).path)
    client.create("/curator/locks/a", makepath=True, container=True)
    client.create("/curator/presence/me", b"1", makepath=True, ttl=3_600_000)


class Reader:
    """Does what the page says, with addresses and files of the test's own."""

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory
        self._addresses = {"old:2181": f"127.0.0.1:{port}", "127.0.0.1:2182": f"127.0.0.1:{free_port()}"}
        self.said = ""

    def words(self, line: str) -> list[str]:
        for written, real in self._addresses.items():
            line = line.replace(written, real)
        program, *words = shlex.split(line)
        assert program == "fk"
        return [sys.executable, "-m", "faaskeeper.cli", *words]

    def run(self, line: str) -> None:
        done = subprocess.run(
            self.words(line),
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
            cwd=self.directory,
        )
        assert done.returncode == 0, f"{line}: {done.stderr}"
        self.said += f"$ {line}\n{done.stdout}{done.stderr}"

    @contextmanager
    def background(self, line: str, ready: str) -> Iterator[None]:
        log = self.directory / "log"
        with log.open("wb") as out:
            running = processes.start(self.words(line), stdout=out, stderr=out, cwd=self.directory)
        try:
            while ready not in log.read_text():
                assert running.poll() is None, log.read_text()
                with suppress(subprocess.TimeoutExpired):
                    running.wait(0.05)
            yield
            running.send_signal(signal.SIGINT)
            assert running.wait(PATIENCE_S) == 0, log.read_text()
        finally:
            processes.kill(running)

    def block(self, lines: list[str]) -> None:
        for at, line in enumerate(lines):
            ready = next((READY[word] for word in shlex.split(line) if word in READY), "")
            if ready:
                after = lines[at + 1 :] if "serve" in line else []
                with self.background(line, ready):
                    self.block(after)
                if after:
                    return
            else:
                self.run(line)


@pytest.mark.simulator  # it cuts over four times, each after 5 s of quiet
def test_every_command_of_the_page_runs(tmp_path: Path) -> None:
    with zookeeper(tmp_path / "old") as port:
        with FaaSKeeperClient(Config.load(f"zk://127.0.0.1:{port}")) as client:
            estates(client)
        text = re.findall(r"^```json\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
        config = {**json.loads(text[0]), "directory": str(tmp_path / "new")}
        (tmp_path / "new.json").write_text(json.dumps(config))
        reader = Reader(tmp_path, port)
        for block in BLOCKS:
            reader.block([line.strip() for line in block.splitlines() if line.strip()])
        assert reader.said.count("The mirror has ended") == 4, reader.said
        with FaaSKeeperClient(Config.deserialize(config)) as client:
            assert client.record("/curator/locks").meta.ttl == -1  # type: ignore[union-attr]
            assert client.record("/curator/presence/me").meta.ttl == 3_600_000  # type: ignore[union-attr]
            assert client.get_data("/hbase/table/t").data == b"\xff\0\0\0master\x08\x01"
            made = client.create("/kafka/config/changes/config_change_", sequential=True).path
            assert made.endswith("_0000000012")
