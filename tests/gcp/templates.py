"""Google Cloud's templates as data: what each way of deploying makes of the description."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hcl2
import jsonschema
import yaml

from faaskeeper.deploy.gcp.tools import camel
from tests.backends import needs

HERE = Path(__file__).parent.parent.parent / "deploy" / "gcp"
DESCRIBED: dict[str, Any] = json.loads((HERE / "resources.json").read_text())
SCHEMA: dict[str, Any] = yaml.safe_load((HERE / "deployment_manager" / "faaskeeper.py.schema").read_text())
KNOWN: dict[str, Any] = json.loads(
    (Path(__file__).parent.parent / "data" / "terraform_google.json").read_text()
)
PROJECT, NAME, REGION = "my-project", "fk-dev", "us-central1"
CHOICES = {
    "user_storage": ("hybrid", "key-value", "persistent"),
    "worker_queue": ("pubsub", "pubsub-ordered"),
    "distributor_queue": ("inline", "pubsub", "pubsub-ordered"),
    "client_channel": ("pubsub", "tcp"),
    "watch_function": ("own", "inline"),
}
EVERY = [dict(zip(CHOICES, each, strict=True)) for each in itertools.product(*CHOICES.values())]


# ---- Deployment Manager -------------------------------------------------------------------------


def expand(**chosen: Any) -> dict[str, Any]:
    """What the template makes, with properties that are valid by its schema."""
    properties = {"deployment": NAME, "codeBucket": "code", "codeObject": "functions.zip"}
    properties.update({camel(key): value for key, value in chosen.items()})
    jsonschema.validate(properties, SCHEMA)
    defaults = {key: each["default"] for key, each in SCHEMA["properties"].items() if "default" in each}
    found = importlib.util.spec_from_file_location("template", HERE / "deployment_manager" / "faaskeeper.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    context = SimpleNamespace(
        properties={**defaults, **properties},
        imports={"resources.json": (HERE / "resources.json").read_text()},
        env={"project": PROJECT, "project_number": 42, "deployment": NAME, "name": "faaskeeper"},
    )
    made: dict[str, Any] = module.GenerateConfig(context)
    json.dumps(made)
    return made


def of(made: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """Resources and actions of a type, by how it ends."""
    return [each for each in made["resources"] if each.get("type", each.get("action", "")).endswith(kind)]


def absences(made: dict[str, Any]) -> list[str]:
    """How long what does not come is waited for."""
    return [
        condition["conditionAbsent"]["duration"]
        for each in of(made, "alertPolicies")
        for condition in each["properties"]["conditions"]
        if "conditionAbsent" in condition
    ]


# ---- Terraform ----------------------------------------------------------------------------------


def plain(told: Any) -> Any:
    """What the parser read, without the quotes that it may leave."""
    if isinstance(told, dict):
        return {key.strip('"'): plain(each) for key, each in told.items() if key != "__is_block__"}
    if isinstance(told, list):
        return [plain(each) for each in told]
    return told.strip('"') if isinstance(told, str) else told


def blocks(kind: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path in sorted((HERE / "terraform").glob("*.tf")):
        for block in plain(hcl2.loads(path.read_text())).get(kind, []):
            if kind == "resource":
                ((type_, named),) = block.items()
                ((label, body),) = named.items()
                yield type_, label, body
            else:
                ((label, body),) = block.items()
                yield kind, label, body


def instances(body: dict[str, Any], chosen: dict[str, str]) -> list[dict[str, Any]]:
    """Key and value of each that ``for_each`` makes; only forms that these files use."""
    each = body.get("for_each")
    if each is None:
        return [{}]
    each = each.removeprefix("${").removesuffix("}").strip()
    listed = re.fullmatch(r"toset\(local\.resources\.(\w+)\)", each)
    if listed:
        return [{"key": name} for name in DESCRIBED[listed[1]]]
    mapped = re.fullmatch(r"local\.resources\.(\w+)", each)
    if mapped:
        return [{"key": key, "value": value} for key, value in DESCRIBED[mapped[1]].items()]
    if each in (
        "{ for key, each in local.resources.alerts : key => each if var.monitoring }",
        "{for key, each in local.resources.alerts : key => each if var.monitoring}",
    ):
        return [{"key": key, "value": value} for key, value in DESCRIBED["alerts"].items()]
    granted = re.fullmatch(
        r"\{\s*for key, each in local\.grants : key => each if (?:\()?each\.on == \"(\w+)\""
        r"( && var\.client_channel == \"pubsub\")?(?:\))?\s*\}?", each
    )  # fmt: skip
    assert granted, each
    if granted[2] and chosen["client_channel"] != "pubsub":
        return []
    return [{"value": grant} for grant in DESCRIBED["grants"] if grant["on"] == granted[1]]


def text(template: str, each: dict[str, Any]) -> str:
    """A template with variables, and with what ``each`` and references stand for by their names."""
    found = template
    for name, value in (("var.deployment", NAME), ("var.project", PROJECT), ("var.region", REGION)):
        found = found.replace(f"${{{name}}}", value)
    for name in re.findall(r"\$\{each\.value\.(\w+)\}", found):
        found = found.replace(f"${{each.value.{name}}}", str(each["value"][name]))
    return found.replace("${each.key}", str(each.get("key", "")))


def terraform(
    kind: str, chosen: dict[str, str], of_each: Callable[[dict[str, Any], dict[str, Any]], Any]
) -> set[Any]:
    return {
        of_each(body, each)
        for type_, _, body in blocks("resource")
        if type_ == kind
        for each in instances(body, chosen)
    }


def evaluated(command: str, expression: str, chosen: dict[str, str]) -> Any:
    """What an expression is, by Terraform's own rules, without a provider."""
    with tempfile.TemporaryDirectory() as directory:
        shutil.copy(HERE / "resources.json", directory)
        inner = Path(directory) / "terraform"
        inner.mkdir()
        for name in ("locals.tf", "variables.tf"):
            shutil.copy(HERE / "terraform" / name, inner)
        variables = {
            "project": PROJECT,
            "deployment": NAME,
            "code_bucket": "b",
            "code_object": "functions",
            **chosen,
        }
        told = [f"-var={key}={each}" for key, each in variables.items()]
        done = subprocess.run(
            [command, f"-chdir={inner}", "console", *told],
            input=f"jsonencode({expression})\n", capture_output=True, text=True, check=False,
            env={**os.environ, "TF_CLI_CONFIG_FILE": os.devnull},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(json.loads(done.stdout))


def terraform_command() -> str:
    """Terraform itself, or OpenTofu. No registry of packages has either: the workflow sets Terraform up."""
    command = shutil.which("terraform") or shutil.which("tofu")
    needs("Terraform", command, "its own releases, or OpenTofu's, are to be installed")
    return str(command)
