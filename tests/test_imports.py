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
    others = ("faaskeeper.cli.", "faaskeeper.deploy", "faaskeeper.providers")
    assert not any(name.startswith(others) for name in modules)
    assert modules.isdisjoint({"dataclasses", "inspect"})
    service = {"deployment", "view", "checkpoint", "tally", "writer", "distributor", "heartbeat", "sweeping"}
    assert modules.isdisjoint(f"faaskeeper.core.{name}" for name in service)


def test_a_one_shot_command_loads_neither_prompt_toolkit_nor_rich() -> None:
    modules = loaded("import faaskeeper.cli.main, faaskeeper.providers.local")
    assert modules.isdisjoint({"prompt_toolkit", "rich", "asyncio", "socket", "dataclasses"})


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


def test_deployment_needs_no_library_of_the_command_line() -> None:
    for path in (PACKAGE / "deploy").rglob("*.py"):
        assert not {module.split(".")[0] for module in imports(path)} & {"click", "rich"}, path


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("aio", ("cli", "deploy", "gateway", "providers", "recipes", "testing")),
        ("client", ("cli", "deploy", "providers", "recipes", "testing")),
        ("deploy", ("cli", "gateway", "recipes", "testing")),
        ("gateway", ("cli", "deploy", "recipes", "testing")),
        ("providers", ("cli", "client", "deploy", "recipes", "testing")),
        ("recipes", ("cli", "deploy", "providers", "testing")),
        ("session", ("cli", "client", "deploy", "gateway", "providers", "recipes", "testing")),
        ("testing", ("cli",)),
    ],
)
def test_no_arrow_runs_back_up(package: str, forbidden: tuple[str, ...]) -> None:
    for path in (PACKAGE / package).rglob("*.py"):
        for module in imports(path):
            parts = module.split(".")
            assert parts[0] != "faaskeeper" or parts[1:2] not in [[each] for each in forbidden], path
