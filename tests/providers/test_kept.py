"""An embedded service keeps as much of the past as its configuration says, and no more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.clocks import clock
from faaskeeper.config import Config
from faaskeeper.core.errors import DriverError
from faaskeeper.core.sweeping import DAY_MS
from faaskeeper.exceptions import BeforeHistoryException
from faaskeeper.providers.local.kept import used
from faaskeeper.providers.local.service import EmbeddedService


def configured(directory: Path, **settings: Any) -> Config:
    return Config.deserialize(
        {
            "cloud-provider": "local",
            "deployment-name": "x",
            "directory": str(directory),
            "local": settings,
            **({"user-storage": settings.pop("storage")} if "storage" in settings else {}),
        }
    )


def client_of(service: EmbeddedService, config: Config) -> FaaSKeeperClient:
    return FaaSKeeperClient(config, connect=lambda config, port: service.connection(port, lambda: None))


def test_the_log_takes_as_many_bytes_as_are_configured(tmp_path: Path) -> None:
    most = 2_000_000
    config = configured(tmp_path, **{"history-bytes": most})
    service = EmbeddedService(config, tmp_path, beat=False)
    service.deployment.save_every = 1
    with client_of(service, config) as client:
        client.create("/a", b"the oldest")
        for number in range(90):
            client.set_data("/a", bytes([number]) * 50_000)
        assert used(service._log_file) > 2 * most
        service.heartbeat.sweep()
        assert used(service._log_file) <= most
        keeper = service.deployment.keeper
        assert keeper is not None
        horizon = keeper.of("/a").horizon
        assert 50 <= horizon < 92
        assert client.get_data("/a", at=horizon).data == bytes([horizon - 3]) * 50_000
        assert client.get_data("/a").data == bytes([89]) * 50_000
        size = (tmp_path / "log.db").stat().st_size
        for number in range(30):
            client.set_data("/a", bytes([number]) * 50_000)
        service.heartbeat.sweep()
        assert (tmp_path / "log.db").stat().st_size <= size  # what was trimmed is used again
    service.stop()


@pytest.mark.parametrize("storage", ["key-value", "hybrid", "persistent"])
def test_the_log_is_kept_for_as_many_days_as_are_configured(tmp_path: Path, storage: str) -> None:
    config = configured(tmp_path, storage=storage, **{"history-days": 3})
    now = [clock()]
    service = EmbeddedService(config, tmp_path, clock=lambda: now[0], steady=lambda: now[0], beat=False)
    service.deployment.save_every = 1
    with client_of(service, config) as client:
        written: dict[int, tuple[int, bytes]] = {}
        client.create("/a")
        for day in range(12):
            data = bytes([day]) * (100_000 if storage != "key-value" else 100)
            written[client.set_data("/a", data).stat.mzxid] = day, data
            client.set_data("/b" if client.exists("/b") else client.create("/b").path, b"")
            now[0] += DAY_MS
            client.sync()
            service.heartbeat.sweep()
        for txid, (day, data) in written.items():
            age = 12 - day
            if age <= 3:
                assert client.get_data("/a", at=txid).data == data
            elif age > 3 * 7 // 5 + 2:
                with pytest.raises(BeforeHistoryException):
                    client.get_data("/a", at=txid)
    service.stop()


def test_large_data_that_was_replaced_stays_as_long_as_its_entry(tmp_path: Path) -> None:
    config = configured(tmp_path, storage="hybrid", **{"history-days": 20})
    now = [clock()]
    service = EmbeddedService(config, tmp_path, clock=lambda: now[0], steady=lambda: now[0], beat=False)
    with client_of(service, config) as client:
        client.create("/a", b"1" * 100_000)
        written = client.set_data("/a", b"2" * 100_000).stat.mzxid
        for day in range(60):
            if day == 8:
                replaced = client.set_data("/a", b"3").stat.mzxid
            client.set_data("/b" if client.exists("/b") else client.create("/b").path, b"")
            now[0] += DAY_MS
            client.sync()
            service.heartbeat.sweep()
            if 8 <= day < 26:
                assert client.get_data("/a", at=replaced - 1).data == b"2" * 100_000
        with pytest.raises(BeforeHistoryException):
            client.get_data("/a", at=written)
    assert not [each for each in tmp_path.rglob("*") if each.is_file() and each.stat().st_size == 100_000]
    service.stop()


@pytest.mark.parametrize(
    "settings", [{"history-days": -1}, {"history-days": "7"}, {"history-bytes": -1}, {"history-bytes": "1GB"}]
)
def test_a_wrong_retention_is_named(tmp_path: Path, settings: dict[str, Any]) -> None:
    (name,) = settings
    with pytest.raises(DriverError, match=f"'{name}' in the section 'local' is"):
        EmbeddedService(configured(tmp_path, **settings), tmp_path)
