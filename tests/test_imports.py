"""Importing costs what it must and no more, and arrows between packages run one way."""

from __future__ import annotations

import ast
import functools
import os
import site
import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config

PACKAGE = Path(__file__).parent.parent / "faaskeeper"


def loaded(statement: str, *options: str) -> set[str]:
    """Names of the modules that a statement loads in a fresh interpreter with some options."""
    script = f"import sys; before = set(sys.modules); {statement}; print(*(set(sys.modules) - before))"
    command = [sys.executable, *options, "-c", script]
    paths = [str(PACKAGE.parent), *site.getsitepackages()]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return set(done.stdout.split())


def test_importing_the_client_loads_nothing_heavy() -> None:
    statement = "from faaskeeper.client import FaaSKeeperClient"
    modules = loaded(statement)
    heavy = {"asyncio", "sqlite3", "socket", "ssl", "email", "click", "rich", "prompt_toolkit"}
    assert modules.isdisjoint(heavy | {"importlib.metadata", "concurrent.futures", "multiprocessing"})
    slow = {"dataclasses", "inspect", "logging", "pathlib", "traceback", "urllib.parse"}
    slow |= {"_ast", "ast", "base64", "copy", "hashlib", "hmac", "json", "struct", "zlib"}
    bare = loaded(statement, "-S")  # nothing that site loaded before hides them
    assert bare.isdisjoint(slow)
    assert len(bare) <= 70  # 60 with Python 3.11; most are the standard library's
    ours = {name for name in modules if name.startswith("faaskeeper.")}
    assert not any(name.startswith(("faaskeeper.cli.", "faaskeeper.providers")) for name in ours)
    session = {"calls", "engine", "reads", "rules"}
    assert ours.isdisjoint(f"faaskeeper.session.{name}" for name in session)
    service = {"codec", "deployment", "log", "records", "requests", "sessions", "view", "watches", "writer"}
    assert ours.isdisjoint(f"faaskeeper.core.{name}" for name in service)
    assert ours.isdisjoint({"faaskeeper.client.session", "faaskeeper.config", "faaskeeper.registry"})


def test_making_a_client_loads_no_service() -> None:
    made = "client.FaaSKeeperClient(config.Config.local('/x'))"
    modules = loaded(f"from faaskeeper import client, config; import faaskeeper.client.session; {made}")
    assert "faaskeeper.session.calls" in modules
    service = {"deployment", "view", "checkpoint", "tally", "writer", "distributor", "heartbeat", "sweeping"}
    assert modules.isdisjoint(f"faaskeeper.core.{name}" for name in service)
    assert not any(name.startswith("faaskeeper.providers") for name in modules)


def test_no_annotation_is_compiled_where_a_client_or_its_service_is_imported() -> None:
    modules = "faaskeeper.client.session, faaskeeper.client.batches, faaskeeper.providers.local.service"
    loaded(f"import typing; typing.ForwardRef = None; import {modules}")  # None() would raise


def test_a_one_shot_command_loads_neither_prompt_toolkit_nor_rich() -> None:
    modules = loaded("import faaskeeper.cli.main, faaskeeper.providers.local.service")
    assert modules.isdisjoint({"prompt_toolkit", "rich", "asyncio", "socket"})


def test_a_read_loads_neither_a_session_nor_a_service_and_starts_no_thread(tmp_path: Path) -> None:
    with FaaSKeeperClient(Config.local(tmp_path)) as client:
        client.create("/a", b"hello")
    command = f"fk(['-d', {str(tmp_path)!r}, 'get', '/a'], standalone_mode=False, obj=[])"
    threads = "import threading; threading.Thread.start = None"  # None() would raise
    modules = loaded(f"{threads}; from faaskeeper.cli.main import fk; {command}", "-S")
    assert "hello" in modules  # its output
    slow = {"asyncio", "base64", "hashlib", "hmac", "logging", "pathlib", "queue", "rich", "socket"}
    assert modules.isdisjoint(slow | {"dataclasses", "prompt_toolkit", "traceback", "urllib.parse", "zlib"})
    assert len(modules) <= 155  # 145 with Python 3.11: 59 are ours, 12 are click's
    ours = {name.removeprefix("faaskeeper.") for name in modules if name.startswith("faaskeeper.")}
    assert len(ours) <= 63
    service = {"deployment", "distributor", "heartbeat", "sweeping", "transactions", "view", "writer"}
    assert ours.isdisjoint(f"core.{name}" for name in service)
    assert ours.isdisjoint({"client.client", "session.engine", "providers.local.service"})
    commands = {each for each in ours if each.startswith("cli.commands.")}
    assert commands == {"cli.commands.get"}


def test_importing_the_package_does_no_work() -> None:
    assert {name for name in loaded("import faaskeeper") if "faaskeeper" in name} == {"faaskeeper"}


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def imports(path: Path) -> set[str]:
    """Modules that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def test_core_imports_the_standard_library_and_itself_only() -> None:
    for path in (PACKAGE / "core").rglob("*.py"):
        for module in imports(path):
            top = module.split(".")[0]
            assert module.startswith("faaskeeper.core") or top in sys.stdlib_module_names, (path, module)


def test_deployment_needs_no_library_of_the_command_line() -> None:
    for path in (PACKAGE / "deploy").rglob("*.py"):
        assert not {module.split(".")[0] for module in imports(path)} & {"click", "rich"}, path


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("aio", ("cli", "deploy", "gateway", "providers", "testing")),
        ("client", ("aio", "cli", "deploy", "providers", "recipes", "testing")),
        ("deploy", ("cli", "gateway", "recipes", "testing")),
        ("gateway", ("cli", "deploy", "recipes", "testing")),
        ("mirror", ("aio", "cli", "deploy", "gateway", "providers", "recipes", "testing")),
        ("providers", ("cli", "client", "deploy", "recipes", "testing")),
        ("recipes", ("aio", "cli", "deploy", "gateway", "providers", "testing")),
        ("session", ("cli", "aio", "client", "deploy", "gateway", "providers", "recipes", "testing")),
        ("recipes/rules", ("aio", "client")),
        ("zookeeper", ("aio", "cli", "deploy", "mirror", "providers", "recipes", "testing")),
        ("testing", ("cli",)),
        ("ui", ("aio", "gateway", "mirror", "testing")),
    ],
)
def test_no_arrow_runs_back_up(package: str, forbidden: tuple[str, ...]) -> None:
    for path in (PACKAGE / package).rglob("*.py"):
        for module in imports(path):
            parts = module.split(".")
            assert parts[0] != "faaskeeper" or parts[1:2] not in [[each] for each in forbidden], path


def test_the_page_uses_the_modules_of_the_command_line_and_none_of_its_commands() -> None:
    for path in (PACKAGE / "ui").rglob("*.py"):
        assert not any(module.startswith("faaskeeper.cli.commands") for module in imports(path)), path
    for path in PACKAGE.rglob("*.py"):
        used = any(module.startswith("faaskeeper.ui") for module in imports(path))
        assert not used or path.parent.name == "ui" or path == PACKAGE / "cli" / "commands" / "ui.py", path


def test_fk_loads_nothing_of_the_page_before_it_is_asked_for() -> None:
    listed = "import faaskeeper.cli.main as m; m.fk.list_commands(None)"
    one = "m.fk.get_command(None, 'ui')"
    for modules in (loaded(listed), loaded(f"{listed}; {one}")):
        assert modules.isdisjoint({"starlette", "uvicorn", "anyio", "faaskeeper.ui"})


def test_the_simulator_needs_neither_pytest_nor_the_suites() -> None:
    modules = loaded("import faaskeeper.testing.simulator.command")
    assert "pytest" not in modules
    assert not any(name.startswith("faaskeeper.testing.conformance") for name in modules)


# ---- circles and private members -----------------------------------------------------------------


def modules() -> dict[str, ast.Module]:
    """The package's modules by name, parsed. Templates are scaffolds, not code that is imported."""
    found: dict[str, ast.Module] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        if "templates" not in parts:
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = parsed(path)
    return found


def at_module_level(node: ast.AST) -> Iterator[ast.stmt]:
    """Statements that run at import, or would under ``TYPE_CHECKING``; not those in functions."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(child, ast.stmt):
            yield child
        yield from at_module_level(child)


def imported(tree: ast.Module, known: Collection[str]) -> set[str]:
    """Modules of the package that a module imports at its level."""
    found: set[str] = set()
    for node in at_module_level(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module
            assert not node.level, "imports are absolute"
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                found.add(submodule if submodule in known else node.module)
    return found & set(known)


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Sets of modules of which each reaches each other."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = list(graph[start])
        while waiting:
            module = waiting.pop()
            if module not in seen:
                seen.add(module)
                waiting.extend(graph[module])
        return seen

    reach = {module: reached(module) for module in graph}
    groups = {
        tuple(sorted(other for other in reach[module] if module in reach[other]))
        for module in graph
        if module in reach[module]
    }
    return [list(group) for group in sorted(groups)]


def test_a_circle_of_imports_is_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set(), "e": {"e"}}
    assert circles(graph) == [["a", "b", "c"], ["e"]]
    tree = ast.parse(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from p import b\n"
        "class A:\n    import p.c\n"
        "def late():\n    import p.d\n"
    )
    assert imported(tree, {"p", "p.b", "p.c", "p.d"}) == {"p.b", "p.c"}


def test_modules_of_a_package_do_not_import_each_other_in_circles() -> None:
    trees = modules()
    graph = {name: imported(tree, trees) for name, tree in trees.items()}
    found: list[list[str]] = []
    for package in sorted({name.split(".")[1] for name in graph if "." in name}):
        inside = {name for name in graph if name.split(".")[1:2] == [package]}
        for circle in circles({name: graph[name] & inside for name in inside}):
            found.append([name.removeprefix("faaskeeper.") for name in circle])
    assert found == []


PUBLIC = frozenset({"_asdict", "_exit", "_fields", "_make", "_replace"})
"""Underscored names that are documented, of named tuples and of ``os``."""


def private(name: str) -> bool:
    """Whether a name says that it is for its module only."""
    return name.startswith("_") and not name.endswith("__") and name not in PUBLIC


def defined(tree: ast.Module) -> set[str]:
    """Private names that a module defines: of itself, or of its classes."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and own(node.value):
            found.add(node.attr)
    return found


def own(value: ast.expr) -> bool:
    """Whether an attribute is of the object itself, or of what it inherits."""
    if isinstance(value, ast.Name):
        return value.id in ("self", "cls")
    return isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "super"


def foreign(tree: ast.Module) -> list[str]:
    """Names of other modules' private members that a module uses.

    A name that the module defines itself, too, is taken for its own.
    """
    found: set[str] = set()
    mine = defined(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and private(node.attr):
            if not own(node.value) and node.attr not in mine:
                found.add(node.attr)
        elif isinstance(node, ast.ImportFrom):
            found.update(alias.name for alias in node.names if private(alias.name))
    return sorted(found)


FOREIGN = {
    "providers.gcp.clients": ["_http"],
    "testing.emulation.faults": ["_endpoint"],
    "testing.simulator.served.loop": ["_set_running_loop"],
}
"""Uses of private members of libraries that offer no other way to the same."""


def test_a_use_of_another_module_s_private_member_is_found() -> None:
    tree = ast.parse(
        "from other import _helper, public\n"
        "import os\n"
        "class A:\n"
        "    def __init__(self, other):\n"
        "        self._mine = other._theirs\n"
        "    def same(self, other):\n"
        "        super()._inherited()\n"
        "        return self._mine == other._mine and other.row._replace() and os._exit\n"
    )
    assert foreign(tree) == ["_helper", "_theirs"]


def test_no_module_uses_private_members_of_another() -> None:
    found = {name: uses for name, tree in modules().items() if (uses := foreign(tree))}
    assert {name.removeprefix("faaskeeper."): uses for name, uses in found.items()} == FOREIGN


def test_rules_of_sessions_and_recipes_use_neither_threads_nor_event_loops() -> None:
    for package in ("session", "recipes/rules"):
        for path in (PACKAGE / package).glob("*.py"):
            assert imports(path).isdisjoint({"asyncio", "concurrent.futures", "queue", "threading"}), path
