"""Draws the sequence diagrams of the pages as SVG, from the part of mermaid's notation that they use.

GitHub draws them by mermaid itself. The site would have to load that from another host, or to carry
three megabytes of script for two pictures.
"""

from __future__ import annotations

import re
from html import escape

STEP, MARGIN, BOX = 34, 20, 30
"""Pixels: between two rows, around the picture, height of a participant's box."""


class Drawing:
    """Places the lines of a diagram from top to bottom."""

    def __init__(self, names: dict[str, str], width: int) -> None:
        self.names = names
        self.order = list(names)
        self.width = width
        self.gap = (width - 2 * MARGIN) / len(names)
        self.y = float(MARGIN + BOX + STEP)
        self.parts: list[str] = []
        self.open: list[float] = []

    def x(self, name: str) -> float:
        """The middle of a participant's column."""
        return MARGIN + self.gap * (self.order.index(name) + 0.5)

    def text(self, x: float, y: float, words: str, kind: str = "", anchor: str = "middle") -> None:
        self.parts.append(
            f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(words)}</text>'
        )

    def message(self, start: str, arrow: str, end: str, words: str) -> None:
        """An arrow with its words above it, or a loop where both ends are the same."""
        kind = "back" if arrow.startswith("--") else "line"
        x, to = self.x(start), self.x(end)
        if start == end:
            path = f"M{x:g} {self.y - 8:g} h26 v12 h-24"
            self.parts.append(f'<path class="{kind}" d="{path}" marker-end="url(#tip)"/>')
            self.text(x + 32, self.y + 2, words, "label", "start")
        else:
            side = 1 if to > x else -1
            self.parts.append(
                f'<line class="{kind}" x1="{x:g}" y1="{self.y:g}" x2="{to - 3 * side:g}" y2="{self.y:g}"'
                ' marker-end="url(#tip)"/>'
            )
            self.text((x + to) / 2, self.y - 6, words, "label")
        self.y += STEP

    def note(self, name: str, words: str) -> None:
        half = 4 * len(words) + 10
        x = max(self.x(name), half + 4)
        self.parts.append(
            f'<rect class="note" x="{x - half:g}" y="{self.y - 20:g}" width="{2 * half:g}"'
            ' height="26" rx="4"/>'
        )
        self.text(x, self.y - 3, words)
        self.y += STEP

    def begin(self, words: str) -> None:
        """A frame of alternatives."""
        self.open.append(self.y - 22)
        self.text(MARGIN + 8, self.y - 4, f"either: {words}", "word", "start")
        self.y += STEP

    def otherwise(self, words: str) -> None:
        y = self.y - 22
        self.parts.append(
            f'<line class="back" x1="{MARGIN}" y1="{y:g}" x2="{self.width - MARGIN}" y2="{y:g}"/>'
        )
        self.text(MARGIN + 8, self.y - 4, f"or: {words}", "word", "start")
        self.y += STEP

    def end(self) -> None:
        top = self.open.pop()
        self.parts.append(
            f'<rect class="frame" x="{MARGIN}" y="{top:g}" width="{self.width - 2 * MARGIN}"'
            f' height="{self.y - 16 - top:g}" rx="4"/>'
        )
        self.y += STEP / 2

    def svg(self) -> str:
        height = self.y + MARGIN - STEP / 2
        heads = []
        for name, shown in self.names.items():
            x = self.x(name)
            heads.append(
                f'<line class="life" x1="{x:g}" y1="{MARGIN + BOX}" x2="{x:g}" y2="{height - 8:g}"/>'
                f'<rect class="box" x="{x - self.gap / 2 + 6:g}" y="{MARGIN}" width="{self.gap - 12:g}"'
                f' height="{BOX}" rx="5"/>'
                f'<text x="{x:g}" y="{MARGIN + 20}" text-anchor="middle">{escape(shown)}</text>'
            )
        tip = '<marker id="tip" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto">'
        tip += '<path class="tip" d="M0 0 L8 4 L0 8 z"/></marker>'
        return (
            f'<svg class="figure sequence" viewBox="0 0 {self.width} {height:g}"'
            f' xmlns="http://www.w3.org/2000/svg">\n<defs>{tip}</defs>\n'
            + "\n".join([*heads, *self.parts])
            + "\n</svg>"
        )


def drawn(source: str) -> str:
    """The picture of a diagram, as HTML. Raises ValueError that names a line that it does not know."""
    lines = [line.strip() for line in source.splitlines() if line.strip()]
    if lines[0] != "sequenceDiagram":
        raise ValueError(f"no sequence diagram: {lines[0]!r}")
    names = dict(re.findall(r"^participant (\w+) as (.+)$", "\n".join(lines), re.MULTILINE))
    drawing = Drawing(names, 170 * len(names))
    for line in lines[1:]:
        if found := re.fullmatch(r"(\w+)(--?>>)(\w+): (.+)", line):
            drawing.message(found[1], found[2], found[3], found[4])
        elif found := re.fullmatch(r"Note over (\w+): (.+)", line):
            drawing.note(found[1], found[2])
        elif line.startswith("alt "):
            drawing.begin(line[4:])
        elif line.startswith("else "):
            drawing.otherwise(line[5:])
        elif line == "end":
            drawing.end()
        elif not line.startswith("participant "):
            raise ValueError(f"unknown in a sequence diagram: {line!r}")
    words = escape(" ".join(lines[1:]), quote=True)
    return f'<div class="figure" role="img" aria-label="{words}">\n{drawing.svg()}\n</div>'
