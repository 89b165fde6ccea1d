"""``fk deploy`` for Google Cloud: what it asks of Terraform and of gcloud, and what becomes of it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import textwrap
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from google.api_core.exceptions import NotFound

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from faaskeeper.core.deployment import begin
from faaskeeper.deploy.gcp.settling import ToolFailed, settling, until_settled
from faaskeeper.providers.gcp.clients import Gcp
from faaskeeper.providers.gcp.service import GcpService
from faaskeeper.testing.emulation.targets import Target
from faaskeeper.testing.patience import PATIENCE_S
from tests.backends import free_port
from tests.gcp import backends, fakes

ROOT = Path(__file__).parent.parent.parent


class Cloud:
    """A project: the emulators, commands that keep what they were told, Google's administration by HTTP."""

    def __init__(self, emulators: dict[str, str], directory: Path) -> None:
        self.directory = directory
        self.project = backends.project()
        self.name = f"fk-{uuid4().hex[:6]}"
        self.out = directory / "out.json"
        self.config = directory / "config.json"
        fakes.install(directory / "bin")
        self.environment = {
            **backends.in_environment(emulators),
            "PATH": f"{directory / 'bin'}:{os.environ['PATH']}",
            "FAKE_HOME": str(directory),
            "FK_POLL_FACTOR": "0.02",
            "TF_PLUGIN_CACHE_DIR": str(directory / "cache"),
        }
        self.asked: list[str] = []
        self.answers: dict[str, tuple[int, Any]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._api())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self.write({})

    def _api(self) -> type[BaseHTTPRequestHandler]:
        cloud = self

        class Api(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                cloud.asked.append(f"{self.command} {self.path}")
                service = self.path.split("/")[1]
                status, told = cloud.answers.get(service, (200, {}))
                if service == "cloudscheduler" and status == 200:
                    cloud.begin()
                body = json.dumps(told).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Api

    def begin(self) -> None:
        """As heartbeat does."""
        with backends.gcp(self.project) as gcp:
            GcpService(Config.load(self.config), gcp).initialize()

    def write(self, options: dict[str, Any]) -> None:
        deploy = options.pop("deploy", {})
        data = {
            "cloud-provider": "gcp",
            "deployment-name": self.name,
            "deployment-region": "europe-west1",
            "user-storage": "key-value",
            "worker-queue": "direct",
            **options,
            "gcp": {
                "project-id": self.project,
                "client-networks": ["127.0.0.0/8"],
                "deploy": {"endpoint": f"http://127.0.0.1:{self._server.server_address[1]}", **deploy},
            },
        }
        self.config.write_text(json.dumps(data))

    def fk(self, *arguments: str, code: int = 0, stdin: str = "") -> str:
        done = subprocess.run(
            [sys.executable, "-m", "faaskeeper.cli", *arguments],
            input=stdin, capture_output=True, text=True, env=self.environment, cwd=ROOT, timeout=PATIENCE_S,
            check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    def service(self, *more: str, code: int = 0, yes: bool = True) -> str:
        return self.fk(
            "deploy", "service", str(self.out), "--provider", "gcp", "--config", str(self.config), *more,
            *(["--yes"] if yes else []), code=code,
        )  # fmt: skip

    def told(self) -> list[dict[str, Any]]:
        """What the commands were asked for since the last look."""
        path = self.directory / "log"
        found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        path.unlink(missing_ok=True)
        return found

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def cloud(emulators: dict[str, str], tmp_path: Path) -> Iterator[Cloud]:
    made = Cloud(emulators, tmp_path)
    yield made
    made.stop()


def words(told: list[dict[str, Any]]) -> list[str]:
    return [" ".join(each["command"][:3]) for each in told]


def test_a_service_is_planned_made_used_changed_and_removed(cloud: Cloud, gcp: Gcp) -> None:
    said = cloud.service("--dry-run")
    assert 'create   google_pubsub_topic.topic["worker"]' in said
    assert all(each["local"] for each in cloud.told())  # there is no bucket for a state, and none is made
    bucket = f"{cloud.name}-deploy-{cloud.project}"
    with pytest.raises(NotFound):
        gcp.storage().get_bucket(bucket)

    said = cloud.service()
    assert "heartbeat ran" in said
    told = cloud.told()
    planned, made = [each["command"] for each in told if each["command"][1] == "init"]
    state = {f"-backend-config=bucket={bucket}", f"-backend-config=prefix={cloud.name}"}
    assert state.isdisjoint(planned)  # which is before there is a bucket
    assert state < set(made)
    (applied,) = [each for each in told if each["command"][1] == "apply"]
    assert applied["command"][-1] == "plan"  # what was looked at, and nothing else
    assert applied["variables"] == {
        "project": cloud.project, "deployment": cloud.name, "region": "europe-west1", "code_bucket": bucket,
        "code_object": applied["variables"]["code_object"], "user_storage": "key-value",
        "worker_queue": "pubsub", "distributor_queue": "inline", "client_channel": "tcp",
        "client_networks": "127.0.0.0/8", "heartbeat_minutes": 1, "benchmarking": 0,
    }  # fmt: skip
    assert cloud.asked == [
        f"POST /cloudscheduler/v1/projects/{cloud.project}/locations/europe-west1/jobs/{cloud.name}-beat:run"
    ]
    out = json.loads(cloud.out.read_text())
    assert out["gcp"] == {
        "project-id": cloud.project,
        "client-networks": ["127.0.0.0/8"],
        "data-bucket": f"{cloud.name}-data-{cloud.project}",
        "worker-topic": f"{cloud.name}-worker",
        "accounts": {"client": f"{cloud.name}-client@{cloud.project}.iam.gserviceaccount.com"},
        "deploy": json.loads(cloud.config.read_text())["gcp"]["deploy"],
    }
    with FaaSKeeperClient(Config.load(cloud.out)) as client:
        client.create("/a", b"1")
        assert client.get_data("/a").data == b"1"

    assert "No changes." in cloud.service("--dry-run")
    cloud.told()
    assert "updated the functions of" in cloud.fk("deploy", "functions", str(cloud.out), "--yes", "--config",
                                                     str(cloud.config))  # fmt: skip
    plan = next(each for each in cloud.told() if each["command"][1] == "plan")
    assert "-target=google_cloudfunctions2_function.function" in plan["command"]

    assert "there is no terminal: add --yes" in cloud.service("--clean", yes=False, code=2)
    assert cloud.out.exists()
    cloud.told()
    removed = cloud.service("--clean")
    assert "Will remove, with all znodes and sessions:" in removed
    assert "removed " in removed
    told = cloud.told()
    unlocked, destroyed = [each for each in told if each["command"][1] in ("apply", "destroy")]
    assert unlocked["variables"]["protect"] is False
    assert '-target=google_firestore_database.database["main"]' in unlocked["command"]
    assert "-target=google_storage_bucket.data" in unlocked["command"]
    assert destroyed["command"][1] == "destroy"
    assert not cloud.out.exists()
    with pytest.raises(NotFound):
        gcp.storage().get_bucket(bucket)
    assert "No resources found for deployment" in cloud.service("--clean")


def test_what_would_lose_znodes_is_refused_and_what_fails_says_why(cloud: Cloud) -> None:
    cloud.service()
    cloud.write({"user-storage": "persistent"})
    assert "was deployed with user-storage 'key-value'" in cloud.service(code=1)
    cloud.write({"deployment-region": "us-central1"})
    assert "(replaced: its data is lost)" in cloud.service("--dry-run")
    assert "would be replaced, which loses the data: run 'fk export'" in cloud.service(code=1)
    cloud.write({})
    (cloud.directory / "broken").touch()
    assert "the caller does not have permission" in cloud.service(code=1)
    (cloud.directory / "broken").unlink()
    state = fakes.json.loads((cloud.directory / "terraform.tfstate").read_text())
    (cloud.directory / "terraform.tfstate").write_text(json.dumps({**state, "drifted": True}))
    assert "drifted  google_pubsub_topic.topic" in cloud.service("--dry-run")


def test_a_first_deployment_waits_for_what_google_does_not_know_everywhere_yet(cloud: Cloud) -> None:
    (cloud.directory / "unsettled").write_text(json.dumps([SETTLING[0], SETTLING[-1]]))
    said = cloud.service()
    assert "a service that was just enabled is not known everywhere: trying again" in said
    assert "heartbeat ran" in said
    assert [each["command"][1] for each in cloud.told()].count("apply") == 3


def test_a_removal_that_was_cut_off_continues_and_makes_nothing_again(cloud: Cloud, gcp: Gcp) -> None:
    cloud.service()
    with backends.gcp(cloud.project) as mine:
        bucket = mine.storage().create_bucket(f"{cloud.name}-data-{cloud.project}")
        for number in range(30):
            bucket.blob(f"b/{number}").upload_from_string(b"x")
    path = cloud.directory / "terraform.tfstate"
    state = json.loads(path.read_text())
    left = [each for each in state["resources"] if "main" not in each]
    path.write_text(json.dumps({**state, "resources": left}))
    cloud.told()
    assert "deleted 30 objects in" in cloud.service("--clean", "--yes")
    (unlocked,) = [each["command"] for each in cloud.told() if each["command"][1] == "apply"]
    targets = [each for each in unlocked if each.startswith("-target=")]
    assert targets == [
        '-target=google_firestore_database.database["sessions"]',
        '-target=google_firestore_database.database["private"]',
        "-target=google_storage_bucket.data",
    ]


SETTLING = (
    "googleapi: Error 403: Cloud Pub/Sub API has not been used in project 42 before or it is disabled. "
    "Enable it by visiting https://console.developers.google.com/apis/api/pubsub.googleapis.com/overview "
    "then retry. If you enabled this API recently, wait a few minutes for the action to propagate to our "
    "systems and retry.",
    "Error applying IAM policy for pubsub topic: googleapi: Error 400: Service account "
    "service-42@gcp-sa-pubsub.iam.gserviceaccount.com does not exist., badRequest",
    "Error creating function: googleapi: Error 403: Permission 'iam.serviceaccounts.actAs' denied on service "
    "account fk-writer@p.iam.gserviceaccount.com (or it may not exist).",
    "Error creating Job: googleapi: Error 403: The principal (user or service account) lacks IAM permission "
    '"iam.serviceAccounts.actAs" for the resource "fk-push@p.iam.gserviceaccount.com" (or the resource may '
    "not exist).",
    "Error waiting to create function: Error waiting for Creating function: Error code 13, message: Build "
    "failed with status: FAILURE and message: failed to Fetch: failed to download archive "
    "gs://gcf-v2-sources-42-us-central1/fk-writer/function-source.zip: Access to bucket "
    "gcf-v2-sources-42-us-central1 denied. You must grant Storage Object Viewer permission to "
    "fk-build@p.iam.gserviceaccount.com.",
    "Error waiting to create function: Error code 7, message: Unable to retrieve the repository metadata for "
    "projects/p/locations/us-central1/repositories/fk-functions. Ensure that the Cloud Functions service "
    "account has 'artifactregistry.repositories.list' and 'artifactregistry.repositories.get' permissions.",
    "Error setting IAM policy: googleapi: Error 409: There were concurrent policy changes. Please retry the "
    "whole read-modify-write with exponential backoff.",
    "Error creating Database: googleapi: Error 409: Database ID 'fk' is not available in location "
    "'us-central1'. Please retry in 247 seconds.",
)
PERMANENT = (
    "Error creating Topic: googleapi: Error 403: User not authorized to perform this action.",
    "Error creating Bucket: googleapi: Error 409: The requested bucket name is not available.",
    "Error waiting to create function: Build failed with status: FAILURE and message: SyntaxError",
    "Error acquiring the state lock",
    "Error creating Database: googleapi: Error 403: This API method requires billing to be enabled.",
)


def framed(*problems: str) -> str:
    """Errors as Terraform shows them."""
    lines = []
    for each in problems:
        words = textwrap.wrap(f"Error: {each}", 78)
        lines += ["╷", *(f"│ {line}" for line in words), "│ ", "│   on main.tf line 7:", "╵"]
    return "\n".join(("google_pubsub_topic.topic: Creating...", *lines))


def test_only_errors_that_end_by_themselves_are_waited_for() -> None:
    for each in SETTLING:
        assert settling(framed(each)), each
        assert settling(f"ERROR: (gcloud.deployment-manager) {each}"), each
        for other in PERMANENT:
            assert settling(framed(each, other)) is None, other
    assert settling(framed(*SETTLING))
    for other in PERMANENT:
        assert settling(framed(other)) is None
        assert settling(other) is None


def test_a_change_is_repeated_for_15_minutes_and_not_longer() -> None:
    now = 0.0
    tried: list[float] = []
    said: list[str] = []

    def act() -> str:
        tried.append(now)
        if now < works:
            raise ToolFailed("failed", framed(SETTLING[0]))
        return "made"

    def pause(seconds: float) -> None:
        nonlocal now
        now += seconds

    works = 800.0
    assert until_settled(act, said.append, pause, lambda: now) == "made"
    assert len(said) == len(tried) - 1
    now, works = 0.0, 1e9
    with pytest.raises(ToolFailed):
        until_settled(act, said.append, pause, lambda: now)
    assert 800 < now <= 900


def test_bad_input_is_refused_by_name_and_with_what_would_be_right(cloud: Cloud) -> None:
    for options, problem in (
        ({"deployment-name": "Fk"}, "4 to 18 lower-case letters"),
        ({"deploy": {"with": "pulumi"}}, "must be 'terraform' or 'deployment-manager'"),
        ({"deploy": {"memory": 1}}, "the key 'gcp.deploy.memory' is unknown"),
        ({"worker-queue": "sqs"}, "one of 'pubsub', 'pubsub-ordered', 'direct'"),
    ):
        cloud.write(options)
        assert problem in cloud.service(code=2)
    assert cloud.told() == []
    cloud.write({})
    cloud.environment["PATH"] = str(Path(sys.executable).parent)
    assert "neither 'terraform' nor 'tofu' is installed" in cloud.service(code=1)
    assert "is for 'gcp', not for 'aws'" in cloud.fk(
        "deploy", "service", str(cloud.out), "--provider", "aws", "--config", str(cloud.config), code=2
    )


def test_deployment_manager_is_asked_for_the_same(cloud: Cloud, gcp: Gcp) -> None:
    cloud.write({"deploy": {"with": "deployment-manager", "warm_writers": 1}})
    with backends.gcp(cloud.project) as mine:
        bucket = f"{cloud.name}-data-{cloud.project}"
        mine.storage().create_bucket(bucket)
        mine.storage().bucket(bucket).blob("b/1").upload_from_string(b"x")
    assert "create   gcp-types/pubsub-v1:projects.topics topic" in cloud.service("--dry-run")
    assert words(cloud.told())[-2:] == ["gcloud deployments cancel-preview", "gcloud deployments delete"]
    cloud.service()
    created = [each for each in cloud.told() if "create" in each["command"]][-1]  # a plan is one, too
    (resource,) = created["config"]["resources"]
    assert resource["type"] == "faaskeeper.py"
    assert resource["properties"]["codeBucket"] == f"{cloud.name}-deploy-{cloud.project}"
    assert resource["properties"]["warmWriters"] == 1
    assert len(resource["properties"]["made"]) == 14  # a role's name is not taken by a removed deployment
    assert json.loads(cloud.out.read_text())["gcp"]["worker-topic"] == f"{cloud.name}-worker"
    cloud.fk("deploy", "functions", str(cloud.out), "--yes", "--config", str(cloud.config))
    assert "gcloud deployments update" in words(cloud.told())
    assert "deleted 2 objects" in cloud.service("--clean")
    assert words(cloud.told())[-2:] == ["gcloud deployments update", "gcloud deployments delete"]


def test_the_uploaded_code_is_all_that_the_functions_need(cloud: Cloud, emulators: dict[str, str]) -> None:
    cloud.service()
    with backends.gcp(cloud.project) as gcp:
        stored = gcp.storage().bucket(f"{cloud.name}-deploy-{cloud.project}")
        (blob,) = stored.list_blobs(prefix="functions")
        archive = zipfile.ZipFile(io.BytesIO(blob.download_as_bytes()))
    source = cloud.directory / "code"
    archive.extractall(source)
    assert (source / "requirements.txt").read_bytes() == (
        ROOT / "deploy/gcp/functions/requirements.txt"
    ).read_bytes()
    names = archive.namelist()
    assert "faaskeeper/providers/gcp/functions.py" in names
    others = ("/aws/", "/cli/", "/client/", "/deploy/")
    assert not [each for each in names if any(folder in each for folder in others)]
    functions = {**json.loads(cloud.config.read_text()), "worker-queue": "pubsub"}
    environment = {
        **emulators,
        "FAASKEEPER_CONFIG": json.dumps(functions),
        "PYTHONPATH": str(source),
        "PYTHONSAFEPATH": "1",  # else this folder's own code would come first
    }
    target = Target("writer", source / "main.py", environment, cloud.directory / "said", free_port())
    target.start()
    try:
        target.wait()
        assert json.loads(target.call(None))["applied"] == 0
    finally:
        target.kill()


def well(cloud: Cloud) -> None:
    """Answers of a project in which nothing is missing."""
    listed = json.loads((ROOT / "deploy/gcp/resources.json").read_text())["services"]
    services = [{"config": {"name": each}, "state": "ENABLED"} for each in listed]
    cloud.answers = {
        "cloudresourcemanager": (200, {"lifecycleState": "ACTIVE"}),
        "cloudbilling": (200, {"billingEnabled": True}),
        "serviceusage": (200, {"services": services}),
        "monitoring": (200, {"timeSeries": [{"points": [{"value": {"int64Value": "3"}}]}]}),
        "run": (200, {"terminalCondition": {"type": "Ready", "state": "CONDITION_SUCCEEDED"}}),
        "cloudscheduler": (200, {"state": "ENABLED", "lastAttemptTime": "2026-11-27T06:00:00Z"}),
    }


def test_the_doctor_says_which_of_a_person_s_own_steps_are_missing(cloud: Cloud, gcp: Gcp) -> None:
    well(cloud)
    with backends.gcp(cloud.project) as mine:
        service = GcpService(Config.load(cloud.config), mine)
        begin(service.deployment(b"", worker_queue=None))
        service.initialize()
        backends.create_topic(mine, f"{cloud.name}-dead")
        backends.pull(mine, f"{cloud.name}-dead")
    said = cloud.fk("doctor", str(cloud.config), "--provider", "gcp")
    assert "FAIL" not in said
    for what in ("project", "billing", "services", "clock", "tree", "heartbeat", "log", "dead letters",
                 "functions: Cloud Run has all", "schedule: heartbeat was last called at 2026-11-27T06:",
                 "worker queue: the oldest request is waiting for 3 s", "session"):  # fmt: skip
        assert f"ok   {what}" in said, said
    disabled = {"config": {"name": "run.googleapis.com"}, "state": "DISABLED"}
    for service, answer, problem in (
        ("cloudresourcemanager", (403, {"error": {"message": "no"}}), "cloud.google.com/projectcreate"),
        ("cloudresourcemanager", (200, {"lifecycleState": "DELETE_REQUESTED"}), "restore it"),
        ("cloudbilling", (200, {}), "no billing account: link one"),
        ("serviceusage", (200, {"services": [disabled]}), "gcloud services enable run.googleapis.com"),
        ("serviceusage", (403, {}), "enable serviceusage.googleapis.com"),
        ("monitoring", (200, {"timeSeries": [{"points": [{"value": {"int64Value": "99"}}]}]}), "for 99 s"),
        ("run", (404, {}), f"{cloud.name}-writer does not exist"),
        ("run", (200, {"terminalCondition": {"state": "CONDITION_FAILED", "message": "it did not start"}}),
         f"{cloud.name}-heartbeat is not ready: it did not start"),
        ("cloudscheduler", (404, {}), f"there is no job {cloud.name}-beat"),
        ("cloudscheduler", (200, {"state": "PAUSED"}), f"gcloud scheduler jobs resume {cloud.name}-beat"),
        ("cloudscheduler", (200, {"state": "ENABLED", "status": {"code": 7}}), "with status 7"),
    ):  # fmt: skip
        well(cloud)
        cloud.answers[service] = answer
        said = cloud.fk("doctor", str(cloud.config), code=1)
        assert problem in said
        assert said.count("FAIL") == 1, said


def test_dead_letters_are_shown_sent_again_and_dropped(cloud: Cloud) -> None:
    with backends.gcp(cloud.project) as gcp:
        for short in ("dead", "worker"):
            backends.create_topic(gcp, f"{cloud.name}-{short}")
            backends.pull(gcp, f"{cloud.name}-{short}")
        assert "No dead letters" in cloud.fk("deadletters", str(cloud.config))
        for source in (f"{cloud.name}-worker", "elsewhere"):
            backends.dead_letter(gcp, f"{cloud.name}-dead", source, b"\0" * 40)
        shown = cloud.fk("deadletters", str(cloud.config))
        assert "worker" in shown
        assert "7 deliveries" in shown
        assert shown.count("40 bytes") == 2
        assert "sent 1 again, kept 1" in cloud.fk("deadletters", str(cloud.config), "--redrive")
        assert backends.pulled(gcp, f"{cloud.name}-worker") == [b"\0" * 40]
        assert "there is no terminal" in cloud.fk("deadletters", str(cloud.config), "--drop", code=2)
        assert "dropped 1" in cloud.fk("deadletters", str(cloud.config), "--drop", "--yes")
        assert "No dead letters" in cloud.fk("deadletters", str(cloud.config))
