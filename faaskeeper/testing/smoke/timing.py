"""Latencies of a deployment, beside those of the model (docs/performance.md)."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from importlib.resources import files
from typing import Any

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from faaskeeper.testing.conformance.harness import Harness
from faaskeeper.testing.patience import PATIENCE_S

OPERATIONS = ("set", "create", "delete", "get", "watch")
QUANTILES = (0.5, 0.95, 0.99)
SIZE = 1024
"""Bytes of data, as in the model's table."""


def measured(harness: Harness, number: int) -> dict[str, list[float]]:
    """Milliseconds of each operation, of one client with one request at a time."""
    took: dict[str, list[float]] = {each: [] for each in OPERATIONS}
    data = b"x" * SIZE

    def time_of(operation: str, act: Callable[[], object]) -> None:
        began = time.perf_counter()
        act()
        took[operation].append((time.perf_counter() - began) * 1000)

    with harness.client() as client, harness.client() as watcher:
        assert isinstance(client, FaaSKeeperClient)
        root = client.create("/latency-", sequential=True).path
        client.create(f"{root}/a", data)
        client.create(f"{root}/w")
        client.set_data(f"{root}/w", b"")  # the first calls open connections, and start functions
        for _ in range(number):
            time_of("set", lambda: client.set_data(f"{root}/a", data))
            time_of("create", lambda: client.create(f"{root}/c", data))
            time_of("get", lambda: client.get_data(f"{root}/a"))
            time_of("delete", lambda: client.delete(f"{root}/c"))
            fired = threading.Event()
            watcher.get_data(f"{root}/w", lambda event, fired=fired: fired.set())  # type: ignore[misc]

            def change(fired: threading.Event = fired) -> None:
                client.set_data_async(f"{root}/w", b"")
                if not fired.wait(PATIENCE_S):
                    raise AssertionError("a watch does not fire")

            time_of("watch", change)
    return took


def percentiles(took: list[float]) -> list[float]:
    """The percentiles of the tables."""
    ordered = sorted(took)
    return [ordered[min(int(each * len(ordered)), len(ordered) - 1)] for each in QUANTILES]


def row_of(config: Config) -> str:
    """The name that the model's table has, or would have, for a configuration."""
    worker, distributor, channel = (
        each.value for each in (config.worker_queue, config.distributor_queue, config.client_channel)
    )
    section = config.provider_config.get("deploy", {})
    parts = [config.user_storage.value]
    if worker not in ("sqs", "pubsub"):
        parts.append(worker if worker == "direct" else f"worker queue {worker}")
    if distributor != "inline":
        parts.append(f"distributor behind {distributor}")
    if "inline" in (section.get("WatchFunction"), section.get("watch_function")):
        parts.append("watch inline")
    if parts == ["hybrid"]:
        return "hybrid, tcp" if channel == "tcp" else "hybrid (default)"
    if channel != "tcp" and worker != "direct":
        parts.append(f"client channel {channel}")
    return ", ".join(parts)


def modelled(config: Config) -> dict[str, list[float]]:
    """The model's percentiles by operation; empty where it has none for this configuration."""
    text = files(__package__).joinpath("modelled.json").read_text(encoding="utf-8")
    rows: dict[str, Any] = json.loads(text).get(config.provider_name, {})
    return dict(rows.get(row_of(config), {}))
