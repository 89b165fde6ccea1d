"""The tools that manage the resources: Terraform, OpenTofu, or Deployment Manager by gcloud.

Both use a copy of the templates in ``deploy/gcp``, with the same variables.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import as_file
from pathlib import Path
from typing import Any

from faaskeeper.deploy.deployment import Progress
from faaskeeper.deploy.gcp.settling import ToolFailed, until_settled
from faaskeeper.deploy.templates import templates
from faaskeeper.exceptions import ProviderException

Variables = Mapping[str, Any]
_STORES = ("google_firestore_database", "google_storage_bucket")
_ONLY_CODE = ("-target=google_cloudfunctions2_function.function",)
_GENERATED = shutil.ignore_patterns("__pycache__", ".terraform", "*.tfstate*", "*.tfvars*")
"""What a person's own Terraform leaves in a checkout."""
DRIFTED = "drifted"
DATA_IS_LOST = "(replaced: its data is lost)"
"""How a line of a plan begins that is no change, and how one ends that loses data."""
_SHOWN_LINES = 12
"""Number of lines that are shown of a failed command's output, from its end."""


class Tool(ABC):
    """Creates, changes and removes resources.

    ``environment``: extends this process's for the commands. ``pause``: waits this many seconds
    before a change is made again.
    """

    def __init__(self, environment: Mapping[str, str], pause: Callable[[float], None]) -> None:
        self._environment = {**os.environ, **environment}
        self._pause = pause
        self._holder = tempfile.TemporaryDirectory(prefix="fk-gcp-")
        self.directory = Path(self._holder.name)
        with as_file(templates("gcp")) as originals:
            shutil.copytree(originals, self.directory, dirs_exist_ok=True, ignore=_GENERATED)

    def close(self) -> None:
        """Remove the copy of the templates."""
        self._holder.cleanup()

    @abstractmethod
    def changes(self, variables: Variables, *, code_only: bool = False) -> list[str]:
        """Changes that :meth:`apply` would make, and drift, one per line; read-only.

        ``code_only``: those of the functions only, without drift.
        """

    @abstractmethod
    def apply(self, variables: Variables, progress: Progress, *, code_only: bool = False) -> None:
        """Create or change the resources. ``code_only``: only the functions."""

    @abstractmethod
    def outputs(self) -> dict[str, Any]:
        """The outputs of the last apply; empty if there was none."""

    @abstractmethod
    def resources(self) -> list[str]:
        """The resources that exist, one per line."""

    @abstractmethod
    def destroy(self, variables: Variables, progress: Progress) -> None:
        """Remove all resources."""

    def run(self, command: Sequence[str], progress: Progress | None = None) -> str:
        """Run a command; returns its output. Raises ToolFailed."""
        output: list[str] = []
        with subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if progress else subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            env=self._environment,
            cwd=self.directory,
        ) as process:
            if progress is None:
                out, problems = process.communicate()
                output = [out]
            else:
                assert process.stdout is not None
                for line in process.stdout:
                    output.append(line)
                    if line.strip():
                        progress(line.rstrip())
                problems = "".join(output)
        if process.returncode:
            end = "\n  ".join(line for line in problems.splitlines()[-_SHOWN_LINES:] if line.strip())
            shown = " ".join(command[:4])
            message = f"'{shown} ...' failed with status {process.returncode}:\n  {end}"
            raise ToolFailed(message, problems)
        return "".join(output)


class Terraform(Tool):
    """Terraform, or OpenTofu if that is installed.

    ``bucket``: holds the state; empty: not yet created.
    """

    def __init__(
        self, name: str, bucket: str, environment: Mapping[str, str], pause: Callable[[float], None]
    ) -> None:
        found = shutil.which("terraform") or shutil.which("tofu")
        if found is None:
            raise ProviderException(
                "neither 'terraform' nor 'tofu' is installed: install one, see "
                "https://developer.hashicorp.com/terraform/install, https://opentofu.org/docs/intro/install; "
                "or set 'deploy': {'with': 'deployment-manager'} in the section 'gcp'"
            )
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "faaskeeper" / "terraform"
        more = {"TF_IN_AUTOMATION": "1", "TF_INPUT": "0", "TF_PLUGIN_CACHE_DIR": str(cache)}
        if "TF_PLUGIN_CACHE_DIR" not in os.environ:
            cache.mkdir(parents=True, exist_ok=True)
        super().__init__(
            {**more, **{key: os.environ[key] for key in more if key in os.environ}, **environment}, pause
        )
        self._command = [found, f"-chdir={self.directory / 'terraform'}"]
        self._name = name
        self._bucket = bucket
        self._ready = False

    def _terraform(self, *arguments: str, progress: Progress | None = None) -> str:
        if not self._ready:
            init = ["init", "-no-color"]
            if self._bucket:
                init += [f"-backend-config=bucket={self._bucket}", f"-backend-config=prefix={self._name}"]
            else:
                override = 'terraform {\n  backend "local" {}\n}\n'
                (self.directory / "terraform" / "backend_override.tf").write_text(override)
            self.run([*self._command, *init])
            self._ready = True
        return self.run([*self._command, *arguments], progress)

    def _set(self, variables: Variables) -> None:
        file = self.directory / "terraform" / "faaskeeper.auto.tfvars.json"
        file.write_text(json.dumps(variables, indent=2))

    def _plan(self, variables: Variables, *more: str) -> dict[str, Any]:
        self._set(variables)
        self._terraform("plan", "-no-color", "-out=plan", *more)
        plan: dict[str, Any] = json.loads(self._terraform("show", "-json", "plan"))
        return plan

    def changes(self, variables: Variables, *, code_only: bool = False) -> list[str]:
        plan = self._plan(variables, *(_ONLY_CODE if code_only else ()))
        drifted = () if code_only else plan.get("resource_drift", ())
        lines = [f"{DRIFTED}  {each['address']}" for each in drifted]
        for each in plan.get("resource_changes", ()):
            actions = each["change"]["actions"]
            if actions not in (["no-op"], ["read"]):
                again = len(actions) > 1
                note = f"  {DATA_IS_LOST}" if again and _store(each) else ""
                lines.append(f"{'replace' if again else actions[0]:8} {each['address']}{note}")
        return lines

    def apply(self, variables: Variables, progress: Progress, *, code_only: bool = False) -> None:
        """Apply the plan. Refuses a plan that would lose stored data."""
        until_settled(lambda: self._apply(variables, progress, code_only), progress, self._pause)

    def _apply(self, variables: Variables, progress: Progress, code_only: bool) -> None:
        plan = self._plan(variables, *(_ONLY_CODE if code_only else ()))
        lost = [
            each["address"]
            for each in plan.get("resource_changes", ())
            if "delete" in each["change"]["actions"] and _store(each)
        ]
        if lost:
            raise ProviderException(
                f"{', '.join(lost)} would be replaced, which loses the data: run 'fk export', then --clean"
            )
        self._terraform("apply", "-no-color", "-auto-approve", "plan", progress=progress)

    def outputs(self) -> dict[str, Any]:
        if not self._bucket:
            return {}
        outputs = json.loads(self._terraform("output", "-json"))
        return {key: each["value"] for key, each in outputs.items()}

    def resources(self) -> list[str]:
        return self._terraform("state", "list").split("\n")[:-1] if self._bucket else []

    def destroy(self, variables: Variables, progress: Progress) -> None:
        self._set({**variables, "protect": False})
        # only what is there still: after a removal that was cut off, the rest must not be made again
        stores = [each for each in self.resources() if each.split(".")[0] in _STORES]
        if stores:
            unlock = [f"-target={each}" for each in stores]
            self._terraform("apply", "-no-color", "-auto-approve", *unlock, progress=progress)
        self._terraform("destroy", "-no-color", "-auto-approve", progress=progress)


def _store(change: Mapping[str, Any]) -> bool:
    return change.get("type") in _STORES


class DeploymentManager(Tool):
    """Google's Deployment Manager, through gcloud."""

    def __init__(
        self, name: str, project: str, environment: Mapping[str, str], pause: Callable[[float], None]
    ) -> None:
        found = shutil.which("gcloud")
        if found is None:
            raise ProviderException(
                "'gcloud' is not installed: see https://cloud.google.com/sdk/docs/install"
            )
        super().__init__(environment, pause)
        self._gcloud = [found, "deployment-manager"]
        self._flags = ["--quiet", f"--project={project}"]
        self._name = name

    def _deployments(self, *arguments: str, progress: Progress | None = None) -> str:
        return self.run([*self._gcloud, "deployments", *arguments, *self._flags], progress)

    def _describe(self) -> dict[str, Any] | None:
        try:
            described: dict[str, Any] = json.loads(self._deployments("describe", self._name, "--format=json"))
        except ToolFailed as error:
            if "not found" in str(error).lower() or "404" in str(error):
                return None
            raise
        return described

    def _config(self, variables: Variables) -> str:
        properties = {camel(key): value for key, value in variables.items() if key != "project"}
        config = {
            "imports": [{"path": "faaskeeper.py"}],
            "resources": [{"name": "faaskeeper", "type": "faaskeeper.py", "properties": properties}],
        }
        file = self.directory / "deployment_manager" / "applied.yaml"
        file.write_text(json.dumps(config, indent=2))  # JSON is YAML
        return f"--config={file}"

    def changes(self, variables: Variables, *, code_only: bool = False) -> list[str]:
        there = self._describe() is not None
        self._deployments("update" if there else "create", self._name, self._config(variables), "--preview")
        listed = [*self._gcloud, "resources", "list", f"--deployment={self._name}", "--format=json"]
        try:
            found = json.loads(self.run([*listed, *self._flags]))
        finally:
            self._deployments("cancel-preview", self._name)
            if not there:
                self._deployments("delete", self._name)
        lines = []
        for each in found:
            intent = each.get("update", {}).get("intent", "")
            if intent not in ("", "NOT_STARTED", "ACQUIRE"):
                lines.append(f"{intent.lower():8} {each['type']} {each['name']}")
        return lines

    def apply(self, variables: Variables, progress: Progress, *, code_only: bool = False) -> None:
        """Apply the configuration. Deployment Manager changes only what differs."""

        def apply() -> None:
            verb = "update" if self._describe() is not None else "create"
            self._deployments(verb, self._name, self._config(variables), progress=progress)

        until_settled(apply, progress, self._pause)

    def outputs(self) -> dict[str, Any]:
        described = self._describe()
        return {each["name"]: each["finalValue"] for each in (described or {}).get("outputs", ())}

    def resources(self) -> list[str]:
        if self._describe() is None:
            return []
        listed = [*self._gcloud, "resources", "list", f"--deployment={self._name}", "--format=json"]
        return [f"{each['type']} {each['name']}" for each in json.loads(self.run([*listed, *self._flags]))]

    def destroy(self, variables: Variables, progress: Progress) -> None:
        config = self._config({**variables, "protect": False})
        self._deployments("update", self._name, config, progress=progress)
        self._deployments("delete", self._name, progress=progress)


def camel(name: str) -> str:
    """The name of a variable in Deployment Manager's template."""
    first, *rest = name.split("_")
    return first + "".join(each.capitalize() for each in rest)
