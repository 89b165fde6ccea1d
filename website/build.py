"""Build the site of ``docs/`` into ``build/site``: ``python -m website.build``.

The pages are written to be read on GitHub, too, where links lead to files of the repository. So the
site is built of a copy of them, ``build/docs``, in which

* links to what is no page lead to the repository on GitHub;
* hand-made pictures and diagrams stand in the page itself, so that they follow its colours, and no
  script draws them: the site loads nothing from elsewhere;
* the examples and the changelog are pages.

Links between pages, and to their headings, are checked by the generator (``strict``).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from website import sequence

ROOT = Path(__file__).resolve().parent.parent
SOURCE, STAGED, SITE = ROOT / "docs", ROOT / "build" / "docs", ROOT / "build" / "site"
REPOSITORY = "https://github.com/spcl/faaskeeper"

_FENCE = re.compile(r"^ *```.*?^ *```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(\]\()(?![a-z]+:|#)([^)\s]+)(\))")
_PICTURE = re.compile(r"^!\[([^]]*)\]\(([^)\s]+\.svg)\)$", re.MULTILINE)
_LOADED = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)=[\"']?(https?:)?//[^>]*>")
_COLOUR = re.compile(r"\x1b\[[\d;]*m")
_MINE = 'class="figure'
"""In the SVG files that are made for the site."""


def pages() -> dict[Path, Path]:
    """The files of the repository that become pages, and their places below the staged folder."""
    found = {page: page.relative_to(SOURCE) for page in sorted(SOURCE.rglob("*.md"))}
    found[SOURCE / "README.md"] = Path("index.md")
    found[SOURCE / "decisions" / "README.md"] = Path("decisions/index.md")
    found[ROOT / "CHANGELOG.md"] = Path("changelog.md")
    for page in sorted((ROOT / "examples").glob("*/README.md")):
        found[page] = Path("examples") / f"{page.parent.name}.md"
    return found


def outside_of_code(text: str, change: re.Pattern[str], by: Callable[[re.Match[str]], str]) -> str:
    """Substitute in the text between blocks of code."""
    parts, end = [], 0
    for fence in _FENCE.finditer(text):
        parts += [change.sub(by, text[end : fence.start()]), fence.group()]
        end = fence.end()
    return "".join([*parts, change.sub(by, text[end:])])


def link(target: str, page: Path, places: dict[Path, Path]) -> str:
    """Where a link of a page leads to on the site."""
    name, _, anchor = target.partition("#")
    file = (page.parent / name).resolve()
    tail = f"#{anchor}" if anchor else ""
    if file == ROOT / "README.md":
        file, tail = SOURCE / "README.md", ""
    if file in places:
        return os.path.relpath(places[file], places[page].parent) + tail
    if file.is_relative_to(SOURCE):
        return target
    kind = "tree" if file.is_dir() else "blob"
    return f"{REPOSITORY}/{kind}/main/{file.relative_to(ROOT)}{tail}"


def inlined(picture: Path, alternative: str) -> str:
    """A picture as a part of the page. Blank lines would end the block of HTML."""
    lines = [line.strip() for line in picture.read_text(encoding="utf-8").splitlines() if line.strip()]
    return f'<div class="figure" role="img" aria-label="{alternative}">\n' + "\n".join(lines) + "\n</div>"


def staged(page: Path, places: dict[Path, Path]) -> str:
    """The text of a page as the generator takes it."""
    text = page.read_text(encoding="utf-8")

    def picture(found: re.Match[str]) -> str:
        file = page.parent / found[2]
        return inlined(file, found[1]) if _MINE in file.read_text(encoding="utf-8") else found[0]

    text = outside_of_code(text, _PICTURE, picture)
    text = outside_of_code(text, _LINK, lambda found: found[1] + link(found[2], page, places) + found[3])
    return re.sub(
        r"^```mermaid\n(.*?)^```$",
        lambda found: sequence.drawn(found[1]),
        text,
        flags=re.DOTALL | re.MULTILINE,
    )


def stage() -> None:
    """Write the copy of which the site is built."""
    shutil.rmtree(STAGED, ignore_errors=True)
    places = pages()
    for page, place in places.items():
        target = STAGED / place
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(staged(page, places), encoding="utf-8")
    for other in SOURCE.rglob("*"):
        if other.is_file() and other.suffix != ".md":
            target = STAGED / other.relative_to(SOURCE)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(other, target)
    for style in (ROOT / "website").glob("*.css"):
        shutil.copyfile(style, STAGED / style.name)


def loaded_from_elsewhere(site: Path) -> list[str]:
    """Elements of the site's pages that a browser would load from another host."""
    found = []
    for page in sorted(site.rglob("*.html")):
        text = page.read_text(encoding="utf-8")
        mine = (each for each in _LOADED.finditer(text) if 'rel="canonical"' not in each[0])
        found += [f"{page.relative_to(site)}: {each[0]}" for each in mine]
        if 'class="mermaid"' in text:
            found.append(f"{page.relative_to(site)}: a diagram that a script of another host draws")
        if 'data-md-component="source"' in text:
            found.append(f"{page.relative_to(site)}: a link to a repository, which is asked for its stars")
    return found


def main() -> int:
    """Build the site; returns the exit status."""
    stage()
    shutil.rmtree(SITE, ignore_errors=True)
    command = [
        sys.executable,
        "-m",
        "zensical",
        "build",
        "--strict",
        "--clean",
        "-f",
        str(ROOT / "mkdocs.yml"),
    ]
    done = subprocess.run(
        command, cwd=ROOT, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode:
        said = _COLOUR.sub("", done.stdout).split("Traceback (most recent call last)")[0]
        print(f"{said}the site has errors: see above", file=sys.stderr)
        return 1
    if found := loaded_from_elsewhere(SITE):
        print("the site would load from other hosts:", *found, sep="\n  ", file=sys.stderr)
        return 1
    where = SITE.relative_to(ROOT)
    print(
        f"the site is in {where}: open {where}/index.html, or with search: python3 -m http.server -d {where}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
