"""Creates, updates and removes a deployment on Google Cloud."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from google.api_core.exceptions import NotFound

from faaskeeper.config import Config, ConfigurationException, QueueType
from faaskeeper.core.errors import DriverError, StaleView
from faaskeeper.deploy.deployment import Progress, client_configuration
from faaskeeper.deploy.gcp.package import package
from faaskeeper.deploy.gcp.rest import Rest
from faaskeeper.deploy.gcp.tools import DeploymentManager, Terraform, Tool
from faaskeeper.deploy.supers import save_super_user
from faaskeeper.exceptions import ProviderException
from faaskeeper.providers.gcp.service import GcpService

_NAME = re.compile(r"[a-z][a-z0-9-]{2,16}[a-z0-9]")
_START_S = 180.0
_PAUSE_S = 2.0
_TOOLS = ("terraform", "deployment-manager")
_VARIABLES = ("watch_function", "log_level", "warm_writers", "vpc_connector", "protect")
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
            "client_networks": ",".join(self.service.networks.texts),
            "heartbeat_minutes": max(1, -(-config.heartbeat_frequency // 60)),
            "benchmarking": config.benchmarking_frequency if config.benchmarking else 0,
            **{key: self._options[key] for key in _VARIABLES if key in self._options},
        }

    def tool(self) -> Tool:
        """The tool that manages the resources."""
        if self._tool is None:
            file = self.service.text("credentials")
            name, project = self.config.deployment_name, self.service.project
            if self._options.get("with") == "deployment-manager":
                more = {"CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE": file} if file else {}
                self._tool = DeploymentManager(name, project, more)
            else:
                more = {"GOOGLE_APPLICATION_CREDENTIALS": file} if file else {}
                self._tool = Terraform(name, self.bucket if self._bucket_exists() else "", more)
        return self._tool

    def _bucket_exists(self) -> bool:
        def look() -> bool:
            try:
                self._gcp.storage().get_bucket(self.bucket, retry=self._gcp.retry)
            except NotFound:
                return False
            return True

        return bool(self._gcp.call(f"bucket {self.bucket}", look))

    def _output(self, outputs: Mapping[str, Any]) -> dict[str, object]:
        section: dict[str, object] = {"project-id": self.service.project}
        for key in ("credentials", "client-networks"):
            if self.service.section.get(key):
                section[key] = self.service.section[key]
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
        save_super_user(self.service, progress)
        self._start(progress)
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

    def _start(self, progress: Progress) -> None:
        """Trigger heartbeat, which initializes a new deployment, and wait for it."""
        region, project = self.config.deployment_region, self.service.project
        job = f"projects/{project}/locations/{region}/jobs/{self.config.deployment_name}-beat"
        try:
            self._rest.call("cloudscheduler", f"v1/{job}:run", body={})
        except DriverError as error:
            progress(f"{error}; the schedule runs it within a minute")
        made = self.service.deployment(b"", worker_queue=None, distributor_queue=None)
        deadline = time.monotonic() + _START_S
        while True:
            try:
                made.checkpoints.header()
            except (DriverError, StaleView) as error:
                problem = str(error)
            else:
                progress("heartbeat ran")
                return
            if time.monotonic() > deadline:
                raise ProviderException(f"the resources exist, but heartbeat does not run: {problem}")
            self._pause(_PAUSE_S)

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
        tool = self.tool()
        if tool.resources():
            if isinstance(tool, DeploymentManager):  # it does not remove a bucket with objects
                self._empty(str(tool.outputs().get("data_bucket", "")), progress)
            tool.destroy(self.variables(package().key), progress)
        if self._bucket_exists():
            self._empty(self.bucket, progress)
            storage = self._gcp.call("bucket", self._gcp.storage)
            self._gcp.call("bucket", storage.bucket(self.bucket).delete, retry=self._gcp.retry)
            progress(f"deleted the bucket {self.bucket}")

    def _empty(self, bucket: str, progress: Progress) -> None:
        if not bucket:
            return
        storage = self._gcp.call(f"objects of {bucket}", self._gcp.storage)
        number = 0

        def empty() -> None:
            nonlocal number
            for blob in storage.list_blobs(bucket, versions=True, retry=self._gcp.retry):
                blob.delete(retry=self._gcp.retry)
                number += 1

        self._gcp.call(f"objects of {bucket}", empty)
        progress(f"deleted {number} objects in {bucket}")
