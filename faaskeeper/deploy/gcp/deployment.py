"""Creates, updates and removes a deployment on Google Cloud."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from google.auth.exceptions import GoogleAuthError

from faaskeeper.config import Config, ConfigurationException, QueueType
from faaskeeper.deploy.deployment import Plan, Progress, client_configuration
from faaskeeper.deploy.gcp.applied import Applied
from faaskeeper.deploy.gcp.beginning import await_heartbeat
from faaskeeper.deploy.gcp.buckets import bucket_exists, bucket_made, empty_bucket, remove_bucket
from faaskeeper.deploy.gcp.outline import labels, outline, rights
from faaskeeper.deploy.gcp.package import package
from faaskeeper.deploy.gcp.rest import Rest
from faaskeeper.deploy.gcp.tools import DATA_IS_LOST, DRIFTED, DeploymentManager, Terraform, Tool
from faaskeeper.deploy.names import check_name
from faaskeeper.deploy.package import Changed, as_it_is
from faaskeeper.deploy.supers import save_super_user, super_user_notes
from faaskeeper.exceptions import ProviderException
from faaskeeper.providers.gcp.clients import core_error
from faaskeeper.providers.gcp.service import GcpService

_TOOLS = ("terraform", "deployment-manager")
_VARIABLES = (
    "watch_function",
    "log_level",
    "warm_writers",
    "vpc_connector",
    "vpc_egress",
    "kms_key",
    "monitoring",
    "notification_channels",
    "listener_role",
    "protect",
)
"""Template variables that the section ``gcp.deploy`` may set."""
_OTHER_KEYS = ("with", "endpoint")
_LEGACY = (
    "Google ended its support for Deployment Manager on 31 March 2026: new deployments are better made with "
    "Terraform ('gcp.deploy.with')"
)


class GcpDeployment:
    """A deployment on Google Cloud. ``pause``: waits this many seconds between two polls."""

    def __init__(self, config: Config, pause: Callable[[float], None] = time.sleep) -> None:
        check_name("gcp", config.deployment_name)
        self.config = config
        self.service = GcpService(config)
        self._gcp = self.service.gcp
        self._pause = pause
        self._options = self._section()
        self._rest = Rest(self._gcp, str(self._options.get("endpoint", "")))
        self._tool: Tool | None = None

    def _section(self) -> Mapping[str, Any]:
        chosen = self.service.section.get("deploy", {})
        if not isinstance(chosen, Mapping):
            raise ConfigurationException("the key 'gcp.deploy' must be an object")
        for key in chosen:
            if key not in (*_VARIABLES, *_OTHER_KEYS):
                known = ", ".join((*_VARIABLES, "with"))
                raise ConfigurationException(f"the key 'gcp.deploy.{key}' is unknown; known keys: {known}")
        if chosen.get("with", _TOOLS[0]) not in _TOOLS:
            words = " or ".join(repr(each) for each in _TOOLS)
            raise ConfigurationException(
                f"the key 'gcp.deploy.with' is {chosen['with']!r}: it must be {words}"
            )
        return chosen

    def close(self) -> None:
        self._close_tool()
        self._rest.close()
        self._gcp.close()

    def _close_tool(self) -> None:
        tool, self._tool = self._tool, None
        if tool is not None:
            tool.close()

    # ---- configuration -------------------------------------------------------------------

    @property
    def bucket(self) -> str:
        """The bucket of the functions' code and Terraform's state; not part of the deployment."""
        return f"{self.config.deployment_name}-deploy-{self.service.project}"

    def variables(self, code: str) -> dict[str, Any]:
        """The template's variables."""
        config = self.config
        worker = "pubsub" if config.worker_queue is QueueType.DIRECT else config.worker_queue.value
        return {
            "project": self.service.project,
            "deployment": config.deployment_name,
            "region": config.deployment_region,
            "code_bucket": self.bucket,
            "code_object": code,
            "user_storage": config.user_storage.value,
            # heartbeat needs a function's queue, and so do direct writers under contention
            "worker_queue": worker,
            "distributor_queue": config.distributor_queue.value,
            "client_channel": config.client_channel.value,
            "client_networks": ",".join(self.service.networks.texts),
            "heartbeat_minutes": max(1, -(-config.heartbeat_frequency // 60)),
            "benchmarking": config.benchmarking_frequency if config.benchmarking else 0,
            **({"labels": labels(config.tags)} if config.tags else {}),
            **{key: self._options[key] for key in _VARIABLES if key in self._options},
            **self._distinction(),
        }

    def _distinction(self) -> dict[str, str]:
        """What distinguishes a role's name from that of an earlier deployment; Terraform keeps its own."""
        if self._options.get("with") != "deployment-manager":
            return {}
        return {"made": bucket_made(self._gcp, self.bucket)}

    def tool(self) -> Tool:
        """The tool that manages the resources."""
        if self._tool is None:
            file = self.service.text("credentials")
            name, project = self.config.deployment_name, self.service.project
            if self._options.get("with") == "deployment-manager":
                more = {"CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE": file} if file else {}
                self._tool = DeploymentManager(name, project, more, self._pause)
            else:
                more = {"GOOGLE_APPLICATION_CREDENTIALS": file} if file else {}
                bucket = self.bucket if self._bucket_exists() else ""
                self._tool = Terraform(name, bucket, more, self._pause)
        return self._tool

    def _bucket_exists(self) -> bool:
        return bucket_exists(self._gcp, self.bucket)

    def preliminary(self) -> dict[str, object]:
        return self._output({})

    def _output(self, outputs: Mapping[str, Any]) -> dict[str, object]:
        section: dict[str, object] = {"project-id": self.service.project}
        for kept in ("credentials", "client-host", "client-networks"):
            if self.service.section.get(kept):
                section[kept] = self.service.section[kept]
        if self._options:
            section["deploy"] = dict(self._options)
        for key, name in (
            ("data-bucket", "data_bucket"), ("worker-topic", "worker_topic"), ("accounts", "accounts"),
        ):  # fmt: skip
            if outputs.get(name):
                section[key] = outputs[name]
        return client_configuration(self.config, section)

    # ---- without credentials -------------------------------------------------------------

    def no_credentials(self) -> str:
        if self._options.get("endpoint"):  # which needs none
            return ""
        try:
            self._gcp.credentials()
        except GoogleAuthError as error:
            return str(core_error("credentials", error))
        return ""

    def outline(self) -> list[str]:
        return outline(self.config, str(self._options.get("watch_function", "")))

    def rights(self) -> list[str]:
        return rights()

    # ---- deploying ---------------------------------------------------------------------

    def prepare(self, progress: Progress) -> None:
        """Nothing: Terraform's lock and Google's operations are waited for by the tools."""

    def changes(self) -> Plan:
        code = package()
        tool = self.tool()
        self._same_storage(tool)
        lines = tool.changes(self.variables(code.key))
        lost = ", ".join(line.split()[1] for line in lines if line.endswith(DATA_IS_LOST))
        legacy = [_LEGACY] if isinstance(tool, DeploymentManager) else []
        return Plan(
            tuple(line for line in lines if not line.startswith(DRIFTED)),
            (*(line for line in lines if line.startswith(DRIFTED)), *legacy, *super_user_notes(self.config)),
            f"{lost} would be replaced, which loses the data: run 'fk export', then --clean" if lost else "",
        )

    def deploy(self, progress: Progress) -> dict[str, object]:
        code = self._upload(progress)
        tool = self.tool()
        self._same_storage(tool)
        variables = self.variables(code)
        tool.apply(variables, progress)
        self._applied().record(variables)
        save_super_user(self.service, progress)
        await_heartbeat(self.service, self._rest, progress, self._pause)
        return self._output(tool.outputs())

    def _applied(self) -> Applied:
        return Applied(self._gcp, self.bucket, self.config.deployment_name)

    def _same_storage(self, tool: Tool) -> None:
        wanted = self.config.user_storage.value
        before = tool.outputs().get("user_storage", wanted)
        if before != wanted:
            raise ProviderException(
                f"{self.config.deployment_name} was deployed with user-storage {before!r}, but the "
                f"configuration has {wanted!r}: its znodes would be lost. Keep the old value, "
                "or move the data to another deployment with 'fk export' and 'fk import'"
            )

    def _upload(self, progress: Progress, changed: Changed = as_it_is) -> str:
        """Upload the functions' code; creates the bucket if necessary. Returns the name."""
        code = changed(package())
        storage = self._gcp.call(f"bucket {self.bucket}", self._gcp.storage)
        if not self._bucket_exists():

            def make() -> None:
                made = storage.bucket(self.bucket)
                made.versioning_enabled = True
                made.iam_configuration.uniform_bucket_level_access_enabled = True
                made.iam_configuration.public_access_prevention = "enforced"
                storage.create_bucket(made, location=self.config.deployment_region, retry=self._gcp.retry)

            self._gcp.call(f"bucket {self.bucket}", make)
            self._close_tool()  # which planned without a place for its state
            progress(f"created the bucket {self.bucket}")

        def upload() -> None:
            blob = storage.bucket(self.bucket).blob(code.key)
            blob.upload_from_string(code.body, content_type="application/zip", retry=self._gcp.retry)

        self._gcp.call("upload of the code", upload)
        return code.key

    def update_code(self, progress: Progress, changed: Changed = as_it_is) -> None:
        self._deployed()
        variables = self._applied().variables()
        self._run(variables, self._upload(progress, changed), progress)

    def roll_back(self, progress: Progress) -> None:
        self._deployed()
        applied = self._applied()
        code = applied.former_code()
        progress(f"back to {code}")
        self._run(applied.variables(), code, progress)

    def code_changes(self, progress: Progress, *, back: bool = False) -> Plan:
        self._deployed()
        applied = self._applied()
        code = applied.former_code() if back else package().key
        variables = {**applied.variables(), "code_object": code}
        notes = (f"back to {code}",) if back else ()
        return Plan(tuple(self.tool().changes(variables, code_only=True)), notes)

    def _run(self, variables: Mapping[str, Any], code: str, progress: Progress) -> None:
        """Deploy only code, which is in the bucket; all else stays as it was applied."""
        changed = {**variables, "code_object": code}
        self.tool().apply(changed, progress, code_only=True)
        self._applied().record(changed)

    def _deployed(self) -> None:
        """Raise unless there is a deployment."""
        if not self._bucket_exists() or not self.tool().resources():
            raise ProviderException(
                f"{self.config.deployment_name} is not deployed: run 'fk deploy service' first"
            )

    # ---- removing ----------------------------------------------------------------------

    def holdings(self) -> list[str]:
        lines = self.tool().resources()
        if self._bucket_exists():
            lines.append(f"every object in the bucket {self.bucket}")
        return lines

    def clean(self, progress: Progress) -> None:
        """Each step can be repeated, so a removal that was cut off continues."""
        tool = self.tool()
        if tool.resources():
            data = self.service.names.bucket(self.service.project)
            if bucket_exists(self._gcp, data):  # the tools empty it one object at a time, or not at all
                empty_bucket(self._gcp, data, progress)
            tool.destroy(self.variables(package().key), progress)
        remove_bucket(self._gcp, self.bucket, progress)
