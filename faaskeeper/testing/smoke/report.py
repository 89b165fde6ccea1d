"""The report of a run: lines with a verdict each, as Markdown for people and as JSON for later runs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any


class Verdict(Enum):
    """What came of a line."""

    OK = "ok"
    FAILED = "FAILED"
    NOTE = "note"
    UNTRIED = "not exercised"


@dataclass(frozen=True)
class Line:
    """One thing that was tried. ``said``: figures, or what went wrong."""

    section: str
    what: str
    verdict: Verdict
    said: str = ""


@dataclass(frozen=True)
class Used:
    """What a service counted.

    ``count`` is None where it has counted nothing; ``price``: of one, in dollars; ``source``: the
    metric.
    """

    what: str
    count: float | None
    price: float
    source: str

    @property
    def cost(self) -> float:
        """In dollars."""
        return (self.count or 0.0) * self.price


@dataclass
class Report:
    """A run. ``emulated``: it was no cloud; ``began``, ``ended``: seconds since 1970."""

    cloud: str
    deployment: str
    region: str
    version: str
    emulated: bool
    began: float
    ended: float = 0.0
    facts: dict[str, str] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)
    latencies: list[dict[str, Any]] = field(default_factory=list)
    """By operation: milliseconds of the percentiles, measured and modelled."""
    usage: list[Used] = field(default_factory=list)

    # ---- lines ---------------------------------------------------------------------------

    def add(self, section: str, what: str, good: bool, said: str = "") -> None:
        """Add a line that is right or wrong."""
        self.lines.append(Line(section, what, Verdict.OK if good else Verdict.FAILED, said))

    def note(self, section: str, what: str, said: str = "") -> None:
        """Add a line that is neither."""
        self.lines.append(Line(section, what, Verdict.NOTE, said))

    def untried(self, section: str, what: str, why: str) -> None:
        """Add a line for what was not exercised."""
        self.lines.append(Line(section, what, Verdict.UNTRIED, why))

    def number(self, verdict: Verdict) -> int:
        """The number of lines with a verdict."""
        return sum(each.verdict is verdict for each in self.lines)

    @property
    def passed(self) -> bool:
        """Whether something was tried, and nothing failed."""
        return not self.number(Verdict.FAILED) and bool(self.number(Verdict.OK))

    @property
    def cost(self) -> float:
        """The costs of what was counted, in dollars."""
        return sum(each.cost for each in self.usage)

    # ---- files ---------------------------------------------------------------------------

    def save(self, directory: Path) -> Path:
        """Write ``report.md`` and ``report.json``; returns the former's path."""
        data = asdict(self)
        data["lines"] = [{**asdict(each), "verdict": each.verdict.value} for each in self.lines]
        write_whole(directory / "report.json", json.dumps(data, indent=1) + "\n")
        path = directory / "report.md"
        write_whole(path, self.markdown())
        return path

    @staticmethod
    def load(directory: Path) -> Report:
        """Read ``report.json``. Raises OSError, or ValueError if it is no report."""
        try:
            data = json.loads((directory / "report.json").read_text("utf-8"))
            data["lines"] = [Line(**{**each, "verdict": Verdict(each["verdict"])}) for each in data["lines"]]
            data["usage"] = [Used(**each) for each in data["usage"]]
            return Report(**data)
        except (TypeError, KeyError) as error:
            raise ValueError(f"{directory / 'report.json'} is no report of this version: {error}") from error

    def markdown(self) -> str:
        """The report, to be read and to be attached."""
        verdicts = ", ".join(
            f"{self.number(verdict)} {verdict.value}" for verdict in Verdict if self.number(verdict)
        )
        head = [
            f"# FaaSKeeper on {self.cloud}: {'passed' if self.passed else 'FAILED'}",
            "",
            f"Deployment `{self.deployment}`, {self.region}, FaaSKeeper {self.version}: {verdicts}.",
        ]
        if self.emulated:
            head += ["", f"**This ran on emulators, not on {self.cloud}.** What they lack is listed below."]
        parts = ["\n".join(head), table(("fact", "value"), self.facts.items())]
        for title, shown in (
            ("What failed", (Verdict.FAILED,)),
            ("What was not exercised", (Verdict.UNTRIED,)),
            ("What was tried", (Verdict.OK, Verdict.NOTE)),
        ):
            chosen = [each for each in self.lines if each.verdict in shown]
            rows = [(each.section, each.what, each.verdict.value, each.said) for each in chosen]
            parts += [f"## {title}", table(("part", "what", "verdict", "details"), rows)] if rows else []
        if self.latencies:
            names = ("operation, 1 KB", "number", "measured: p50 / p95 / p99, ms", "modelled")
            timed = (
                (
                    each["operation"],
                    each["number"],
                    _figures(each["measured"]),
                    _figures(each["modelled"] or ()),
                )
                for each in self.latencies
            )
            parts += ["## Latencies", table(names, timed)]
        if self.usage:
            columns = ("usage", "count", "$ each", "$", "counted by")
            counted = [
                (
                    each.what,
                    "not counted" if each.count is None else f"{each.count:,.6g}",
                    f"{each.price:.4g}",
                    f"{each.cost:.6f}",
                    each.source,
                )
                for each in self.usage
            ]
            parts += ["## Cost", table(columns, [*counted, ("total", "", "", f"{self.cost:.4f}", "")])]
        return "\n\n".join(each for each in parts if each) + "\n"


def table(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A table in Markdown; without rows an empty text."""
    lines = ["| " + " | ".join(_cell(each) for each in row) + " |" for row in rows]
    if not lines:
        return ""
    head = list(columns)
    return "\n".join([f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *lines])


def _cell(value: object) -> str:
    return " ".join(str(value).replace("|", "\\|").split())


def _figures(found: Iterable[float]) -> str:
    return " / ".join(f"{each:.1f}" for each in found)


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all, for its owner alone."""
    part = path.with_suffix(path.suffix + ".part")
    part.touch(0o600)
    part.write_text(text, encoding="utf-8")
    part.replace(path)
