"""What deploying takes, said without an account: resources, and the roles that making them needs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from faaskeeper.config import Config, ConfigurationException, QueueType
from faaskeeper.deploy.templates import templates

_LABEL_KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_LABEL_VALUE = re.compile(r"[a-z0-9_-]{0,63}")
_MOST_LABELS = 60
"""Google allows 64 for a resource."""
_KINDS = {
    "databases": "Firestore database (Datastore mode)",
    "topics": "Pub/Sub topic",
    "functions": "function",
    "jobs": "Cloud Scheduler job",
    "accounts": "service account",
}
_GRANTED_ON_THE_PROJECT = ("database", "project", "sources")
"""Kinds of grants, in the templates' list, that are made on the project."""


def _read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(templates("gcp").joinpath(name).read_text(encoding="utf-8"))
    return found


def outline(config: Config, watch_function: str) -> list[str]:
    """The resources, one per line. ``watch_function``: as the variable of that name."""
    listed = _read("resources.json")
    left_out = set()
    if config.distributor_queue is QueueType.INLINE:
        left_out.add("distributor")
    if watch_function == "inline":
        left_out.add("watch")
    endings = {kind: [f"-{each}" for each in listed[kind]] for kind in _KINDS}
    endings["databases"] = [each["suffix"] for each in listed["databases"].values()]
    endings["functions"] = [f"-{each}" for each in listed["functions"] if each not in left_out]
    lines = [
        f"{'create':8} {what} {config.deployment_name}{ending}"
        for kind, what in _KINDS.items()
        for ending in endings[kind]
    ]
    project = config.provider_config.get("project-id", "PROJECT")
    return [*lines, f"{'create':8} Cloud Storage bucket {config.deployment_name}-data-{project}"]


def rights() -> list[str]:
    """What deploying needs to be allowed to do, one line for each service, as deployer.json has it."""
    found: dict[str, list[str]] = {}
    for permissions in _read("deployer.json")["roles"].values():
        for each in permissions:
            service, _, what = each.partition(".")
            found.setdefault(service, []).append(what)
    grants = _read("resources.json")["grants"]
    roles = sorted({each["role"] for each in grants if each["on"] in _GRANTED_ON_THE_PROJECT})
    return [
        *(f"{service}: {', '.join(sorted(found[service]))}" for service in sorted(found)),
        f"on the project, grant {', '.join(roles)}",
        "make a custom role for clients that listen, or set gcp.deploy.listener_role",
    ]


def labels(tags: Mapping[str, str]) -> dict[str, str]:
    """Labels of resources. Raises ConfigurationException for what Google does not take."""
    for key, value in tags.items():
        if not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(value):
            raise ConfigurationException(
                f"the key 'tags' has {key!r}: {value!r}: on Google Cloud a label has up to 63 lower-case "
                "letters, digits, _ and -, and its key starts with a letter"
            )
    if len(tags) > _MOST_LABELS:
        raise ConfigurationException(f"the key 'tags' has more than {_MOST_LABELS} labels")
    return dict(tags)
