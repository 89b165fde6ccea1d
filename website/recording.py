"""The picture at the top of the README: a session of the shell that really ran.

``python -m website.recording`` (``make recording``) runs the session and writes ``docs/shell.svg``. A test
runs it too, and fails if the picture says anything that was not printed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from html import escape, unescape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "shell.svg"
SESSION = (
    "fk create /app/config '{\"limit\": 10}' --parents",
    "fk set /app/config '{\"limit\": 20}'",
    "fk get /app/config",
    "fk set /app/config '{\"limit\": 30}' --version 0",
    "fk lock /jobs/nightly -- sh -c 'echo working, token $FK_FENCING_TOKEN'",
    "fk diff /app/config",
)
"""What is typed. It prints neither a time nor a place, so that it is the same each time."""
COLUMNS, LINE, MARGIN, TOP = 80, 20, 18, 44
"""Characters; pixels: height of a line, around the text, above it."""
PER_CHARACTER = 8.45
STYLE = """
.shell { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: 14px; }
.shell text { fill: #d6deeb; white-space: pre; }
.shell .typed { fill: #ffffff; font-weight: 600; }
.shell .prompt { fill: #7fdbca; }
.shell .wrong { fill: #ff9e80; }
@media (prefers-reduced-motion: no-preference) {
.shell .line { animation: appear 0.15s backwards; }
}
@keyframes appear { from { opacity: 0; } }
"""


def ran() -> list[tuple[str, list[str], int]]:
    """Each command of the session, the lines that it printed, and its exit status."""
    with tempfile.TemporaryDirectory() as place:
        fk = Path(place) / "fk"
        fk.write_text(f'#!/bin/sh\nexec {sys.executable} -m faaskeeper.cli "$@"\n')
        fk.chmod(0o755)
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("FK_")},
            "PATH": f"{place}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "FK_DIRECTORY": f"{place}/service",
            "HOME": place,
        }
        printed = []
        for command in SESSION:
            done = subprocess.run(
                ["bash", "-c", command],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            lines = [line[:COLUMNS] for line in done.stdout.splitlines()]
            printed.append((command, lines, done.returncode))
        return printed


def drawn(session: list[tuple[str, list[str], int]]) -> str:
    """The picture of a session. Commands appear one after the other, where motion is welcome."""
    lines: list[str] = []
    row, second = 0, 0.3

    def line(kind: str, text: str, prompt: bool = False) -> None:
        nonlocal row
        y = TOP + MARGIN + row * LINE
        mark = '<tspan class="prompt">$ </tspan>' if prompt else ""
        lines.append(
            f'<g class="line" style="animation-delay: {second:.1f}s">'
            f'<text class="{kind}" x="{MARGIN}" y="{y}" xml:space="preserve">{mark}{escape(text)}</text></g>'
        )
        row += 1

    for command, printed, status in session:
        line("typed", command, prompt=True)
        second += 0.6
        for each in printed:
            line("wrong" if status else "said", each)
        second += 0.4
    width = round(2 * MARGIN + PER_CHARACTER * COLUMNS)
    height = TOP + MARGIN + row * LINE
    dots = "".join(
        f'<circle cx="{22 + 20 * number}" cy="20" r="6" fill="{colour}"/>'
        for number, colour in enumerate(("#ff5f56", "#ffbd2e", "#27c93f"))
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" class="shell"'
        f' viewBox="0 0 {width} {height}" width="{width}">\n'
        f"<style>{STYLE}</style>\n"
        f'<rect width="{width}" height="{height}" rx="10" fill="#011627"/>{dots}\n'
        + "\n".join(lines)
        + "\n</svg>\n"
    )


def read(picture: str) -> list[str]:
    """The lines of a picture's text, with ``$`` before what is typed."""
    texts = re.findall(r"<text [^>]*>(.*?)</text>", picture)
    return [unescape(re.sub(r"<[^>]+>", "", text)) for text in texts]


def main() -> None:
    """Write the picture."""
    PICTURE.write_text(drawn(ran()), encoding="utf-8")
    print(f"wrote {PICTURE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
