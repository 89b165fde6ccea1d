"""The Terraform files and the Deployment Manager template make the same, from one description."""

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
import pytest
import yaml

from faaskeeper.config import Config
from faaskeeper.core.log import RETENTION_MS
from faaskeeper.deploy.gcp.tools import camel
from faaskeeper.providers.gcp import functions
from faaskeeper.providers.gcp.service import GcpService, Names
from faaskeeper.providers.gcp.tables import TTL

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


@pytest.mark.parametrize("chosen", EVERY, ids=lambda each: " ".join(each.values()))
def test_every_configuration_expands_to_resources_that_name_only_each_other(chosen: dict[str, str]) -> None:
    made = expand(**chosen)
    names = [each["name"] for each in made["resources"]]
    assert len(set(names)) == len(names)
    for each in made["resources"]:
        assert set(each) <= {"name", "type", "action", "properties", "metadata", "accessControl"}
        assert ("type" in each) != ("action" in each)
        waits = each.get("metadata", {}).get("dependsOn", [])
        assert set(waits) <= set(names) - {each["name"]}
        assert set(re.findall(r"\$\(ref\.([^.]+)\.", json.dumps(each))) <= set(names)


def test_the_schema_refuses_what_the_template_does_not_know() -> None:
    for wrong in ({"deployment": "Fk"}, {"workerQueue": "sqs"}, {"unheard": 1}, {"heartbeatMinutes": 0}):
        with pytest.raises(jsonschema.ValidationError):
            expand(**wrong)
    assert [each["path"] for each in SCHEMA["imports"]] == ["faaskeeper.py", "../resources.json"]


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


def test_terraform_s_resources_have_the_attributes_that_the_provider_knows() -> None:
    def check(body: dict[str, Any], known: dict[str, Any], where: str) -> None:
        for name, value in body.items():
            if name in ("for_each", "depends_on", "dynamic"):
                continue
            assert name in known, f"{where}: {name}"
            inner = known[name]
            if isinstance(inner, dict):
                for each in value if isinstance(value, list) else [value]:
                    check(each, inner, f"{where}.{name}")
        missing = [name for name, each in known.items() if each == "required" and name not in body]
        assert not missing, f"{where}: {missing}"

    kinds = set()
    for type_, label, body in blocks("resource"):
        kinds.add(type_)
        check(body, KNOWN[type_], f"{type_}.{label}")
    assert kinds == set(KNOWN)


def test_terraform_s_files_are_formatted() -> None:
    command = shutil.which("terraform") or shutil.which("tofu")
    if command is None:
        pytest.skip("neither terraform nor tofu is here: Terraform's own look at the files is left out")
    done = subprocess.run(
        [command, "fmt", "-check", "-recursive", str(HERE / "terraform")],
        capture_output=True, text=True, check=False, env={**os.environ, "TF_CLI_CONFIG_FILE": os.devnull},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("channel", ["tcp", "pubsub"])
def test_both_ways_make_the_same_resources_with_the_same_names_and_rights(channel: str) -> None:
    chosen = {"client_channel": channel}
    made = expand(**chosen)

    def named(body: dict[str, Any], each: dict[str, Any]) -> str:
        return text(body["name"], each)

    def last(resource: dict[str, Any], key: str = "name") -> str:
        return str(resource["properties"][key]).rsplit("/", 1)[-1]

    for kind, mine, theirs in (
        ("google_firestore_database", named,
         {last(each, "databaseId") for each in of(made, ":projects.databases")}),
        ("google_pubsub_topic", named, {last(each) for each in of(made, "projects.topics")}),
        ("google_pubsub_subscription", named, {last(each) for each in of(made, "projects.subscriptions")}),
        ("google_storage_bucket", named, {last(each) for each in of(made, ":buckets")}),
        ("google_cloudfunctions2_function", named,
         {last(each, "functionId") for each in of(made, "locations.functions")}),
        ("google_cloud_scheduler_job", named, {last(each) for each in of(made, "locations.jobs")}),
        ("google_service_account", lambda body, each: text(body["account_id"], each),
         {last(each, "accountId") for each in of(made, "serviceAccount")}),
        ("google_project_service", lambda body, each: text(body["service"], each),
         {last(each, "serviceName") for each in of(made, "enableService")}),
        ("google_firestore_field", lambda body, each: each["value"]["property"],
         {last(each) for each in of(made, "fields.patch")}),
    ):  # fmt: skip
        found = terraform(kind, chosen, mine)
        assert found, kind
        assert found == theirs, kind

    def granted(on: str) -> set[tuple[str, str, str]]:
        return {
            (each["account"], each["name"], each["role"]) for each in DESCRIBED["grants"] if each["on"] == on
        }

    def account(member: str) -> str:
        return member.removeprefix(f"serviceAccount:{NAME}-").split("@")[0]

    def bound(resource: dict[str, Any]) -> set[tuple[str, str]]:
        policy = resource.get("accessControl", {}).get("gcpIamPolicy") or resource["properties"]["policy"]
        return {(account(who), each["role"]) for each in policy["bindings"] for who in each["members"]}

    topics = {
        (who, last(each).removeprefix(f"{NAME}-"), role)
        for each in of(made, "projects.topics") for who, role in bound(each)
        if not who.startswith("serviceAccount:service-42")
    }  # fmt: skip
    assert topics == granted("topic")
    assert {(who, "data", role) for each in of(made, ":buckets") for who, role in bound(each)} == granted(
        "bucket"
    )
    invokers = {
        (who, last(each, "resource").removeprefix(f"{NAME}-"), role)
        for each in of(made, "setIamPolicy") for who, role in bound(each)
    }  # fmt: skip
    assert invokers == granted("function")
    rights = of(made, "iamMemberBinding")
    databases = {
        (account(each["properties"]["member"]), each["properties"]["condition"]["title"].split()[1],
         each["properties"]["role"])
        for each in rights if "condition" in each["properties"]
    }  # fmt: skip
    assert databases == granted("database")
    listeners = [each for each in rights if "condition" not in each["properties"]]
    assert len(listeners) == (len(granted("project")) if channel == "pubsub" else 0)

    def grant(body: dict[str, Any], each: dict[str, Any]) -> tuple[str, ...]:
        value = each.get("value", {})  # Pub/Sub's own right to dead letters is no grant of the description
        return tuple(str(value.get(key, "")) for key in ("account", "name", "role"))

    for kind, on in (
        ("google_pubsub_topic_iam_member", "topic"),
        ("google_storage_bucket_iam_member", "bucket"),
        ("google_cloud_run_v2_service_iam_member", "function"),
    ):
        found = terraform(kind, chosen, grant)
        assert found - {("", "", "")} == granted(on)


def test_both_ways_give_the_functions_the_same_configuration() -> None:
    command = shutil.which("terraform") or shutil.which("tofu")
    if command is None:
        pytest.skip("neither terraform nor tofu is here: what it makes of the expressions is left out")
    for chosen in (EVERY[0], EVERY[-1]):
        told = evaluated(command, "local.configuration", chosen)
        writer = of(expand(**chosen), "locations.functions")[0]
        environment = writer["properties"]["serviceConfig"]["environmentVariables"]
        assert json.loads(told) == json.loads(environment["FAASKEEPER_CONFIG"])


def evaluated(command: str, expression: str, chosen: dict[str, str]) -> Any:
    """What an expression is, by Terraform's own rules, without a provider."""
    with tempfile.TemporaryDirectory() as directory:
        shutil.copy(HERE / "resources.json", directory)
        inner = Path(directory) / "terraform"
        inner.mkdir()
        for name in ("locals.tf", "variables.tf"):
            shutil.copy(HERE / "terraform" / name, inner)
        variables = {"project": PROJECT, "deployment": NAME, "code_bucket": "b", "code_object": "o", **chosen}
        told = [f"-var={key}={each}" for key, each in variables.items()]
        done = subprocess.run(
            [command, f"-chdir={inner}", "console", *told],
            input=f"jsonencode({expression})\n", capture_output=True, text=True, check=False,
            env={**os.environ, "TF_CLI_CONFIG_FILE": os.devnull},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(json.loads(done.stdout))


# ---- what the code assumes ------------------------------------------------------------------------


@pytest.mark.parametrize("chosen", EVERY, ids=lambda each: " ".join(each.values()))
def test_the_functions_understand_their_configuration(chosen: dict[str, str]) -> None:
    for each in of(expand(**chosen), "locations.functions"):
        environment = each["properties"]["serviceConfig"]["environmentVariables"]
        config = Config.deserialize(json.loads(environment["FAASKEEPER_CONFIG"]))
        service = GcpService(config)
        assert (service.watch_queue() is None) == (chosen["watch_function"] == "inline")
        assert config.user_storage.value == chosen["user_storage"]
        assert each["properties"]["buildConfig"]["entryPoint"] in dir(functions)


def test_names_limits_and_times_are_those_that_the_code_goes_by() -> None:
    names = Names(NAME)
    databases = {key: f"{NAME}{each['suffix']}" for key, each in DESCRIBED["databases"].items()}
    assert {names.database(table) for table in ("log", "checkpoint", "records", "heartbeat")} == {
        databases["main"]
    }
    assert {names.database(table) for table in ("lease", "watch")} == {databases["sessions"]}
    assert names.database("settings") == databases["private"]
    (bucket,) = of(expand(), ":buckets")
    assert names.bucket(PROJECT) == bucket["properties"]["name"]
    (ttl,) = DESCRIBED["ttl"].values()
    assert (ttl["kind"], ttl["property"], names.database(ttl["kind"])) == (
        "log",
        TTL,
        databases[ttl["database"]],
    )
    assert {names.topic(each) for each in DESCRIBED["topics"]} >= {
        names.topic(each) for each in ("worker", "distributor", "watch", "clients", "dead")
    }
    push = DESCRIBED["push"]
    for each in DESCRIBED["pushes"].values():
        # a request that is begun ends before Pub/Sub takes it for lost, and has time for the longest call
        timeout = DESCRIBED["functions"][each["function"]]["timeout_seconds"]
        assert 2 * functions.RESERVE_MS < timeout * 1000 < push["ack_seconds"] * 1000
    # what waits is given up before the log is trimmed
    assert push["attempts"] * (push["most_backoff_seconds"] + push["ack_seconds"]) * 1000 < RETENTION_MS / 2
    assert push["retention_seconds"] * 1000 <= RETENTION_MS
    assert DESCRIBED["functions"]["writer"]["instances"] == 1


def test_no_account_has_more_than_its_work_needs() -> None:
    roles = {each["role"] for each in DESCRIBED["grants"]}
    assert not [each for each in roles if re.search(r"owner|editor|admin", each, re.IGNORECASE)]
    on: dict[str, dict[str, str]] = {}
    for each in DESCRIBED["grants"]:
        if each["on"] == "database":
            on.setdefault(each["account"], {})[each["name"]] = each["role"].removeprefix("roles/datastore.")
    assert on == {
        "writer": {"main": "user", "sessions": "user", "private": "viewer"},
        "distributor": {"main": "user", "sessions": "user", "private": "viewer"},
        "watch": {"main": "viewer", "sessions": "user", "private": "viewer"},
        "heartbeat": {"main": "user", "sessions": "user", "private": "user"},
        "client": {"main": "viewer", "sessions": "user"},
        "direct": {"main": "user", "sessions": "user", "private": "viewer"},
    }
    assert {each["account"] for each in DESCRIBED["grants"]} == set(DESCRIBED["accounts"])
    assert set(DESCRIBED["functions"]) <= set(DESCRIBED["accounts"])
