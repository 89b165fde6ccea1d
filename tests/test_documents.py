"""The documents are true: programs run, links resolve, and what is named exists."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from faaskeeper.testing.patience import PATIENCE_S
from tests import snippets
from tests.gateway.servers import Server

ROOT = Path(__file__).parent.parent
FOLDERS = (".github", "benchmarks", "config", "deploy", "docs", "examples", "faaskeeper", "tests")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(page for name in FOLDERS for page in (ROOT / name).rglob("*.md"))])
CHANGES = ROOT / "CHANGELOG.md"
"""Names files that are gone by now."""
CURRENT = [document for document in DOCUMENTS if document != CHANGES]
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
COLUMNS = 100

_FENCE = re.compile(r"^ *```.*?^ *```$", re.DOTALL | re.MULTILINE)

TOUR = ROOT / "docs" / "tutorial" / "tour.md"
PROGRAMS: list[str] = re.findall(r"```python\n(.*?)```", TOUR.read_text(), re.DOTALL)


def ran(program: str, directory: Path, address: str = "") -> str:
    """What a program of the tour prints, with files in a directory, or a server, of the test's own."""
    script = program.replace("/tmp/first-program", str(directory)).replace("127.0.0.1:2181", address)
    assert script != program
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_first_program_of_the_tour_runs_twice(tmp_path: Path) -> None:
    for turn in range(2):
        said = ran(PROGRAMS[0], tmp_path)
        assert "changed: /greeting" in said
        assert f"/member-{turn + 1:010d}" in said or turn == 1


def test_the_program_of_the_tour_that_speaks_zookeeper_runs(tmp_path: Path) -> None:
    (program,) = (each for each in PROGRAMS if "KazooClient" in each)
    server = Server(tmp_path)
    assert ran(program, tmp_path, f"127.0.0.1:{server.port}") == "holding it\n"
    assert server.stop() == 0


def test_the_programs_for_asyncio_run(tmp_path: Path) -> None:
    program = next(each for each in PROGRAMS if "client.watch(" in each)
    for turn in range(2):
        said = ran(program, tmp_path)
        assert f"NodeCreated /tasks/task-{turn:010d}" in said
    page = (ROOT / "docs" / "asyncio.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    said = ran(program, tmp_path)
    assert "NodeCreated /jobs/job-0000000000" in said
    assert "Node('/jobs/job-0000000000')" in said


def test_every_other_program_of_the_tour_runs(tmp_path: Path) -> None:
    lock, lock_of_a_task, kinds = PROGRAMS[1:4]
    assert "holding it with the fencing token" in ran(lock, tmp_path)
    assert f"```python\n{lock}```" in (ROOT / "README.md").read_text()  # the only one there
    assert "holding it in a task with the fencing token" in ran(lock_of_a_task, tmp_path)
    for turn in range(2):
        said = ran(kinds, tmp_path)
        for part in ("NodeDataChanged", "/mine", "b'2'", f"{2 + turn}"):  # two threads print
            assert part in said


@pytest.mark.parametrize("cloud", ["aws", "gcp"])
def test_the_program_of_who_deploys_by_hand_packs_the_functions(tmp_path: Path, cloud: str) -> None:
    snippets.run(snippets.program(f"deploy.{cloud}.package"), tmp_path)
    with zipfile.ZipFile(tmp_path / "functions.zip") as packed:
        assert "faaskeeper/core/writer.py" in packed.namelist()


def test_the_key_s_policy_of_who_brings_one_is_a_statement() -> None:
    (statement,) = (
        json.loads(each)
        for each in re.findall(r"```json\n(.*?)```", snippets.OPERATIONS, re.DOTALL)
        if "kms:EncryptionContext" in each
    )
    assert statement["Effect"] == "Allow"
    ((condition, pattern),) = statement["Condition"]["ArnLike"].items()
    assert condition == "kms:EncryptionContext:aws:logs:arn"
    template = (ROOT / "deploy" / "aws" / "template.yaml").read_text()
    groups = re.findall(r"LogGroupName: !Sub (\S+)", template)
    assert groups
    prefix = pattern.split("log-group:")[1].removesuffix("*")
    assert all(each.replace("${AWS::StackName}", "NAME").startswith(prefix) for each in groups)


def prose(text: str) -> str:
    """A document without its blocks of code; lines keep their numbers."""
    return _FENCE.sub(lambda block: "\n" * block.group().count("\n"), text)


def anchors(text: str) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        anchor = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        numbered = (f"{anchor}-{number}" for number in range(1, len(found) + 1))
        found.add(anchor if anchor not in found else next(each for each in numbered if each not in found))
    return found


def broken_links(document: Path, text: str) -> list[str]:
    """Relative links of a document to files that do not exist, or to headings that their files lack."""
    broken = []
    for link in re.findall(r"\]\((?![a-z]+:)([^)\s]+)\)", re.sub(r"`[^`]*`", "", prose(text))):
        name, _, anchor = link.partition("#")
        target = document.parent / name if name else document
        if not target.exists() or (
            anchor and anchor not in anchors(text if not name else target.read_text())
        ):
            broken.append(link)
    return broken


def long_lines(text: str) -> list[str]:
    """Lines of prose beyond the limit that could be broken; tables are none, nor is a link by itself."""
    return [
        f"{number}: {line}"
        for number, line in enumerate(prose(text).splitlines(), 1)
        if len(line) > COLUMNS and not line.startswith("|") and not re.fullmatch(r"\W*\S+", line)
    ]


def missing_files(document: Path, text: str) -> list[str]:
    """Files and folders that a document names, in code spans or blocks of code, and that do not exist.

    Names begin at the root, or at the package where they stand in a code span.
    """
    package = "|".join(sorted(each.name for each in (ROOT / "faaskeeper").iterdir() if each.is_dir()))
    root = "|".join(name.replace(".", "[.]") for name in FOLDERS)
    spans = re.findall(rf"`((?:{package}|{root})/[\w./-]*)`", prose(text))
    blocks = re.findall(rf"(?<![\w./-])((?:{root})/[\w./-]*\w)", "".join(_FENCE.findall(text)))
    places = (ROOT, ROOT / "faaskeeper", document.parent)
    return [name for name in (*spans, *blocks) if not any((place / name).exists() for place in places)]


def name_of(document: Path) -> str:
    return str(document.relative_to(ROOT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_and_anchors_resolve(document: Path) -> None:
    assert broken_links(document, document.read_text()) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_lines_of_prose_keep_to_the_limit(document: Path) -> None:
    assert long_lines(document.read_text()) == []


@pytest.mark.parametrize("document", CURRENT, ids=name_of)
def test_files_that_documents_name_exist(document: Path) -> None:
    assert missing_files(document, document.read_text()) == []


def test_what_is_wrong_in_a_document_is_found() -> None:
    page = ROOT / "docs" / "README.md"
    assert broken_links(page, "[a](none.md) [b](README.md#none)\n[c](#here)\n## Here") == [
        "none.md",
        "README.md#none",
    ]
    assert len(long_lines("word " * 30 + "\n```\n" + "word " * 30 + "\n```\n| " + "word " * 30)) == 1
    assert missing_files(page, "`core/none.py` `core/log.py`\n```sh\ncat config/none.json\n```\n") == [
        "core/none.py",
        "config/none.json",
    ]
    assert anchors("# A `b`: c's\n## Same\n## Same\n```sh\n# none\n```\n") == {"a-b-cs", "same", "same-1"}


@pytest.mark.parametrize("record", DECISIONS, ids=name_of)
def test_decision_records_have_a_number_and_the_four_headings_with_text(record: Path) -> None:
    text = record.read_text()
    assert re.match(rf"# {record.name[:4]}[.] \S", text)
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    assert parts[1::2] == ["Context", "Decision", "Rejected options", "Consequences"]
    assert all(part.strip() for part in parts[2::2])


def test_decision_records_are_numbered_without_gaps_and_in_the_index() -> None:
    assert [int(record.name[:4]) for record in DECISIONS] == list(range(1, len(DECISIONS) + 1))
    index = (ROOT / "docs" / "decisions" / "README.md").read_text()
    for record in DECISIONS:
        title = record.read_text().splitlines()[0].removeprefix(f"# {record.name[:4]}. ")
        assert f"| [{record.name[:4]}]({record.name}) | {title} |" in index


def test_every_page_of_the_documentation_is_linked_to_from_another() -> None:
    pages = set((ROOT / "docs").rglob("*.md")) - {ROOT / "docs" / "README.md"}
    for document in CURRENT:
        for link in re.findall(r"\]\((?![a-z]+:)([^)#\s]+)", prose(document.read_text())):
            if (target := (document.parent / link).resolve()) != document:
                pages.discard(target)
    assert pages == set()


def test_targets_that_documents_type_are_in_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for document in CURRENT:
        for target in re.findall(r"(?:`|^)make (?:-s )?([a-z-]+)", document.read_text(), re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), (document, target)
