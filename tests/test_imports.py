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


def graph(package: Path) -> dict[str, set[str]]:
    """Modules of a package, and which of them each imports, for types only too."""
    files = {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path
        for path in package.rglob("*.py")
    }
    found: dict[str, set[str]] = {}
    for name, path in files.items():
        names: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        found[name] = {each for each in names if each in files}
    return found


def test_modules_of_testing_import_each_other_in_one_direction() -> None:
    left = graph(PACKAGE / "testing")
    assert len(left) > 20
    while free := {name for name, needed in left.items() if not needed}:
        left = {name: needed - free for name, needed in left.items() if name not in free}
    assert not left, "these modules import each other in a circle, or what does"


def test_the_simulator_needs_neither_pytest_nor_the_suites() -> None:
    modules = loaded("import faaskeeper.testing.simulator.command")
    assert "pytest" not in modules
    assert not any(name.startswith("faaskeeper.testing.conformance") for name in modules)


def test_only_one_module_of_the_simulator_uses_private_members_of_others() -> None:
    for path in (PACKAGE / "testing" / "simulator").glob("*.py"):
        if path.name == "inside.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.endswith("__"):
                own = isinstance(node.value, ast.Name) and node.value.id in ("self", "other")
                assert own or node.attr == "_replace", f"{path.name}:{node.lineno} uses {node.attr}"
