"""The reference has everything that the code has: keys, variables, exceptions, metrics, requests."""

from __future__ import annotations

import ast
import asyncio
import importlib
import re
import threading
from collections.abc import Iterator
from pathlib import Path

from faaskeeper import config, exceptions, recipes, registry
from faaskeeper.aio import recipes as aio_recipes
from faaskeeper.cli.errors import STATUSES
from faaskeeper.core.tally import Tally
from faaskeeper.deploy.aws.parameters import _OWN
from faaskeeper.deploy.aws.template import template
from faaskeeper.deploy.gcp.deployment import _OTHER_KEYS, _VARIABLES
from faaskeeper.gateway import protocol
from faaskeeper.gateway.memory import MemoryLevels
from faaskeeper.gateway.metrics import Levels, Metrics, _Collector
from faaskeeper.providers.aws.service import SECTION as AWS
from faaskeeper.providers.gcp.service import SECTION as GCP

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "docs" / "reference"
PACKAGE = ROOT / "faaskeeper"


def spans(name: str) -> set[str]:
    """Everything that stands as code on a page of the reference."""
    text = re.sub(r"^```.*?^```$", "", (REFERENCE / name).read_text(), flags=re.DOTALL | re.MULTILINE)
    return set(re.findall(r"`([^`\n]+)`", text))


def calls(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """What is called with a constant string first, and that string: ``section.get("key")``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args:
            called, first = node.func, node.args[0]
        elif isinstance(node, ast.Subscript):
            called, first = node.value, node.slice
        else:
            continue
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            yield ast.unparse(called), first.value


def read_keys() -> set[str]:
    """The keys of the provider's section that any module reads, with the section."""
    found = set()
    for file in PACKAGE.rglob("*.py"):
        for called, key in calls(ast.parse(file.read_text())):
            if re.fullmatch(r"(config|self\.config|cfg)\.provider_config(\.get)?", called):
                section = next((name for name in ("aws", "gcp", "local") if name in file.parts), "")
                found.add(f"{section}.{key}")
    return found


def variables() -> set[str]:
    """The variables of the environment that the package reads."""
    found: set[str] = set()
    for file in PACKAGE.rglob("*.py"):
        if "testing" in file.parts:
            continue
        text = file.read_text()
        found |= set(re.findall(r"environ(?:ment)?\.get\(\s*\"(\w+)\"", text))
        found |= set(re.findall(r"environ(?:ment)?\[\"(\w+)\"\]", text))
        found |= set(re.findall(r"\"([A-Z][A-Z_]+)\" not in os\.environ", text))
        found |= set(re.findall(r"envvar=\"(\w+)\"", text))
        found |= set(re.findall(r"\"(FK_[A-Z_]+)\"", text))
    return found


def test_each_key_of_a_configuration_is_explained() -> None:
    page = spans("configuration.md")
    for key in config._KNOWN:
        assert key in page, key
    for name, section in (("aws", AWS), ("gcp", GCP)):
        for key in section:
            assert f"{name}.{key}" in page, key
    read = read_keys()
    assert {"local.cache-bytes", "local.history-days"} <= read
    for key in read:
        assert key.startswith(".") or key in page, key
    assert "zookeeper.address" in page
    for key in ("benchmarking", "benchmarking-frequency"):
        assert f"configuration.{key}" in page
    for key in (template().parameters.keys() - _OWN.keys()) | {*_VARIABLES, *_OTHER_KEYS}:
        assert key in page, key


def test_values_of_a_configuration_that_the_page_names_exist() -> None:
    rows = re.findall(
        r"^\| `([a-z-]+)` \| (.*?) \|", (REFERENCE / "configuration.md").read_text(), re.MULTILINE
    )
    values = dict(rows)
    for name in ("local", "aws", "gcp"):
        spec = registry.PROVIDERS[name]
        for key, known in (
            ("worker-queue", spec.worker_queues),
            ("distributor-queue", spec.distributor_queues),
            ("client-channel", spec.client_channels),
        ):
            assert set(known) <= set(re.findall(r"`([a-z-]+)`", values[key])), key
    assert set(re.findall(r"`([a-z-]+)`", values["user-storage"])) == {
        each.value for each in config.StorageType
    }


def test_each_variable_of_the_environment_is_explained() -> None:
    found = variables()
    assert {"FK_AUTH", "FK_CONFIG", "FK_UI_TOKEN", "XDG_DATA_HOME", "FAASKEEPER_CONFIG", "EDITOR"} <= found
    page = (REFERENCE / "configuration.md").read_text()
    for name in found:
        assert f"`{name}`" in page, name


def test_each_public_exception_is_explained_and_each_explained_one_exists() -> None:
    public = {
        name
        for module in (exceptions, config, recipes)
        for name, each in vars(module).items()
        if isinstance(each, type) and issubclass(each, exceptions.FaaSKeeperException)
    }
    assert {"ConfigurationException", "LockLost", "TimeoutException"} <= public
    named = {span for span in spans("errors.md") if re.fullmatch(r"[A-Z]\w+(Exception|Error|Lost)", span)}
    assert named == public


def test_exit_statuses_are_those_of_fk() -> None:
    text = (REFERENCE / "errors.md").read_text()
    for kind, status in STATUSES[:-1]:
        (row,) = re.findall(rf"^\| {status} \| (.*) \|$", text, re.MULTILINE)
        assert f"`{kind.__name__}`" in row


def test_error_numbers_are_those_of_the_server() -> None:
    text = (REFERENCE / "errors.md").read_text()
    listed = {int(number) for number in re.findall(r"^\| (-\d+) \|", text, re.MULTILINE)}
    own = {protocol.MARSHALLING_ERROR, protocol.NO_WATCHER, protocol.AUTH_FAILED, protocol.RECONFIG_DISABLED}
    assert listed == (set(protocol.ERRORS.values()) - {0}) | own


def test_each_metric_is_explained_and_each_explained_one_is_exported() -> None:
    metrics = Metrics()
    metrics.answered(protocol.CREATE, 0, 0.0)

    async def levels() -> Levels:
        return Levels(1, 1, 1, 1, 1, 1, 1, True, Tally(1, 1, 1), MemoryLevels(0.1, 1, 1, 1, 1))

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        families = list(_Collector(metrics, levels, loop).collect())
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
    exported = {each.name + ("_total" if each.type == "counter" else "") for each in families}
    assert {span for span in spans("metrics.md") if re.fullmatch(r"faaskeeper_\w+", span)} == exported


def test_each_request_of_the_protocol_is_in_the_table() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (-?\d+) \|", (REFERENCE / "wire.md").read_text(), re.MULTILINE)
    assert {int(number): name for name, number in rows} == protocol.NAMES


def test_each_recipe_has_a_row_an_example_and_its_interface() -> None:
    text = (REFERENCE / "recipes.md").read_text()
    table = text[: text.index("\n## ")]
    kinds = [name for name in recipes.__all__ if name != "LockLost"]
    assert set(aio_recipes.__all__) == set(recipes.__all__)
    for name in kinds:
        assert re.search(rf"^\| \[[^]]*\b{name}\b[^]]*\]", table, re.MULTILINE), name
        assert f"::: faaskeeper.recipes.{name}\n" in text, name
        assert re.search(rf"^ *(with|print|\w+ =|\w+\().*\b{name}\(|^    {name}\(", text, re.MULTILINE), name


def test_what_the_reference_generates_exists() -> None:
    for page in REFERENCE.glob("*.md"):
        for name in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE):
            module, _, kind = name.rpartition(".")
            assert isinstance(getattr(importlib.import_module(module), kind), type), name


def test_the_costs_of_the_comparison_are_those_that_its_program_prints() -> None:
    page = (ROOT / "docs" / "comparison.md").read_text()
    (printed,) = re.findall(r"^```text\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    rows = re.findall(r"^\| [\d.]+ M reads, .*$", page, re.MULTILINE)
    assert len(rows) == 3
    cells = {cell for row in rows for cell in re.findall(r"\d+\.\d\d", row)}
    assert cells == set(re.findall(r"\$(\d+\.\d\d)", printed))


def test_the_latencies_of_the_comparison_are_those_of_the_performance_page() -> None:
    page = (ROOT / "docs" / "comparison.md").read_text()
    aws = (ROOT / "docs" / "performance.md").read_text().split("## AWS")[1]
    for name, row in (
        ("FaaSKeeper, AWS, default", "hybrid (default)"),
        ("FaaSKeeper, AWS, answers by TCP", "hybrid, tcp"),
        ("FaaSKeeper, AWS, direct", "key-value, direct"),
    ):
        (set_ms, get_ms) = re.findall(
            rf"^\| {re.escape(name)} \| ([\d.]+) ms \| ([\d.]+) ms", page, re.MULTILINE
        )[0]
        cells = re.findall(rf"^\| {re.escape(row)} \|(.*)\|", aws, re.MULTILINE)[0].split("|")
        modelled = [float(cell.split("/")[0]) for cell in (cells[0], cells[3])]
        assert float(set_ms) in (modelled[0], round(modelled[0]))
        assert float(get_ms) == modelled[1]
