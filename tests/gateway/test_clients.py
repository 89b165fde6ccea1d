"""ZooKeeper's clients as they are: kazoo by its own tests, zkCli.sh and Node's client by a session each."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from faaskeeper.testing.patience import PATIENCE_S
from tests.backends import needs
from tests.gateway.servers import Server

ROOT = Path(__file__).parents[2]
ZKCLI = Path("/usr/share/zookeeper/bin/zkCli.sh")
NODE = Path(sys.prefix) / "node" / "node_modules"

LEFT_OUT = {
    "TestReconfig": "needs reconfigEnabled, and members to add",
    "TestReadOnlyMode": "needs three servers, of which two stop",
    "TestSSLClient": "needs the harness' own cluster with TLS",
    "test_update_host_list": "needs three servers",
    "test_handle_session_loss": "waits for ever if the session ends before its semaphore waits",
}
"""Of kazoo's tests, those that a standalone ZooKeeper server which is left alone does not pass either."""

MODULES = {
    "client": 106,
    "connection": 10,
    "watchers": 22,
    "lock election barrier counter queue party lease": 73,
    "partitioner cache": 25,
}
"""kazoo's modules, and how many of their tests there are at least."""


HANGS_S = 300
"""How long one of kazoo's tests takes at most; the first that fails or hangs ends its process."""
ALL_S = 450
"""How long a process takes at most, such that its output is shown before the test about it is ended."""


class Kazoo:
    """kazoo's tests of some modules, in a process and with a server of their own."""

    def __init__(self, tests: Sequence[str], directory: Path, hangs_s: int = HANGS_S) -> None:
        environment = {
            **os.environ,
            "GATEWAY_DIRECTORY": str(directory / "server"),
            "ZOOKEEPER_VERSION": "3.8.0",
            "PYTHONPATH": str(ROOT),
        }
        environment.pop("PYTEST_XDIST_WORKER", None)
        options = ["-q", "-rs", "-x", "-c", os.devnull, "--rootdir", str(directory)]
        options += ["--timeout", str(hangs_s)]
        options += ["-p", "no:cacheprovider", "-p", "no:xdist", "-p", "tests.gateway.kazoo_plugin"]
        options += ["-k", " and ".join(f"not {each}" for each in LEFT_OUT)]
        self.deadline = time.monotonic() + ALL_S
        self._log = directory / "server" / "log"
        self._output = directory / "output"
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pytest", *options, "--pyargs", *tests],
                cwd=directory,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def done(self) -> tuple[int, str]:
        """Its status when it ends, and its output with the end of its server's log.

        Of one that hangs the output has the stacks of all threads.
        """
        try:
            status = self._process.wait(max(0.0, self.deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGABRT)  # pytest has faulthandler show them
            status = self._process.wait()
        log = self._log.read_text()[-5_000:] if self._log.exists() else "nothing"
        return status, f"{self._output.read_text()}\nIts server says at the end:\n{log}"

    def end(self) -> None:
        """End it in order, if it runs."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(PATIENCE_S)


@pytest.fixture(scope="module")
def kazoo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Kazoo]]:
    """All of kazoo's tests, at once: they mostly wait."""
    running = {
        modules: Kazoo(
            [f"kazoo.tests.test_{each}" for each in modules.split()], tmp_path_factory.mktemp("kazoo")
        )
        for modules in MODULES
    }
    yield running
    for each in running.values():
        each.end()


@pytest.mark.parametrize("modules", MODULES)
def test_kazoo_s_own_tests_pass(modules: str, kazoo: dict[str, Kazoo]) -> None:
    status, output = kazoo[modules].done()
    assert status == 0, output[-20_000:]
    passed = re.search(r"(\d+) passed", output)
    assert passed is not None
    assert int(passed[1]) >= MODULES[modules], output[-20_000:]


HANG = """
def test_of_kazoo_s():
    open("began", "w").close()
    import threading
    threading.Event().wait()

def test_behind_it():
    raise AssertionError("it was not the end")
"""


@pytest.mark.parametrize("ended_by", ["its time-out", "the test about it"])
def test_where_one_of_kazoo_s_tests_hangs_is_shown(ended_by: str, directory: Path) -> None:
    (directory / "test_hang.py").write_text(HANG)
    os.mkfifo(directory / "began")
    by_itself = ended_by == "its time-out"
    kazoo = Kazoo(["test_hang.py"], directory, hangs_s=1 if by_itself else HANGS_S)
    (directory / "began").read_bytes()  # until it hangs
    if not by_itself:
        kazoo.deadline = 0.0
    status, output = kazoo.done()
    assert status == (1 if by_itself else -signal.SIGABRT), output
    assert "in test_of_kazoo_s" in output or "threading.Event().wait()" in output
    assert "it was not the end" not in output
    assert "serving local" in output


COMMANDS = """\
version
create /a hello
create -e /e eph
create -s /s- x
create -e -s /es- x
create -c /c x
create -t 60000 /t x
get /a
get -s -w /a
set /a world
set -v 1 /a again
stat -w /a
ls -s -w /
ls -R /
create /a/b x
addauth digest user:pw
create /locked x auth::cdrwa
getAcl -s /locked
setAcl /a world:anyone:cdrwa
whoami
getEphemerals
getAllChildrenNumber /
sync /
addWatch -m PERSISTENT /a
set /a watched
removewatches /a
setquota -n 10 /a
listquota /a
delquota /a
config
reconfig -add x
create /a hello
delete /a/b
deleteall /a
get /none
delete -v 7 /t
history
redo 1
connect {address}
ls /
close
quit
"""

SAID = (
    "Created /a",
    "Created /s-0000000002",
    "Created /es-0000000003",
    "Created /t",
    "hello",
    "WatchedEvent state:SyncConnected type:NodeDataChanged path:/a",
    "dataVersion = 2",
    "/zookeeper/quota",
    "WatchedEvent state:SyncConnected type:NodeChildrenChanged path:/",
    "'digest,'user:2Om+GBbT2q/tS6pdvACZbbm7/1A=",
    "digest: user",
    "[/e, /es-0000000003]",
    "11",
    "Sync is OK",
    "WatchedEvent state:SyncConnected type:PersistentWatchRemoved path:/a",
    "Output quota for /a count=10,bytes=-1=;byteHardLimit=-1;countHardLimit=-1",
    "Output stat for /a count=2,bytes=8",
    "KeeperErrorCode = Reconfig is disabled",
    "Node already exists: /a",
    "Node does not exist: /none",
    "version No is not valid : /t",
    "[a, c, locked, s-0000000002, t, zookeeper]",
)
"""Lines that zkCli.sh prints."""


def test_zkcli_runs_a_session_with_every_command(directory: Path) -> None:
    needs("zkCli.sh", ZKCLI.exists(), "'apt-get install zookeeper' installs it")
    server = Server(directory)
    address = f"127.0.0.1:{server.port}"
    done = subprocess.run(
        ["bash", str(ZKCLI), "-server", address],
        input=COMMANDS.format(address=address),
        capture_output=True,
        text=True,
        cwd=directory,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    lines = (done.stdout + done.stderr).splitlines()
    assert [said for said in SAID if said not in lines] == [], done.stdout + done.stderr
    assert server.stop() == 0


def test_node_zookeeper_client_runs_a_session_with_every_operation(directory: Path) -> None:
    needs("node-zookeeper-client", shutil.which("node") and (NODE / "node-zookeeper-client").exists())
    server = Server(directory)
    done = subprocess.run(
        ["node", str(Path(__file__).parent / "session.js"), f"127.0.0.1:{server.port}"],
        env={**os.environ, "NODE_PATH": str(NODE)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.stdout.splitlines()[-1:] == ["done"], done.stdout + done.stderr
    assert server.stop() == 0
