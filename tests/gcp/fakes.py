"""Stand-ins for ``terraform`` and ``gcloud deployment-manager``, which keep what they were told.

They know no resource: what they plan is what the description lists, and a state is a list of names. A test
reads off the log what was really asked for. ``FAKE_HOME``: the folder of state and log.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

HOME = Path(os.environ.get("FAKE_HOME", "."))


def log(told: dict[str, Any]) -> None:
    with (HOME / "log").open("a") as file:
        file.write(json.dumps(told) + "\n")


def state(name: str) -> dict[str, Any]:
    path = HOME / name
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def save(name: str, told: dict[str, Any]) -> None:
    (HOME / name).write_text(json.dumps(told))


def listed(resources: dict[str, Any]) -> list[str]:
    """Addresses of some of what the description lists."""
    return [
        *(f'google_firestore_database.database["{each}"]' for each in resources["databases"]),
        *(f'google_pubsub_topic.topic["{each}"]' for each in resources["topics"]),
        *(f'google_cloudfunctions2_function.function["{each}"]' for each in resources["functions"]),
        "google_storage_bucket.data",
    ]


def terraform(chdir: str, command: str, *arguments: str) -> int:
    directory = Path(chdir.removeprefix("-chdir="))
    variables = directory / "faaskeeper.auto.tfvars.json"
    told = json.loads(variables.read_text()) if variables.exists() else {}
    local = (directory / "backend_override.tf").exists()
    log({"command": ["terraform", command, *arguments], "variables": told, "local": local})
    before = {} if local else state("terraform.tfstate")
    if (HOME / "broken").exists() and command == "apply":
        print("Error: Error creating Topic: 403\n  the caller does not have permission", file=sys.stderr)
        return 1
    unsettled = HOME / "unsettled"
    if command == "apply" and unsettled.exists():
        first, *others = json.loads(unsettled.read_text())
        unsettled.write_text(json.dumps(others)) if others else unsettled.unlink()
        print(f"╷\n│ Error: {first}\n╵")
        return 1
    if command == "show":
        wanted = json.loads((directory / "plan").read_text())
        print(json.dumps(wanted))
    elif command == "plan":
        names = listed(json.loads((directory.parent / "resources.json").read_text()))
        target = [each.removeprefix("-target=") for each in arguments if each.startswith("-target=")]
        changes = []
        for name in names:
            kind = name.split(".")[0]
            there = before.get("variables", {})
            actions = ["no-op"]
            if not there:
                actions = ["create"]
            elif there["region"] != told["region"] and kind == "google_firestore_database":
                actions = ["delete", "create"]
            elif there["code_object"] != told["code_object"] and "function.function" in name:
                actions = ["update"]
            if not target or name.split("[")[0] in target:
                changes.append({"address": name, "type": kind, "change": {"actions": actions}})
        drift = [{"address": "google_pubsub_topic.topic"}] if before.get("drifted") else []
        plan = {"resource_changes": changes, "resource_drift": drift, "told": told}
        (directory / "plan").write_text(json.dumps(plan))
    elif command == "apply":
        print("google_pubsub_topic.topic: Creating...")
        names = listed(json.loads((directory.parent / "resources.json").read_text()))
        save("terraform.tfstate", {"variables": told, "resources": names})
    elif command == "destroy":
        save("terraform.tfstate", {})
    elif command == "output":
        there = before.get("variables")
        made = outputs(there["deployment"], there["project"], there["user_storage"]) if there else {}
        print(json.dumps({key: {"value": value} for key, value in made.items()}))
    elif command == "state":
        print("\n".join(before.get("resources", [])))
    return 0


def outputs(deployment: str, project: str, storage: str) -> dict[str, Any]:
    return {
        "user_storage": storage,
        "data_bucket": f"{deployment}-data-{project}",
        "worker_topic": f"{deployment}-worker",
        "accounts": {"client": f"{deployment}-client@{project}.iam.gserviceaccount.com"},
    }


def gcloud(group: str, part: str, verb: str, *arguments: str) -> int:
    assert group == "deployment-manager"
    options = dict(each.removeprefix("--").partition("=")[::2] for each in arguments if each.startswith("--"))
    config = json.loads(Path(options["config"]).read_text()) if "config" in options else {}
    log({"command": ["gcloud", part, verb, *arguments], "config": config})
    there = state("manager")
    if part == "resources":
        intent = "" if there.get("applied") else "CREATE"
        kind = "gcp-types/pubsub-v1:projects.topics"
        print(json.dumps([{"type": kind, "name": "topic", "update": {"intent": intent}}]))
    elif verb == "describe":
        if not there:
            print("ERROR: (gcloud) ResponseError: code=404, message=not found", file=sys.stderr)
            return 1
        chosen = there["config"]["resources"][0]["properties"]
        made = outputs(chosen["deployment"], options["project"], chosen["userStorage"])
        del made["accounts"]
        print(json.dumps({"outputs": [{"name": key, "finalValue": each} for key, each in made.items()]}))
    elif verb in ("create", "update"):
        assert (verb == "create") == (not there)
        save("manager", {"config": config, "applied": "preview" not in options})
    elif verb == "delete":
        save("manager", {})
    return 0


def install(directory: Path) -> None:
    """Put commands that run this file into a folder."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in ("terraform", "gcloud"):
        command = directory / name
        command.write_text(f'#!/bin/sh\nexec {sys.executable} {__file__} {name} "$@"\n')
        command.chmod(0o755)


if __name__ == "__main__":
    sys.exit({"terraform": terraform, "gcloud": gcloud}[sys.argv[1]](*sys.argv[2:]))
