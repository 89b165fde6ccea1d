"""What holds for a deployment on Google Cloud, whichever way it is made: schedules, rights, what is kept."""

from __future__ import annotations

import configparser
import itertools
import json
import re
from datetime import datetime, timedelta

import pytest

from faaskeeper.config import Config
from faaskeeper.core.log import RETENTION_MS
from faaskeeper.providers.gcp import functions
from faaskeeper.providers.gcp.service import GcpService, Names
from tests.gcp.templates import (
    DESCRIBED,
    EVERY,
    HERE,
    KNOWN,
    NAME,
    PROJECT,
    REGION,
    SCHEMA,
    absences,
    blocks,
    evaluated,
    expand,
    of,
    terraform_command,
)

MINUTES = [*range(1, 200), 719, 720, 721, 1439, 1440, 1441, 2880, 10_080, 43_200, 44_640, 100_000]


def starts(schedule: str) -> list[datetime]:
    """When a schedule runs in the first 70 days of a year; only forms that the templates use."""
    fields = schedule.split()
    assert len(fields) == 5
    assert fields[3:] == ["*", "*"]
    chosen: list[list[int]] = []
    for text, first, last in zip(fields[:3], (0, 0, 1), (59, 23, 31), strict=True):
        step = re.fullmatch(r"\*(?:/(\d+))?", text)
        if step is None:
            assert first <= int(text) <= last, schedule
            chosen.append([int(text)])
        else:
            # Cloud Scheduler refuses a step that is larger than the field's last value
            assert 1 <= int(step[1] or 1) <= last, schedule
            chosen.append(list(range(first, last + 1, int(step[1] or 1))))
    minutes, hours, days = chosen
    begin = datetime(2026, 1, 1)
    return [
        day + timedelta(hours=hour, minutes=minute)
        for day in (begin + timedelta(days=number) for number in range(70))
        if day.day in days
        for hour in hours
        for minute in minutes
    ]


def test_heartbeat_runs_at_least_as_often_as_is_asked_for_any_number_of_minutes() -> None:
    for minutes in MINUTES:
        (beat,) = [
            each["properties"]["schedule"]
            for each in of(expand(heartbeatMinutes=minutes), "locations.jobs")
            if each["name"].endswith("-beat")
        ]
        found = starts(beat)
        gaps = [(after - before) / timedelta(minutes=1) for before, after in itertools.pairwise(found)]
        assert max(gaps) <= minutes, beat
        # and it costs no more than twice as much
        assert len(found) <= 70 * 1440 / minutes * 2 + 2, beat


def test_terraform_makes_the_same_schedule_of_heartbeat() -> None:
    command = terraform_command()
    source = re.search(
        r"heartbeat_schedule = \((.*?)\n  \)", (HERE / "terraform/locals.tf").read_text(), re.DOTALL
    )
    assert source is not None
    expression = " ".join(source[1].split()).replace("var.heartbeat_minutes", "minutes")
    told = evaluated(command, f"[for minutes in {MINUTES} : {expression}]", {})
    assert told == [
        next(
            each["properties"]["schedule"]
            for each in of(expand(heartbeatMinutes=minutes), "locations.jobs")
            if each["name"].endswith("-beat")
        )
        for minutes in MINUTES
    ]


COMPUTED = {
    "google_artifact_registry_repository": {"id", "name"},
    "google_cloudfunctions2_function": {"name", "service_config"},
    "google_firestore_database": {"name"},
    "google_project_iam_custom_role": {"id"},
    "google_pubsub_subscription": {"name"},
    "google_pubsub_topic": {"id", "name"},
    "google_service_account": {"email", "name"},
    "google_storage_bucket": {"name"},
    "terraform_data": {"output"},
}
"""What is asked of a resource by another, and its documentation lists."""


def test_terraform_s_files_refer_only_to_what_exists() -> None:
    there = {f"{type_}.{label}" for type_, label, _ in blocks("resource")}
    variables = {label for _, label, _ in blocks("variable")}
    for path in (HERE / "terraform").glob("*.tf"):
        text = path.read_text()
        code = re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)
        for type_, label, attribute in re.findall(
            r"(?<!data\.)\b((?:google|terraform)_\w+)\.(\w+)(?:\[[^\]]*\])*(?:\.(\w+))?", code
        ):
            assert f"{type_}.{label}" in there, f"{path.name}: {type_}.{label}"
            assert not attribute or attribute in COMPUTED[type_], f"{path.name}: {type_}.{label}.{attribute}"
        assert set(re.findall(r"\bvar\.(\w+)", code)) <= variables
        for name in re.findall(r"\blocal\.resources\.(\w+)", code):
            assert name in DESCRIBED


def test_the_provider_is_pinned_to_the_version_whose_checksums_the_lock_file_has() -> None:
    text = (HERE / "terraform" / ".terraform.lock.hcl").read_text()
    assert text == (HERE / "deployer" / ".terraform.lock.hcl").read_text()
    (wanted,) = re.findall(r'^\s*version = "([^"]+)"', (HERE / "terraform" / "versions.tf").read_text(), re.M)
    assert f'version = "{wanted}"' in (HERE / "deployer" / "main.tf").read_text().replace("  ", " ")
    assert re.fullmatch(r"\d+\.\d+\.\d+", wanted)
    assert re.findall(r'provider "([^"]+)"', text) == ["registry.terraform.io/hashicorp/google"]
    assert re.findall(r'(?:version|constraints)\s*= "([^"]+)"', text) == [wanted, wanted]
    hashes = re.findall(r'"(h1:[A-Za-z0-9+/]{43}=|zh:[0-9a-f]{64})"', text)
    assert hashes == sorted(set(hashes))
    assert (
        sum(each.startswith("zh:") for each in hashes) == 12
    )  # the archives of every platform, and their list


def test_labels_and_the_customer_s_key_are_on_every_resource_that_can_have_them() -> None:
    keys = {"kms_key_name", "cmek_config", "encryption"}
    for type_, label, body in blocks("resource"):
        given = {*body, *(name for block in body.get("dynamic", ()) for name in block)}
        for name in ("labels", "user_labels"):
            if name in KNOWN[type_]:
                assert body.get(name) == "${var.labels}", f"{type_}.{label}"
        assert keys & set(KNOWN[type_]) <= given, f"{type_}.{label}"
    key = "projects/p/locations/l/keyRings/r/cryptoKeys/k"
    made = expand(labels={"team": "db"}, kmsKey=key)
    labels = [each for each in made["resources"] if {"team": "db"} in each["properties"].values()]
    assert {each["type"].rsplit(":", 1)[1].rsplit(".", 1)[-1] for each in labels} == {
        "buckets", "topics", "subscriptions", "repositories", "functions", "alertPolicies",
    }  # fmt: skip
    keyed = [each for each in made["resources"] if key in json.dumps(each["properties"])]
    assert {each["type"].rsplit(":", 1)[1].rsplit(".", 1)[-1] for each in keyed} == {
        "buckets", "topics", "repositories", "functions", "databases",
    }  # fmt: skip
    assert "kms" not in json.dumps(expand()).lower()


def test_nothing_that_is_stored_is_lost_by_a_click() -> None:
    week = 7 * 24 * 3600
    ((_, _, database),) = [each for each in blocks("resource") if each[0] == "google_firestore_database"]
    assert "DELETE_PROTECTION_ENABLED" in database["delete_protection_state"]
    ((_, _, protect),) = [each for each in blocks("variable") if each[1] == "protect"]
    assert protect["default"] is True is SCHEMA["properties"]["protect"]["default"]
    recovered = {
        each["properties"]["databaseId"]: each["properties"]["pointInTimeRecoveryEnablement"]
        for each in of(expand(), ":projects.databases")
    }
    assert recovered == {
        NAME: "POINT_IN_TIME_RECOVERY_ENABLED",
        f"{NAME}-private": "POINT_IN_TIME_RECOVERY_ENABLED",  # without the key, no session can be resumed
        f"{NAME}-sessions": "POINT_IN_TIME_RECOVERY_DISABLED",  # leases of a week ago say nothing
    }
    # what a record of any restorable moment names is there
    assert DESCRIBED["bucket"]["replaced_days"] * 24 * 3600 > week
    assert DESCRIBED["bucket"]["deleted_seconds"] >= week
    (bucket,) = of(expand(), ":buckets")
    assert bucket["properties"]["versioning"] == {"enabled": True}


def test_alerts_and_charts_watch_what_the_deployment_has_and_a_silent_heartbeat_is_one() -> None:
    topics = {f"{{name}}-{each}" for each in (*DESCRIBED["pushes"], "dead")}
    services = {f"{{name}}-{each}" for each in DESCRIBED["functions"]}
    conditions = [one for each in DESCRIBED["alerts"].values() for one in each["conditions"]]
    for each in (*conditions, *DESCRIBED["charts"]):
        named = set(re.findall(r'"(\{name\}[^"]*)"', each["filter"]))
        assert named
        assert named <= (topics if "subscription_id" in each["filter"] else services)
        assert each["aligner"] in {"ALIGN_DELTA", "ALIGN_MAX", "ALIGN_PERCENTILE_95", "ALIGN_RATE"}
    assert [each for each in DESCRIBED["alerts"]["heartbeat"]["conditions"] if "absent_beats" in each]
    assert absences(expand())
    assert not of(expand(monitoring=False), "alertPolicies")
    assert not of(expand(monitoring=False), "dashboards")
    # Cloud Monitoring's limits of an absence
    assert DESCRIBED["absence"]["least_seconds"] >= 120
    assert DESCRIBED["absence"]["most_seconds"] <= 23.5 * 3600


def test_functions_are_built_by_an_account_that_can_do_no_more() -> None:
    rights = {(each["on"], each["role"]) for each in DESCRIBED["grants"] if each["account"] == "build"}
    assert rights == {
        ("project", "roles/logging.logWriter"),
        ("repository", "roles/artifactregistry.writer"),
        ("sources", "roles/storage.objectViewer"),
    }
    made = expand()
    names = {each["name"]: each for each in made["resources"]}
    for each in of(made, "locations.functions"):
        build = each["properties"]["buildConfig"]
        assert build["serviceAccount"].endswith(f"/{NAME}-build@{PROJECT}.iam.gserviceaccount.com")
        assert build["dockerRepository"].endswith(f"/repositories/{NAME}-functions")
        waits = [names[name] for name in each["metadata"]["dependsOn"]]
        roles = {one["properties"].get("role") for one in waits}
        assert {"roles/logging.logWriter", "roles/storage.objectViewer"} <= roles
        assert of({"resources": waits}, "repositories")
    (condition,) = [
        each["properties"]["condition"]["expression"]
        for each in of(made, "iamMemberBinding")
        if each["properties"].get("role") == "roles/storage.objectViewer"
    ]
    assert condition == (
        f'resource.name.startsWith("projects/_/buckets/gcf-v2-sources-42-{REGION}") || '
        'resource.name.startsWith("projects/_/buckets/code/objects/functions")'
    )
    ((_, _, right),) = [
        each for each in blocks("resource") if each[:2] == ("google_project_iam_member", "sources")
    ]
    (told,) = right["condition"]
    expected = condition.replace(f"42-{REGION}", "${data.google_project.this.number}-${var.region}")
    expected = expected.replace("/code/", "/${var.code_bucket}/")
    assert told["expression"].replace("\\", "") == expected


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


def test_the_functions_packages_are_those_of_the_extra() -> None:
    metadata = configparser.ConfigParser()
    metadata.read(HERE.parent.parent / "setup.cfg")
    listed = (HERE / "functions" / "requirements.txt").read_text().split()
    assert listed == metadata["options.extras_require"]["gcp"].split()


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
    # who listens may subscribe to the topic of answers, and to no queue
    attached = {
        (each["account"], each["on"], each["name"])
        for each in DESCRIBED["grants"]
        if each["role"] == "roles/pubsub.subscriber"
    }
    assert attached == {("client", "topic", "clients"), ("direct", "topic", "clients")}
    assert not [each for each in DESCRIBED["listener_permissions"] if ".topics." in each]
    assert set(DESCRIBED["functions"]) <= set(DESCRIBED["accounts"])
