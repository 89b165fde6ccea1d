"""What is in the topics of a deployment on the emulators, for another client that has subscribed to them."""

from __future__ import annotations

import threading
import time

from faaskeeper.exceptions import NoAuthException
from faaskeeper.providers.gcp.queues import subscription_path, topic_path
from faaskeeper.testing.patience import PATIENCE_S
from tests.gcp.system import System
from tests.providers.test_envelopes import ALICE, DATA, PASSWORD, where


def test_who_subscribes_to_every_topic_reads_no_secret_no_credential_and_no_data(
    emulators: dict[str, str],
) -> None:
    system = System(emulators, {})
    gcp = system.gcp
    try:
        for short in ("worker", "clients"):
            gcp.subscriber().create_subscription(
                name=subscription_path(gcp.project, f"spy-{short}"),
                topic=topic_path(gcp.project, f"{system.name}-{short}"),
            )
        secrets = []
        with system.client() as alice, system.client() as bob:
            alice.add_auth("digest", ALICE)
            alice.create("/private", DATA, acl=[(31, "auth", "")])
            told = threading.Event()
            alice.get_data("/private", lambda event: told.set())
            try:
                bob.set_data("/private", b"")
            except NoAuthException:
                pass
            alice.set_data("/private", DATA * 2)
            assert told.wait(PATIENCE_S)
            secrets = [client.ticket.secret for client in (alice, bob) if client.ticket is not None]
        seen: dict[str, list[bytes]] = {}
        for short in ("worker", "clients"):
            bodies: list[bytes] = []
            deadline = time.monotonic() + PATIENCE_S
            while len(bodies) < 6 and time.monotonic() < deadline:
                got = gcp.subscriber().pull(
                    subscription=subscription_path(gcp.project, f"spy-{short}"), max_messages=100
                )
                bodies += [each.message.data for each in got.received_messages]
            assert len(bodies) >= 6
            seen[short] = bodies
        assert len(secrets) == 2
        for value in (*secrets, PASSWORD.encode(), DATA):
            assert where(value, seen) == set()
    finally:
        system.stop()
