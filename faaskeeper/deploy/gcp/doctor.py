"""Checks of a deployment on Google Cloud, and of the steps that need a person."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from google.auth.exceptions import GoogleAuthError

from faaskeeper.config import Config
from faaskeeper.core.errors import Denied
from faaskeeper.deploy.doctor import Check, Doctor, Finding, clock_finding
from faaskeeper.deploy.gcp.deadletters import GcpDeadLetters
from faaskeeper.deploy.gcp.rest import Missing, Rest
from faaskeeper.deploy.templates import templates
from faaskeeper.providers.cloud.service import FUNCTIONS
from faaskeeper.providers.gcp.clients import core_error
from faaskeeper.providers.gcp.service import GcpService

_OLDEST = "pubsub.googleapis.com/subscription/oldest_unacked_message_age"
_EMULATED = "not available with emulators"


class GcpDoctor(Doctor[GcpService]):
    """Checks of a deployment on Google Cloud."""

    def __init__(self, config: Config) -> None:
        super().__init__(config, GcpService(config))
        deploy = self.service.section.get("deploy")
        endpoint = str(deploy.get("endpoint", "")) if isinstance(deploy, dict) else ""
        self._emulated = bool(os.environ.get("DATASTORE_EMULATOR_HOST")) and not endpoint
        self._rest = Rest(self.service.gcp, endpoint)
        self._endpoint = endpoint
        self._project = self.service.project
        self._date = ""
        self._asked = 0.0

    def close(self) -> None:
        self._rest.close()
        super().close()

    def before(self) -> Iterator[tuple[str, Check]]:
        yield "deploy command", self._command
        yield "credentials", self._credentials
        yield "project", self._in_project
        yield "billing", self._billing
        yield "services", self._services
        yield "clock", self._clock

    def after(self) -> Iterator[tuple[str, Check]]:
        yield "functions", self._functions
        yield "schedule", self._schedule
        yield "worker queue", self.queue
        yield "dead letters", self._dead

    # ---- steps that need a person ---------------------------------------------------------

    def _command(self) -> Finding:
        for name in ("terraform", "tofu"):
            if shutil.which(name):
                return Finding("deploy command", True, name)
        return Finding(
            "deploy command", None, "neither terraform nor tofu is installed; only 'fk deploy' needs one"
        )

    def _credentials(self) -> Finding:
        if self._emulated or self._endpoint:
            return Finding("credentials", None, _EMULATED)
        try:
            found: Any = self.service.gcp.credentials()
        except GoogleAuthError as error:
            raise core_error("credentials", error) from error
        return Finding(
            "credentials", True, str(getattr(found, "service_account_email", "") or "user account")
        )

    def _ask(self, service: str, path: str) -> Any:
        began = time.time()
        answer, self._date = self._rest.call(service, path)
        self._asked = (began + time.time()) / 2
        return answer

    def _in_project(self) -> Finding:
        if self._emulated:
            return Finding("project", None, _EMULATED)
        try:
            answer = self._ask("cloudresourcemanager", f"v1/projects/{self._project}")
        except Denied as error:
            return Finding(
                "project",
                False,
                f"{error}. Create it at https://console.cloud.google.com/projectcreate, or grant access",
            )
        state = answer.get("lifecycleState", "")
        if state != "ACTIVE":
            return Finding(
                "project", False, f"{self._project} is {state}: restore it, or use another project"
            )
        return Finding("project", True, self._project)

    def _billing(self) -> Finding:
        if self._emulated:
            return Finding("billing", None, _EMULATED)
        try:
            answer = self._ask("cloudbilling", f"v1/projects/{self._project}/billingInfo")
        except Denied:
            return Finding("billing", None, "this account may not read the billing information")
        if not answer.get("billingEnabled"):
            where = f"https://console.cloud.google.com/billing/linkedaccount?project={self._project}"
            return Finding("billing", False, f"no billing account: link one at {where}")
        return Finding("billing", True, "enabled")

    def _services(self) -> Finding:
        if self._emulated:
            return Finding("services", None, _EMULATED)
        text = templates("gcp").joinpath("resources.json").read_text(encoding="utf-8")
        wanted: list[str] = json.loads(text)["services"]
        parent = f"projects/{self._project}"
        names = "&".join(f"names={quote(f'{parent}/services/{each}', safe='')}" for each in wanted)
        try:
            answer = self._ask("serviceusage", f"v1/{parent}/services:batchGet?{names}")
        except Denied as error:
            return Finding(
                "services",
                False,
                f"{error}. First run 'gcloud services enable serviceusage.googleapis.com "
                f"--project={self._project}'",
            )
        missing = [
            each["config"]["name"] for each in answer.get("services", ()) if each.get("state") != "ENABLED"
        ]
        if missing:
            return Finding(
                "services",
                False,
                f"run 'gcloud services enable {' '.join(missing)} --project={self._project}', or deploy, "
                "which enables them",
            )
        return Finding("services", True, f"all {len(wanted)} are enabled")

    def _clock(self) -> Finding:
        return clock_finding(self._asked, self._date, "Google's")

    # ---- functions -----------------------------------------------------------------------

    def _functions(self) -> Finding:
        """What Cloud Run says of the functions: only Google's own services may call them."""
        if self._emulated:
            return Finding("functions", None, _EMULATED)
        parent = f"projects/{self._project}/locations/{self.config.deployment_region}"
        problems: list[str] = []
        for name in map(self.service.names.function, FUNCTIONS):
            try:
                answer = self._ask("run", f"v2/{parent}/services/{name}")
            except Missing:
                problems.append(f"{name} does not exist")
                continue
            except Denied:
                return Finding(
                    "functions", None, "this account may not read the state of Cloud Run's services"
                )
            ready = answer.get("terminalCondition", {})
            if ready.get("state") != "CONDITION_SUCCEEDED":
                why = (
                    ready.get("message") or ready.get("reason") or ready.get("state", "its state is unknown")
                )
                problems.append(f"{name} is not ready: {why}")
        if problems:
            return Finding("functions", False, f"{'; '.join(problems)}. Run 'fk deploy service' again")
        return Finding("functions", True, "Cloud Run has all of them ready")

    def _schedule(self) -> Finding:
        """What came of heartbeat's last call."""
        if self._emulated:
            return Finding("schedule", None, _EMULATED)
        name = f"{self.config.deployment_name}-beat"
        parent = f"projects/{self._project}/locations/{self.config.deployment_region}"
        try:
            job = self._ask("cloudscheduler", f"v1/{parent}/jobs/{name}")
        except Missing:
            return Finding("schedule", False, f"there is no job {name}: run 'fk deploy service' again")
        except Denied:
            return Finding("schedule", None, "this account may not read the jobs of Cloud Scheduler")
        if job.get("state") != "ENABLED":
            return Finding(
                "schedule",
                False,
                f"the job {name} is {job.get('state', 'in an unknown state')}: run 'gcloud scheduler jobs "
                f"resume {name} --location={self.config.deployment_region} --project={self._project}'",
            )
        code = job.get("status", {}).get("code", 0)
        if code:
            said = job["status"].get("message") or f"with status {code}"
            return Finding(
                "schedule", False, f"heartbeat's last call failed, {said}: read the log of "
                f"{self.service.names.function('heartbeat')}"
            )  # fmt: skip
        return Finding(
            "schedule", True, f"heartbeat was last called at {job.get('lastAttemptTime', 'no time')}"
        )

    # ---- queues --------------------------------------------------------------------------

    def queue(self) -> Finding:
        """What waits in the worker queue."""
        if self._emulated:
            return Finding("worker queue", None, _EMULATED)
        subscription = self.service.names.topic("worker")
        chosen = f'metric.type="{_OLDEST}" AND resource.labels.subscription_id="{subscription}"'
        now = time.time()
        span = "&".join(
            f"interval.{name}={time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(moment))}"
            for name, moment in (("startTime", now - 600), ("endTime", now))
        )
        path = f"v3/projects/{self._project}/timeSeries?filter={quote(chosen)}&{span}"
        try:
            answer = self._ask("monitoring", path)
        except Denied:
            return Finding("worker queue", None, "this account may not read its metrics")
        points = [point for series in answer.get("timeSeries", ()) for point in series["points"]]
        if not points:
            return Finding("worker queue", True, "empty for the last minutes")
        oldest = int(points[0]["value"].get("int64Value", 0))
        if oldest > 60:
            return Finding(
                "worker queue",
                False,
                f"the oldest request is waiting for {oldest} s: check the writer's logs",
            )
        return Finding("worker queue", True, f"the oldest request is waiting for {oldest} s")

    def _dead(self) -> Finding:
        try:
            found = GcpDeadLetters(self.service).counts()
        except Denied:
            return Finding("dead letters", None, "this account may not read the subscription")
        if found:
            where = ", ".join(f"{many} from {name}" for name, many in found.items())
            return Finding("dead letters", False, f"{where}: 'fk deadletters' lists them")
        return Finding("dead letters", True, "none")
