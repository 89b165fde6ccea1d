"""Creates, updates and removes a deployment on Google Cloud."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from faaskeeper.config import Config, ConfigurationException, QueueType
from faaskeeper.deploy.deployment import Progress, client_configuration
from faaskeeper.deploy.gcp.beginning import await_heartbeat
from faaskeeper.deploy.gcp.buckets import bucket_exists, bucket_made, empty_bucket, remove_bucket
from faaskeeper.deploy.gcp.package import package
from faaskeeper.deploy.gcp.rest import Rest
from faaskeeper.deploy.gcp.tools import DeploymentManager, Terraform, Tool
from faaskeeper.exceptions import ProviderException
from faaskeeper.providers.gcp.service import GcpService

_NAME = re.compile(r"[a-z][a-z0-9-]{2,16}[a-z0-9]")
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


class GcpDeployment:
    """A deployment on Google Cloud. ``pause``: waits this many seconds between two polls."""

    def __init__(self, config: Config, pause: Callable[[float], None] = time.sleep) -> None:
        if not _NAME.fullmatch(config.deployment_name):
            raise ConfigurationException(
                f"the key 'deployment-name' is {config.deployment_name!r}: on Google Cloud it must have "
                "4 to 18 lower-case letters, digits and hyphens, and start with a letter"
            )
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
        if self._tool is not None:
            self._tool.close()
        self._rest.close()
        self._gcp.close()

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
            "heartbeat_minutes": max(1, -(-config.heartbeat_frequency // 60)),
            "super_digest": config.super_digest,
            "benchmarking": config.benchmarking_frequency if config.benchmarking else 0,
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

    def _output(self, outputs: Mapping[str, Any]) -> dict[str, object]:
        section: dict[str, object] = {"project-id": self.service.project}
        if self.service.text("credentials"):
            section["credentials"] = self.service.text("credentials")
        for key, name in (
            ("data-bucket", "data_bucket"), ("worker-topic", "worker_topic"), ("accounts", "accounts"),
        ):  # fmt: skip
            if outputs.get(name):
                section[key] = outputs[name]
        return client_configuration(self.config, section)

    # ---- deploying ---------------------------------------------------------------------

    def changes(self) -> list[str]:
        code = package()
        tool = self.tool()
        self._same_storage(tool)
        return tool.changes(self.variables(code.key))

    def deploy(self, progress: Progress) -> dict[str, object]:
        code = self._upload(progress)
        tool = self.tool()
        self._same_storage(tool)
        tool.apply(self.variables(code), progress)
        await_heartbeat(self.service, self._rest, progress, self._pause)
        return self._output(tool.outputs())

    def _same_storage(self, tool: Tool) -> None:
        wanted = self.config.user_storage.value
        before = tool.outputs().get("user_storage", wanted)
        if before != wanted:
            raise ProviderException(
                f"{self.config.deployment_name} was deployed with user-storage {before!r}, but the "
                f"configuration has {wanted!r}: its znodes would be lost. Keep the old value, "
                "or move the data to another deployment with 'fk export' and 'fk import'"
            )

    def _upload(self, progress: Progress) -> str:
        """Upload the functions' code; creates the bucket if necessary. Returns the name."""
        code = package()
        storage = self._gcp.call(f"bucket {self.bucket}", self._gcp.storage)
        if not self._bucket_exists():

            def make() -> None:
                made = storage.bucket(self.bucket)
                made.versioning_enabled = True
                made.iam_configuration.uniform_bucket_level_access_enabled = True
                made.iam_configuration.public_access_prevention = "enforced"
                storage.create_bucket(made, location=self.config.deployment_region, retry=self._gcp.retry)

            self._gcp.call(f"bucket {self.bucket}", make)
            progress(f"created the bucket {self.bucket}")

        def upload() -> None:
            blob = storage.bucket(self.bucket).blob(code.key)
            blob.upload_from_string(code.body, content_type="application/zip", retry=self._gcp.retry)

        self._gcp.call("upload of the code", upload)
        return code.key

    def update_code(self, progress: Progress) -> None:
        if not self._bucket_exists() or not self.tool().resources():
            raise ProviderException(
                f"{self.config.deployment_name} is not deployed: run 'fk deploy service' first"
            )
        self.tool().apply(self.variables(self._upload(progress)), progress, code_only=True)

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
