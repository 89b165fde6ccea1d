"""Processes that end with the one that started them, however that ends.

A test run that is killed runs no ``finally``: its servers would go on, each with its memory and
load. So a watcher in the server's process group waits for the end of a pipe whose only writer is
the process that started it, and then kills the group. The kernel closes the pipe.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

_WATCHED = """
import os, sys
if os.fork() == 0:
    os.read(0, 1)
    os.killpg(0, 9)
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""


def start(command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start a command in a process group of its own. ``options``: of Popen, except for ``stdin``.

    The group is killed when this process has ended. End it with :func:`kill`.
    """
    watched = [sys.executable, "-I", "-S", "-c", _WATCHED, *command]
    return subprocess.Popen(watched, stdin=subprocess.PIPE, start_new_session=True, **options)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill what :func:`start` has started, with all that it has started."""
    assert process.stdin is not None
    if process.stdin.closed:
        return  # it was killed before
    os.killpg(process.pid, signal.SIGKILL)  # the group is there as long as its watcher
    process.wait()
    process.stdin.close()
