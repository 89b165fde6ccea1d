"""Loggers that load ``logging`` when something is logged, each in a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys


def said(program: str) -> list[str]:
    """Lines that a program prints, to standard output and standard error."""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True)
    return done.stdout.splitlines()


LATE = "import sys\nfrom faaskeeper.core import logs\nlog = logs.logger('faaskeeper.test')\n"
ATTACHED = """
lines = []
def handler():
    import logging
    class Kept(logging.Handler):
        def emit(self, record):
            lines.append(record.getMessage())
    return Kept()
kept = logs.Attached("faaskeeper", handler)
"""


def test_a_line_that_nobody_asked_for_does_not_load_logging() -> None:
    program = "log.info('a')\nprint(log.isEnabledFor(logs.INFO), 'logging' in sys.modules)"
    assert said(LATE + program) == ["False False"]


def test_a_warning_is_shown_without_any_configuration() -> None:
    assert said(LATE + "log.warning('disk %s', 'full')") == ["disk full"]


def test_a_line_is_logged_with_its_place_once_logging_is_configured() -> None:
    configured = "import logging\nlogging.basicConfig(level=20, format='%(lineno)d %(message)s')\n"
    program = f"log.info('before')\n{configured}log.info('first')\nlog.info('second')"
    assert said(LATE + program) == ["7 first", "8 second"]


def test_an_attached_handler_gets_the_first_line_and_does_not_load_logging_before() -> None:
    program = "print('logging' in sys.modules)\nlog.warning('a')\nlog.warning('b')\nprint(lines)"
    assert said(LATE + ATTACHED + program) == ["False", "['a', 'b']"]


def test_an_attached_handler_gets_lines_where_logging_was_loaded_and_used_before() -> None:
    program = "log.warning('a')" + ATTACHED + "log.warning('b')\nprint(lines)"
    assert said(LATE + program) == ["a", "['b']"]


def test_a_detached_handler_gets_no_line() -> None:
    program = "kept.detach()\nlog.warning('a')\nprint(lines)"
    assert said(LATE + ATTACHED + program) == ["a", "[]"]


def test_a_warning_is_shown_where_no_descriptor_is_free_to_load_logging() -> None:
    program = """
import resource
for _ in range(2):
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limit[1]))
    log.warning("cannot open %s", "a file")
    resource.setrlimit(resource.RLIMIT_NOFILE, limit)
print('logging' in sys.modules)
log.warning("again")
print(lines)
"""
    assert said(LATE + ATTACHED + program) == ["cannot open a file"] * 2 + ["False", "['again']"]
