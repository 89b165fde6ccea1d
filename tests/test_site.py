"""What makes the site of the pages: links, pictures, and that nothing is loaded from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from website import build, recording, sequence
from website.links import links

ROOT = Path(__file__).parent.parent
PLACES = build.pages()
PAGE = ROOT / "docs" / "howto" / "tls.md"


@pytest.mark.parametrize(
    ("target", "there"),
    [
        ("../commands.md#fk-shell", "../commands.md#fk-shell"),
        ("../README.md", "../index.md"),
        ("../decisions/README.md", "../decisions/index.md"),
        ("../../README.md#quick-start", "../index.md"),
        ("../../examples/flags/README.md", "../examples/flags.md"),
        ("../../CHANGELOG.md", "../changelog.md"),
        (
            "../../deploy/systemd/faaskeeper.service",
            f"{build.REPOSITORY}/blob/main/deploy/systemd/faaskeeper.service",
        ),
        ("../../deploy/gcp", f"{build.REPOSITORY}/tree/main/deploy/gcp"),
        ("../aws.svg", "../aws.svg"),
    ],
)
def test_a_link_leads_to_a_page_of_the_site_or_to_the_repository(target: str, there: str) -> None:
    assert build.link(target, PAGE, PLACES) == there


def test_links_in_code_stay_as_they_are() -> None:
    text = "[a](../../deploy/gcp)\n\n```text\n[a](../../deploy/gcp)\n```\n"
    changed = build.outside_of_code(text, build._LINK, lambda found: "[x](y)")
    assert changed.count("../../deploy/gcp") == 1


def test_every_page_is_staged_and_has_a_place_in_the_navigation() -> None:
    navigation = re.findall(r": ([\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert len(set(navigation)) == len(navigation)
    shown = {str(place) for place in PLACES.values() if not re.fullmatch(r"decisions/\d{4}-.*", str(place))}
    assert set(navigation) == shown
    for page in PLACES:
        assert build.staged(page, PLACES).strip()


def test_pictures_made_for_the_site_stand_in_the_page() -> None:
    home = build.staged(ROOT / "docs" / "README.md", PLACES)
    assert '<svg xmlns="http://www.w3.org/2000/svg" class="figure idea"' in home
    inside = home[home.index('<div class="figure"') : home.index("</div>")]
    assert "\n\n" not in inside


def test_the_sequence_diagrams_are_drawn() -> None:
    page = build.staged(ROOT / "docs" / "architecture.md", PLACES)
    assert "```mermaid" not in page
    assert page.count('class="figure sequence"') == 2
    assert "put entry if its key is absent</text>" in page


def test_a_line_that_no_diagram_has_is_named() -> None:
    with pytest.raises(ValueError, match="unknown in a sequence diagram: 'A ~~ B'"):
        sequence.drawn("sequenceDiagram\nparticipant A as a\nA ~~ B")
    with pytest.raises(ValueError, match="no sequence diagram: 'graph TD'"):
        sequence.drawn("graph TD\nA --> B")


def test_what_a_browser_would_load_from_elsewhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "good.html").write_text(
        '<a href="https://x.org">x</a><script src="a.js"></script>'
        '<link rel="canonical" href="https://x.org/">'
    )
    assert build.loaded_from_elsewhere(tmp_path) == []
    for number, bad in enumerate(
        (
            '<script src="https://unpkg.com/x"></script>',
            '<link rel="stylesheet" href="//fonts.example/x.css">',
            '<img alt="" src="http://x.org/a.png">',
            '<pre class="mermaid">x</pre>',
            '<a href="https://github.com/a/b" data-md-component="source">b</a>',
        )
    ):
        (tmp_path / "bad.html").write_text(bad)
        assert len(build.loaded_from_elsewhere(tmp_path)) == 1, number


def test_links_to_other_sites_are_found_with_their_pages() -> None:
    found = links()
    assert Path("docs/comparison.md") in found["https://etcd.io/docs/v3.5/op-guide/hardware/"]
    assert not any("localhost" in address or "127.0.0.1" in address for address in found)


def test_the_picture_of_the_readme_says_what_a_session_prints() -> None:
    """Numbers of transactions may differ; ``make recording`` draws it anew."""

    def steady(line: str) -> str:
        return re.sub(r"0x\w+|token \d+", "N", line)

    session = recording.ran()
    picture = recording.PICTURE.read_text()
    now = recording.drawn(session)
    assert [steady(line) for line in recording.read(picture)] == [
        steady(line) for line in recording.read(now)
    ]
    assert [status for _, _, status in session] == [0, 0, 0, 6, 0, 0]
    assert "docs/shell.svg" in (ROOT / "README.md").read_text().split("\n## ")[0]
