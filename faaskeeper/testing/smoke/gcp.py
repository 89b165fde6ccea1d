"""The gate's stage on Google Cloud: a client's account, and what the project lists."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any
from urllib.parse import quote

from google.auth import impersonated_credentials
from google.auth.credentials import Credentials
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import Request

from faaskeeper.config import Config
from faaskeeper.core.connection import Connection
from faaskeeper.core.drivers.storage import IfAbsent
from faaskeeper.core.errors import Denied, DriverError
from faaskeeper.deploy.gcp.rest import Missing, Rest
from faaskeeper.deploy.gcp.settling import WITHIN_S
from faaskeeper.providers.gcp.channels import PubsubClientChannel
from faaskeeper.providers.gcp.clients import SCOPES, Gcp
from faaskeeper.providers.gcp.objects import GcsStore
from faaskeeper.providers.gcp.queues import PubsubQueue
from faaskeeper.providers.gcp.service import GcpService, connect
from faaskeeper.testing.patience import PATIENCE_S
from faaskeeper.testing.smoke import gcpusage
from faaskeeper.testing.smoke.mortal import LAST
from faaskeeper.testing.smoke.report import Report, Used
from faaskeeper.testing.smoke.stage import Attempt, Failed, Files, Say, Stage

_POLL_S = 5.0
_IMPERSONATOR = "roles/iam.serviceAccountTokenCreator"
_REFUSED = ("403", "PERMISSION_DENIED")
_SHOWN = 120
"""Characters of a refusal that a report shows."""
_NOT_ENABLED = ("has not been used", "is disabled", "SERVICE_DISABLED")


class GcpStage(Stage):
    """A run on Google Cloud. The credentials are those of an owner of the project.

    A client acts as the deployment's account for clients, which the owner lets itself impersonate.
    """

    cloud = "Google Cloud"
    who = "by the caller"
    unreal = (
        ("the templates", "no emulator makes resources; a stand-in records what Terraform is asked for"),
        ("rights of functions and clients", "no emulator asks for any; what stands in checks calls by lists"),
        ("builds of the functions", "no emulator builds"),
    )

    def __init__(self, files: Files, data: dict[str, Any], say: Say) -> None:
        super().__init__(files, data, say)
        config = Config.deserialize(data)
        self._service = GcpService(config)
        self._gcp = self._service.gcp
        self._project = self._service.project
        self._region = config.deployment_region
        deploy = self._service.section.get("deploy")
        endpoint = str(deploy.get("endpoint", "")) if isinstance(deploy, Mapping) else ""
        self._endpoint = endpoint
        self._rest = Rest(self._gcp, endpoint)
        self._client: Gcp | None = None
        self._pause = 0.2 if self.emulated else _POLL_S

    @property
    def emulated(self) -> bool:
        return bool(self._endpoint or os.environ.get("DATASTORE_EMULATOR_HOST"))

    def _ask(self, service: str, path: str, body: Any = None) -> Any:
        return self._rest.call(service, path, body=body)[0]

    def _until(self, what: str, act: Callable[[], Any]) -> Any:
        """Repeat what is refused until Google knows a right everywhere. Raises Failed."""
        deadline = time.monotonic() + WITHIN_S
        while True:
            try:
                return act()
            except (DriverError, GoogleAuthError) as error:
                if time.monotonic() > deadline:
                    raise Failed(f"{what}: {error}") from error
            time.sleep(self._pause)

    # ---- accounts ------------------------------------------------------------------------

    def prepare(self, report: Report) -> str:
        """Nothing: an owner deploys."""
        report.facts["project"] = self._project
        report.untried("rights", "a deployer's rights", "the module deployer/ has to be applied by hand")
        return ""

    def deployer(self) -> Mapping[str, str]:
        return os.environ

    def own(self) -> Mapping[str, str]:
        return os.environ

    @property
    def _who(self) -> str:
        """The account of clients, by its last word."""
        return "direct" if self.direct else "client"

    def _account(self, who: str) -> str:
        return f"{self.name}-{who}@{self._project}.iam.gserviceaccount.com"

    def deployed(self, report: Report) -> None:
        report.facts["clients act as"] = self._account(self._who)
        if not self.emulated:
            for who in {"client", self._who}:
                self._grant(who)
        made = self._as_client()
        table = GcpService(self.clients, made).table("lease")
        self._until("a client's rights do not come to count", lambda: table.get("lease", "0"))

    def _grant(self, who: str) -> None:
        """Let the caller act as an account of clients; the grant goes with the account."""
        found = self._gcp.credentials()
        found.refresh(Request())
        told = self._ask("oauth2", f"tokeninfo?access_token={quote(found.token)}")
        kind = "serviceAccount" if str(told["email"]).endswith(".gserviceaccount.com") else "user"
        account = f"v1/projects/{self._project}/serviceAccounts/{self._account(who)}"
        policy = self._ask("iam", f"{account}:getIamPolicy", {})
        binding = {"role": _IMPERSONATOR, "members": [f"{kind}:{told['email']}"]}
        policy["bindings"] = [*policy.get("bindings", ()), binding]
        self._ask("iam", f"{account}:setIamPolicy", {"policy": policy})
        made = self._impersonated(who)
        self._until("the clients' account cannot be used", lambda: made.refresh(Request()))

    def _impersonated(self, who: str) -> Credentials:
        made: Credentials = impersonated_credentials.Credentials(
            source_credentials=self._gcp.credentials(),
            target_principal=self._account(who),
            target_scopes=list(SCOPES),
        )
        return made

    def _as_client(self) -> Gcp:
        if self._client is None:
            self._client = self.client_of(self._project, self._who)
        return self._client

    def client_of(self, project: str, who: str) -> Gcp:
        """Calls with the rights of an account of clients. ``who``: client or direct."""
        return Gcp(project) if self.emulated else Gcp(project, credentials=self._impersonated(who))

    def second(self, report: Report) -> str:
        """Nothing: Google keeps no versions of functions."""
        return ""

    # ---- the suites ----------------------------------------------------------------------

    def renew(self) -> None:
        """Nothing: Google's library renews impersonated credentials."""

    def connect(self, config: Config, port: int) -> Connection:
        return connect(config, port, self._as_client())

    def beat(self) -> None:
        """Run heartbeat's job, and wait until Cloud Scheduler has called the function."""
        job = f"v1/projects/{self._project}/locations/{self._region}/jobs/{self.name}-beat"
        before = self._ask("cloudscheduler", job).get("lastAttemptTime")
        self._ask("cloudscheduler", f"{job}:run", {})
        deadline = time.monotonic() + PATIENCE_S
        while self._ask("cloudscheduler", job).get("lastAttemptTime") == before:
            if time.monotonic() > deadline:
                raise Failed(f"Cloud Scheduler does not run {self.name}-beat")
            time.sleep(self._pause)

    def mortal(self) -> tuple[float, float]:
        return (3.0, 5.0) if self.emulated else (15.0, 30.0)

    def dying(self) -> None:
        """Nothing: Pub/Sub delivers again within seconds."""

    def deaths(self) -> int:
        chosen = f'resource.type="cloud_run_revision" AND resource.labels.service_name:"{self.name}-"'
        body = {
            "resourceNames": [f"projects/{self._project}"],
            "filter": f'{chosen} AND "{LAST}"',
            "pageSize": 1000,
        }
        return len(self._ask("logging", "v2/entries:list", body).get("entries", ()))

    def attempts(self) -> list[Attempt]:
        client = self.client_of(self._project, "client")
        try:
            return attempts(self.clients, client)
        finally:
            client.close()

    # ---- what it used, and what is left --------------------------------------------------

    def usage(self, began: float, ended: float) -> list[Used]:
        return gcpusage.usage(self._rest, self._project, Config.deserialize(self.data), began, ended)

    def left(self) -> list[str]:
        return listed(self._rest, self._project, self._region, self.name)

    def remove(self) -> str:
        """Nothing was made beside the deployment."""
        return ""

    def finished(self) -> str:
        """Nothing was made beside the deployment."""
        return ""

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
        self._rest.close()
        self._gcp.close()


# ---- what a client may not do --------------------------------------------------------------------


def attempts(config: Config, client: Gcp) -> list[Attempt]:
    """Try what no client may do, each for itself. ``client``: calls with a client's rights."""
    service = GcpService(config, client)
    names = service.names
    tries: dict[str, Callable[[], Any]] = {"read the deployment's key": service.key}
    for table in ("log", "checkpoint", "records", "heartbeat", "settings"):
        made = service.table(table)
        tries[f"write into {table}"] = partial(made.put, "smoke", "smoke", {"stamp": 1}, IfAbsent())
        tries[f"delete from {table}"] = partial(made.delete, "smoke", "smoke")
    store = GcsStore(client, str(service.section.get("data-bucket") or names.bucket(service.project)))
    try:
        store.put("b/smoke", b"1", absent=True)  # which a client may
    except DriverError:
        pass  # an earlier attempt has put it
    tries["replace data in the bucket"] = lambda: store.put("b/smoke", b"2")
    tries["delete data in the bucket"] = lambda: store.delete("b/smoke")
    for topic in ("worker", "distributor", "watch", "dead"):
        channel = PubsubClientChannel(client, names.topic(topic), f"{names.deployment}-smoke-")
        tries[f"listen to the topic {topic}"] = partial(channel.listen, lambda message: None)
    for topic in ("distributor", "watch", "clients", "dead"):
        queue = PubsubQueue(client, names.topic(topic), topic)
        tries[f"publish to the topic {topic}"] = partial(queue.send, "g", "1", b"smoke")
    return [Attempt(what, *_refusal(act)) for what, act in tries.items()]


def _refusal(act: Callable[[], Any]) -> tuple[bool, str]:
    try:
        act()
    except Denied as error:
        return any(each in str(error) for each in _REFUSED), str(error)[:_SHOWN]
    except DriverError as error:
        return False, f"it could not be tried: {error}"
    return False, "it was allowed"


# ---- what there is -------------------------------------------------------------------------------

_LISTS = (
    ("artifactregistry", "v1/projects/{project}/locations/{region}/repositories", "repositories", "name"),
    ("cloudfunctions", "v2/projects/{project}/locations/{region}/functions", "functions", "name"),
    ("cloudscheduler", "v1/projects/{project}/locations/{region}/jobs", "jobs", "name"),
    ("firestore", "v1/projects/{project}/databases", "databases", "name"),
    ("iam", "v1/projects/{project}/roles", "roles", "name"),
    ("iam", "v1/projects/{project}/serviceAccounts", "accounts", "email"),
    ("monitoring", "v1/projects/{project}/dashboards", "dashboards", "displayName"),
    ("monitoring", "v3/projects/{project}/alertPolicies", "alertPolicies", "displayName"),
    ("pubsub", "v1/projects/{project}/subscriptions", "subscriptions", "name"),
    ("pubsub", "v1/projects/{project}/topics", "topics", "name"),
    ("run", "v2/projects/{project}/locations/{region}/services", "services", "name"),
    ("storage", "storage/v1/b?project={project}", "items", "name"),
)
"""By service: the path that lists everything, and where in its answer names are."""


def listed(rest: Rest, project: str, region: str, name: str) -> list[str]:
    """What a project has of a deployment, by each service's list, and grants to its accounts."""
    found = []
    for service, path, key, field in _LISTS:
        for each in _pages(rest, service, path.format(project=project, region=region), key):
            called = str(each[field])
            if belongs(called, name):
                found.append(f"{service}: {called}")
    policy, _ = rest.call("cloudresourcemanager", f"v1/projects/{project}:getIamPolicy", body={})
    for binding in policy.get("bindings", ()):
        for member in binding["members"]:
            if member.rsplit(":", 1)[-1].startswith(f"{name}-"):
                found.append(f"grant: {binding['role']} to {member}")
    return sorted(found)


def _pages(rest: Rest, service: str, path: str, key: str) -> Iterator[Mapping[str, Any]]:
    token = ""
    while True:
        more = f"{'&' if '?' in path else '?'}pageToken={quote(token)}" if token else ""
        try:
            answer, _ = rest.call(service, f"{path}{more}")
        except Missing:
            return
        except Denied as error:
            if any(each in str(error) for each in _NOT_ENABLED):
                return  # nothing of a service can be there that is not enabled
            raise
        yield from answer.get(key, ())
        token = answer.get("nextPageToken", "")
        if not token:
            return


def belongs(called: str, name: str) -> bool:
    """Whether a name is of a deployment; the name is of the run alone."""
    last = called.rsplit("/", 1)[-1]
    return (
        last == name
        or last.startswith((f"{name}-", f"faaskeeper_{name.replace('-', '_')}_"))
        or last == f"FaaSKeeper {name}"
        or last.startswith(f"FaaSKeeper {name}:")
    )
