"""A project for the gate: what Terraform would make is made on the emulators, and runs the uploaded code.

Terraform itself is a stand-in (``fakes``). Its state says what there is; a thread does the rest.
"""

from __future__ import annotations

import io
import json
import threading
import zipfile
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from google.api_core.exceptions import NotFound

from faaskeeper.providers.gcp.clients import Gcp
from faaskeeper.providers.gcp.queues import subscription_path, topic_path
from faaskeeper.testing.emulation.targets import Target
from faaskeeper.testing.smoke.mortal import LAST
from tests.backends import free_port
from tests.gcp import backends, rights
from tests.gcp.test_deploy import Cloud

_FUNCTIONS = {"writer": "worker", "watch": "watch", "heartbeat": ""}
"""Each function, and the topic that is pushed to it."""
_TOPICS = ("worker", "distributor", "watch", "clients", "dead")
_LOOK_S = 0.05


class Project(Cloud):
    """See the module. ``counts``: what Cloud Monitoring answers, by metric."""

    def __init__(self, emulators: dict[str, str], directory: Path) -> None:
        self._emulators = emulators
        self._running: dict[str, Target] = {}
        self._code = ""
        self._name = ""
        self._beats = 0
        self._ready = threading.Event()
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self.counts: dict[str, float] = {}
        self.bill: list[tuple[str, float]] = []
        super().__init__(emulators, directory)
        self._gcp: Gcp = Gcp(self.project)
        self._watching = threading.Thread(target=self._watch, daemon=True)
        self._watching.start()

    def write(self, options: dict[str, Any]) -> None:
        section = {"project-id": self.project, "deploy": {"endpoint": self.endpoint}}
        data = {"cloud-provider": "gcp", "deployment-name": self.name, "deployment-region": "europe-west1"}
        self.config.write_text(json.dumps({**data, **options, "gcp": section}))

    @property
    def endpoint(self) -> str:
        """Where Google's administration answers."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def output(self, function: str) -> Path:
        """Where a function says what it says."""
        return self.directory / f"said-{function}"

    # ---- what Terraform would do ---------------------------------------------------------

    def _state(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self.directory / "terraform.tfstate").read_text())
        except (OSError, ValueError):  # it is not there, or is being written
            return {"variables": {"code_object": self._code, "deployment": self._name}} if self._code else {}
        return found

    def _watch(self) -> None:
        """Follow the state: make and remove what it lists, run its code, start again what has died."""
        while not self._stopping.wait(_LOOK_S):
            variables = self._state().get("variables") or {}
            code = variables.get("code_object", "")
            if code != self._code:
                self._ready.clear()
                if code and not self._code:
                    self._make(variables["deployment"])
                self._run(code)
                if not code:
                    self._unmake()
                self._code = code
                if code:
                    self._ready.set()
            for target in self._running.values():
                if target.ended:
                    target.crash()

    def _make(self, name: str) -> None:
        self._name = name
        self._gcp.storage().create_bucket(f"{name}-data-{self.project}")
        ports = {function: free_port() for function in _FUNCTIONS}
        for topic in _TOPICS:
            backends.create_topic(self._gcp, f"{name}-{topic}")
        for function, topic in _FUNCTIONS.items():
            self._running[function] = Target(
                function,
                Path(rights.__file__),
                self._environment(name),
                self.output(function),
                ports[function],
            )
            if topic:
                url = self._running[function].url
                backends.push(self._gcp, f"{name}-{topic}", url, dead=f"{name}-dead")
        backends.pull(self._gcp, f"{name}-dead")

    def _environment(self, name: str) -> dict[str, str]:
        section = {
            "project-id": self.project,
            "data-bucket": f"{name}-data-{self.project}",
            "worker-topic": f"{name}-worker",
            "watch-topic": f"{name}-watch",
        }
        config = {"cloud-provider": "gcp", "deployment-name": name, "deployment-region": "europe-west1"}
        return {
            **self._emulators,
            "FAASKEEPER_CONFIG": json.dumps({**config, "gcp": section}),
            "PYTHONPATH": str(self.directory / "running"),
            "PYTHONSAFEPATH": "1",  # else this folder's own code would come first
        }

    def _run(self, code: str) -> None:
        """Run code of the deployment's bucket; empty: none."""
        for target in self._running.values():
            target.kill()
        if not code:
            return
        stored = self._gcp.storage().bucket(f"{self._name}-deploy-{self.project}").blob(code)
        folder = self.directory / "running"
        zipfile.ZipFile(io.BytesIO(stored.download_as_bytes())).extractall(folder)
        for target in self._running.values():
            target.start()
        for target in self._running.values():
            target.wait()

    def _unmake(self) -> None:
        self._running.clear()
        for short in ("worker", "watch", "dead"):
            path = subscription_path(self.project, f"{self._name}-{short}")
            self._gcp.subscriber().delete_subscription(request={"subscription": path})
        for topic in _TOPICS:
            self._gcp.publisher().delete_topic(
                request={"topic": topic_path(self.project, f"{self._name}-{topic}")}
            )
        try:
            self._gcp.storage().get_bucket(f"{self._name}-data-{self.project}").delete(force=True)
        except NotFound:
            pass

    def stop(self) -> None:
        self._stopping.set()
        self._watching.join()
        for target in self._running.values():
            target.kill()
        self._gcp.close()
        super().stop()

    # ---- Google's administration ---------------------------------------------------------

    def _api(self) -> type[BaseHTTPRequestHandler]:
        project = self

        class Api(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                service, _, path = self.path[1:].partition("/")
                with project._lock:
                    told = json.dumps(project._answer(service, path, body)).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(told)))
                self.end_headers()
                self.wfile.write(told)

            do_POST = do_GET

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Api

    def _answer(self, service: str, path: str, body: bytes) -> Any:
        if service == "cloudscheduler" and "/jobs/" in path:
            if path.endswith(":run"):
                assert self._ready.wait(60)
                self._running["heartbeat"].call(b"{}")
                self._beats += 1
            return {"state": "ENABLED", "lastAttemptTime": str(self._beats)}
        if service == "logging":
            said = [self.output(each).read_text() for each in _FUNCTIONS if self.output(each).exists()]
            return {"entries": [{}] * sum(each.count(LAST) for each in said)}
        if service == "monitoring" and "/timeSeries" in path:
            found = [value for metric, value in self.counts.items() if metric in path]
            return {"timeSeries": [{"points": [{"value": {"doubleValue": each}}]} for each in found]}
        if service == "bigquery":
            rows = [{"f": [{"v": name}, {"v": str(cost)}]} for name, cost in self.bill]
            return {"jobComplete": True, "rows": rows}
        if service == "run" and "/services/" in path:
            return {"terminalCondition": {"type": "Ready", "state": "CONDITION_SUCCEEDED"}}
        if service == "serviceusage":
            return {"services": []}
        if service == "cloudbilling":
            return {"billingEnabled": True}
        if service == "cloudresourcemanager":
            return {"lifecycleState": "ACTIVE"}
        return self._listed(service, path)

    def _listed(self, service: str, path: str) -> Any:
        if service == "storage":
            return {"items": [{"name": each.name} for each in self._gcp.storage().list_buckets()]}
        if service == "pubsub":
            parent = f"projects/{self.project}"
            if path.endswith("/topics"):
                topics = self._gcp.publisher().list_topics(request={"project": parent})
                return {"topics": [{"name": each.name} for each in topics]}
            made = self._gcp.subscriber().list_subscriptions(request={"project": parent})
            return {"subscriptions": [{"name": each.name} for each in made]}
        key = {"firestore": "databases", "cloudfunctions": "functions"}.get(service, "")
        kind = {"databases": "google_firestore_database", "functions": "google_cloudfunctions2_function"}
        listed = [each for each in self._state().get("resources", ()) if key and each.startswith(kind[key])]
        return {key: [{"name": f"{key}/{self._name}-{number}"} for number, _ in enumerate(listed)]}
