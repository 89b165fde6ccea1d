"""Importing costs what it must and no more, and arrows between packages run one way."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "faaskeeper"


def loaded(statement: str) -> set[str]:
    """Names of the modules that a statement loads in a fresh interpreter."""
    script = f"import sys; before = set(sys.modules); {statement}; print(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_client_loads_nothing_heavy() -> None:
    modules = loaded("import faaskeeper.client")
    heavy = {"asyncio", "sqlite3", "socket", "ssl", "email", "click", "rich", "prompt_toolkit"}
    assert modules.isdisjoint(heavy | {"importlib.metadata", "concurrent.futures", "multiprocessing"})
    assert not any(name.startswith(("faaskeeper.providers", "faaskeeper.cli.")) for name in modules)


def test_a_one_shot_command_loads_neither_prompt_toolkit_nor_rich() -> None:
    modules = loaded("import faaskeeper.cli.main, faaskeeper.providers.local")
    assert modules.isdisjoint({"prompt_toolkit", "rich", "asyncio"})


def test_importing_the_package_does_no_work() -> None:
    assert {name for name in loaded("import faaskeeper") if "faaskeeper" in name} == {"faaskeeper"}


def imports(path: Path) -> set[str]:
    """Modules that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def test_core_imports_the_standard_library_and_itself_only() -> None:
    for path in (PACKAGE / "core").glob("*.py"):
        for module in imports(path):
            top = module.split(".")[0]
            assert module.startswith("faaskeeper.core") or top in sys.stdlib_module_names, (path, module)


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("client", ("aio", "cli", "gateway", "providers", "recipes", "testing")),
        ("aio", ("cli", "gateway", "providers", "testing")),
        ("providers", ("cli", "client", "recipes", "testing")),
        ("recipes", ("cli", "providers", "testing")),
        ("testing", ("cli",)),
    ],
)
def test_no_arrow_runs_back_up(package: str, forbidden: tuple[str, ...]) -> None:
    for path in (PACKAGE / package).rglob("*.py"):
        for module in imports(path):
            parts = module.split(".")
            assert parts[0] != "faaskeeper" or parts[1:2] not in [[each] for each in forbidden], path
