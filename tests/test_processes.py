"""Servers of tests end with the test run, also where that is killed."""

from __future__ import annotations

import subprocess
import sys

from faaskeeper.testing.emulation import processes
from faaskeeper.testing.patience import PATIENCE_S

SERVER = "import os, time; os.fork(); os.write(1, b'up'); time.sleep(3600)"
STARTED = f"""
import sys
from faaskeeper.testing.emulation import processes
processes.start([sys.executable, "-c", {SERVER!r}]).wait()
"""


def test_a_server_and_its_children_end_when_the_process_that_started_them_is_killed() -> None:
    run = subprocess.Popen([sys.executable, "-c", STARTED], stdout=subprocess.PIPE)
    assert run.stdout is not None
    up = run.stdout.read(4)
    run.kill()
    # the end of the output: none of those that inherited it is there any more
    assert (up, run.communicate(timeout=PATIENCE_S)[0]) == (b"upup", b"")


def test_a_server_that_is_killed_takes_its_children_along() -> None:
    process = processes.start([sys.executable, "-c", SERVER], stdout=subprocess.PIPE)
    assert process.stdout is not None
    up = process.stdout.read(4)
    processes.kill(process)
    assert (up, process.stdout.read()) == (b"upup", b"")
    process.stdout.close()
    processes.kill(process)  # once more is no error


def test_a_command_that_ends_by_itself_has_its_own_exit_status() -> None:
    process = processes.start([sys.executable, "-c", "import sys; sys.exit(len(sys.stdin.read()) or 7)"])
    assert process.wait(PATIENCE_S) == 7
    processes.kill(process)
