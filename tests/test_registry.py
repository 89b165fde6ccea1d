"""The registry of providers: what it names is there, and is imported only when it is used."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from faaskeeper import registry
from faaskeeper.config import CloudProvider, Config, ConfigurationException, QueueType
from faaskeeper.deploy.providers import costs_of, dead_letters_of, deployment_of, priced
from faaskeeper.exceptions import ProviderException
from tests.test_imports import loaded


def install(monkeypatch: pytest.MonkeyPatch, *entries: tuple[str, str]) -> None:
    """Have providers installed, by name and reference."""
    found = [EntryPoint(name, value, registry.ENTRY_POINTS) for name, value in entries]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: found)


def test_every_part_that_the_registry_names_is_there() -> None:
    for spec in registry.PROVIDERS.values():
        assert callable(registry.load(spec.connection).connect)
        for reference in (spec.service, spec.deployment, spec.doctor, spec.dead_letters, spec.costs):
            assert not reference or callable(registry.load(reference))


def test_what_can_be_deployed_can_be_checked_and_has_dead_letters() -> None:
    assert registry.deployable() == ["aws", "gcp"]
    for name in registry.deployable():
        spec = registry.PROVIDERS[name]
        assert spec.service
        assert spec.doctor
        assert spec.dead_letters
    assert priced() == ["aws", "gcp"]


def test_built_in_providers_are_found_without_a_search_for_packages() -> None:
    data = {"cloud-provider": "aws", "deployment-name": "some", "deployment-region": "here"}
    modules = loaded(f"from faaskeeper.config import Config; Config.deserialize({data})")
    assert "importlib.metadata" not in modules
    assert not any(name.startswith(("faaskeeper.providers", "faaskeeper.deploy")) for name in modules)


def test_an_installed_provider_is_found_by_its_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, ("mine", "tests.test_registry:Mine.provider"), ("aws", "not.this.one"))
    config = Config.deserialize(
        {"cloud-provider": "mine", "deployment-name": "some", "worker-queue": "sqs", "mine": {"key": 1}}
    )
    assert registry.load(config.provider_spec.connection) is Mine.provider
    assert config.cloud_provider is CloudProvider.OTHER
    assert config.worker_queue is QueueType.SQS
    assert config.distributor_queue is QueueType.INLINE
    assert config.written_directly().worker_queue is QueueType.DIRECT
    assert registry.names() == ["local", "aws", "gcp", "zookeeper", "mine"]
    assert registry.PROVIDERS["aws"] is registry.find("aws")


def test_a_name_without_a_provider_is_refused_with_the_names_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install(monkeypatch, ("zoo", "zoo"), ("mine", "mine"))
    for name in ("azure", "", None, 1, ["aws"]):
        with pytest.raises(
            ConfigurationException, match="one of 'local', 'aws', 'gcp', 'zookeeper', 'mine', 'zoo', or"
        ):
            Config.deserialize({"cloud-provider": name, "deployment-name": "some"})


def test_tools_that_a_provider_does_not_have_are_refused_with_the_providers_that_have_them() -> None:
    config = Config.local("/nowhere")
    for tool in (deployment_of, dead_letters_of):
        with pytest.raises(ProviderException, match=r"cannot deploy to 'local': .* 'aws', 'gcp'$"):
            tool(config)
    assert costs_of(config) is None


class Mine:
    """A module's object that stands for an installed provider."""

    provider = object()
