"""The Terraform files and the Deployment Manager template make the same, from one description."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from faaskeeper.config import Config
from faaskeeper.deploy.gcp import deployment
from tests.gcp.templates import (
    DESCRIBED,
    EVERY,
    HERE,
    KNOWN,
    NAME,
    PROJECT,
    SCHEMA,
    absences,
    blocks,
    evaluated,
    expand,
    of,
    terraform,
    terraform_command,
    text,
)


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


def test_terraform_s_resources_have_the_attributes_that_the_provider_knows() -> None:
    def check(body: dict[str, Any], known: dict[str, Any], where: str) -> None:
        for name, value in body.items():
            if name in ("count", "for_each", "depends_on", "lifecycle"):
                continue
            if name == "dynamic":
                for block in value:
                    ((inner_name, dynamic),) = block.items()
                    assert inner_name in known, f"{where}: {inner_name}"
                    for content in dynamic["content"]:
                        check(content, known[inner_name], f"{where}.{inner_name}")
                continue
            assert name in known, f"{where}: {name}"
            inner = known[name]
            if isinstance(inner, dict):
                for each in value if isinstance(value, list) else [value]:
                    check(each, inner, f"{where}.{name}")
        given = {*body, *(name for block in body.get("dynamic", ()) for name in block)}
        missing = [name for name, each in known.items() if each == "required" and name not in given]
        assert not missing, f"{where}: {missing}"

    kinds = set()
    for type_, label, body in blocks("resource"):
        kinds.add(type_)
        check(body, KNOWN[type_], f"{type_}.{label}")
    assert kinds == set(KNOWN)


def test_terraform_s_files_are_formatted() -> None:
    command = terraform_command()
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
        ("google_artifact_registry_repository", lambda body, each: text(body["repository_id"], each),
         {last(each, "repositoryId") for each in of(made, "locations.repositories")}),
        ("google_monitoring_alert_policy", lambda body, each: text(body["display_name"], each),
         {each["properties"]["displayName"] for each in of(made, "alertPolicies")}),
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
    images = of(made, "locations.repositories")
    assert {(who, "images", role) for each in images for who, role in bound(each)} == granted("repository")
    rights = [each["properties"] for each in of(made, "iamMemberBinding")]
    conditional = {
        (account(each["member"]), each["condition"]["title"].split()[1], each["role"])
        for each in rights if "condition" in each
    }  # fmt: skip
    assert conditional == granted("database") | granted("sources")
    others = {(account(each["member"]), each["role"]) for each in rights if "condition" not in each}
    listeners = {(who, f"$(ref.{NAME}-role-listener.name)") for who, _, _ in granted("listener")}
    assert others == {(who, role) for who, _, role in granted("project")} | (
        listeners if channel == "pubsub" else set()
    )

    def grant(body: dict[str, Any], each: dict[str, Any]) -> tuple[str, ...]:
        value = each.get("value", {})  # Pub/Sub's own right to dead letters is no grant of the description
        return tuple(str(value.get(key, "")) for key in ("account", "name", "role"))

    for kind, on in (
        ("google_pubsub_topic_iam_member", "topic"),
        ("google_storage_bucket_iam_member", "bucket"),
        ("google_cloud_run_v2_service_iam_member", "function"),
        ("google_artifact_registry_repository_iam_member", "repository"),
    ):
        found = terraform(kind, chosen, grant)
        assert found - {("", "", "")} == granted(on)
    project = set().union(*map(granted, ("database", "sources", "project")))
    if channel == "pubsub":
        project |= granted("listener")
    assert terraform("google_project_iam_member", chosen, grant) == project


def test_both_ways_give_the_functions_the_same_configuration() -> None:
    command = terraform_command()
    for chosen in (EVERY[0], EVERY[-1]):
        told = evaluated(command, "local.configuration", chosen)
        writer = of(expand(**chosen), "locations.functions")[0]
        environment = writer["properties"]["serviceConfig"]["environmentVariables"]
        assert json.loads(told) == json.loads(environment["FAASKEEPER_CONFIG"])


def test_both_ways_make_the_same_dashboard_and_wait_equally_long_for_a_heartbeat_that_does_not_come() -> None:
    command = terraform_command()
    for minutes, seconds in ((1, 600), (60, 3 * 3600), (1440, 84600)):
        made = expand(heartbeatMinutes=minutes)
        expression = "{dashboard = local.dashboard, seconds = local.absent_seconds[3]}"
        told = evaluated(command, expression, {"heartbeat_minutes": str(minutes)})
        ((dashboard,), absent) = of(made, "projects.dashboards"), absences(made)
        assert {**told["dashboard"], "parent": f"projects/{PROJECT}"} == dashboard["properties"]
        assert absent == [f"{told['seconds']}s"] == [f"{seconds}s"]


def test_a_role_has_another_name_after_a_removal_and_the_same_one_until_then(tmp_path: Path) -> None:
    """The name of a removed role cannot be used again for 37 days."""
    for directory in ("terraform", "deployer"):
        source = (HERE / directory / "main.tf").read_text()
        roles = re.findall(r'"google_project_iam_custom_role".*?role_id +=([^\n]+)', source, re.DOTALL)
        assert len(roles) == source.count("role_id ") >= 1
        assert all(each.endswith('_${terraform_data.made.output}"') for each in roles)
        (made,) = re.findall(r'^resource "terraform_data" "made" \{.*?^\}$', source, re.DOTALL | re.MULTILINE)
        inner = tmp_path / directory
        inner.mkdir()
        (inner / "main.tf").write_text(
            f'{made}\noutput "made" {{\n  value = terraform_data.made.output\n}}\n'
        )

        def run(*words: str, inner: Path = inner) -> str:
            done = subprocess.run(
                [terraform_command(), f"-chdir={inner}", *words],
                env={**os.environ, "TF_CLI_CONFIG_FILE": os.devnull},
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            return done.stdout

        def applied(run: Any = run) -> str:
            run("apply", "-auto-approve", "-no-color")
            return str(run("output", "-raw", "made"))

        run("init", "-no-color")
        first = applied()
        assert re.fullmatch(r"\d{14}", first)
        ended = int(time.time())
        while int(time.time()) <= ended + 1:  # it tells seconds
            assert applied() == first
        run("destroy", "-auto-approve", "-no-color")
        assert applied() > first


def test_deployment_manager_s_role_has_the_name_that_the_deployment_s_bucket_tells(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = {
        "cloud-provider": "gcp", "deployment-name": NAME, "deployment-region": "r",
        "client-channel": "pubsub",
        "gcp": {"project-id": PROJECT, "deploy": {"with": "deployment-manager"}},
    }  # fmt: skip
    names = set[str]()
    for at in ("20260101000000", "20260102000000"):  # the bucket is removed last, and made anew
        monkeypatch.setattr(deployment, "bucket_made", lambda gcp, bucket, at=at: at)
        made = deployment.GcpDeployment(Config.deserialize(data))
        chosen = made.variables("functions")
        made.close()
        roles = of(expand(client_channel="pubsub", made=chosen["made"]), "projects.roles")
        names |= {each["properties"]["roleId"] for each in roles}
    assert len(names) == 2
