"""The model's latencies, as docs/performance.md has them.

``python -m tests.modelled`` writes them to the file from which the gate takes them.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
KEPT = ROOT / "faaskeeper" / "testing" / "smoke" / "modelled.json"
_OPERATIONS = ("set", "create", "delete", "get", "watch")


def documented() -> dict[str, dict[str, dict[str, list[float]]]]:
    """By cloud, configuration and operation the percentiles at 1 KB, ms."""
    text = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    found = {}
    for cloud, title in (("aws", "## AWS"), ("gcp", "## Google Cloud")):
        part = text[text.index(f"\n{title}\n") :]
        part = part[part.index("1 KB: p50 / p95 / p99") : part.index("64 KB: p50 / p95 / p99")]
        rows = re.findall(r"^\| ([^|]+) \|((?: [\d.]+ / [\d.]+ / [\d.]+ \|){5})", part, re.MULTILINE)
        found[cloud] = {
            name: {
                operation: [float(each) for each in cell.split("/")]
                for operation, cell in zip(_OPERATIONS, cells.strip(" |").split("|"), strict=True)
            }
            for name, cells in rows
        }
    return found


def text() -> str:
    """The kept file."""
    lines = [
        f' "{cloud}": {{\n'
        + ",\n".join(f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items())
        + "\n }"
        for cloud, rows in documented().items()
    ]
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    KEPT.write_text(text())
