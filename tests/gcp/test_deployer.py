"""Who deploys to Google Cloud has the rights that the templates' resources need, and no others."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import hcl2

from tests.gcp.templates import DESCRIBED, HERE, NAME, PROJECT, blocks, plain, terraform_command

DEPLOYER: dict[str, list[str]] = json.loads((HERE / "deployer.json").read_text())["roles"]
FACTS: dict[str, Any] = json.loads(
    (Path(__file__).parent.parent / "data" / "google_handlers.json").read_text()
)
ELSEWHERE = {"google_project_iam_custom_role", "google_project_iam_member"}
"""Left out of the deployer's roles: the listener's role is made for it, and Google has a role for grants."""


def test_the_deployer_s_roles_are_what_the_resources_handlers_and_fk_need() -> None:
    types = {type_ for type_, _, _ in blocks("resource")} | {"data.google_project"}
    assert types == set(FACTS["handlers"])
    needed = {each for type_ in types - ELSEWHERE for each in FACTS["handlers"][type_]}
    needed |= {each for listed in FACTS["fk"].values() for each in listed}
    given = [each for listed in DEPLOYER.values() for each in listed]
    assert sorted(given) == sorted(needed)
    for listed in DEPLOYER.values():
        assert listed == sorted(listed)


def test_rights_hold_for_one_deployment_where_google_can_bind_them() -> None:
    for each in DEPLOYER["project"]:
        if each.startswith(("datastore.", "storage.")):
            # what does not exist yet, and operations, are the project's
            assert each in (
                "datastore.databases.create",
                "datastore.operations.get",
                "storage.buckets.create",
            )
    assert all(each.startswith("datastore.") for each in DEPLOYER["databases"])
    assert all(each.startswith("storage.") for each in DEPLOYER["buckets"])
    assert all(each.startswith("datastore.entities.") for each in DEPLOYER["settings"])
    assert not [
        each for listed in DEPLOYER.values() for each in listed if each.startswith(("iam.roles", "*"))
    ]
    assert not [each for each in DEPLOYER["project"] if each.endswith("projects.setIamPolicy")]


def test_the_module_binds_them_and_bounds_what_may_be_granted() -> None:
    command = terraform_command()
    text = (HERE / "deployer" / "main.tf").read_text()
    parts = [text[text.index(f"{kind} {{") :] for kind in ('variable "project"', "locals")]
    with tempfile.TemporaryDirectory() as directory:
        for name in ("resources.json", "deployer.json"):
            shutil.copy(HERE / name, directory)
        inner = Path(directory) / "deployer"
        inner.mkdir()
        end = parts[1].index("\n}\n")
        (inner / "main.tf").write_text(parts[0][: parts[0].index("locals {")] + parts[1][: end + 3])
        told = [f"-var={each}" for each in (f"project={PROJECT}", f"deployment={NAME}", "member=user:a@b.c")]
        done = subprocess.run(
            [command, f"-chdir={inner}", "console", *told],
            input="jsonencode([local.conditions, local.grantable])\n", capture_output=True, text=True,
            check=False, env={**os.environ, "TF_CLI_CONFIG_FILE": os.devnull},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    conditions, grantable = json.loads(json.loads(done.stdout))
    assert set(conditions) == set(DEPLOYER) - {"project"}
    databases = {f"{NAME}{each['suffix']}" for each in DESCRIBED["databases"].values()}
    assert set(
        re.findall(r'resource\.name == "projects/my-project/databases/([^"]+)"', conditions["databases"])
    ) == (databases)
    assert conditions["settings"] == f'resource.name == "projects/{PROJECT}/databases/{NAME}-private"'
    buckets = {f"{NAME}-data-{PROJECT}", f"{NAME}-deploy-{PROJECT}"}
    assert set(re.findall(r'== "projects/_/buckets/([^"]+)"', conditions["buckets"])) == buckets
    assert set(re.findall(r'startsWith\("projects/_/buckets/([^"]+)/"\)', conditions["buckets"])) == buckets
    on_project = ("database", "project", "sources")
    assert set(grantable) == {each["role"] for each in DESCRIBED["grants"] if each["on"] in on_project}
    made = plain(hcl2.loads(text))
    members = {
        label: body
        for block in made["resource"]
        for type_, named in block.items()
        for label, body in named.items()
        if type_ == "google_project_iam_member"
    }
    assert members["grants"]["role"] == "roles/resourcemanager.projectIamAdmin"
    assert "hasOnly" in members["grants"]["condition"][0]["expression"]
    assert set(members) == {"deployer", "grants"}
