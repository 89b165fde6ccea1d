"""Commands are found by name, and a command costs no more imports than its own."""

from __future__ import annotations

from faaskeeper.cli.commands import COMMANDS, DEPLOYMENT_COMMANDS
from tests.test_imports import loaded

ALIASES = {"getChildren": "ls"}


def test_every_name_is_that_of_its_command_or_an_alias() -> None:
    assert not set(COMMANDS) & set(DEPLOYMENT_COMMANDS)
    for commands in (COMMANDS, DEPLOYMENT_COMMANDS):
        for name in commands:
            assert commands[name].name == ALIASES.get(name, name)


def test_lists_say_of_a_command_what_its_help_says_first() -> None:
    for commands in (COMMANDS, DEPLOYMENT_COMMANDS):
        for name in commands:
            assert commands.summary(name) == commands[name].get_short_help_str(limit=1000)


def test_listing_the_commands_imports_none() -> None:
    modules = loaded("import faaskeeper.cli.main as m; m.fk(['--help'], standalone_mode=False)")
    assert "faaskeeper.cli.commands" in modules
    assert not any(each.startswith("faaskeeper.cli.commands.") for each in modules)


def test_a_command_is_imported_when_it_is_used_and_no_other_with_it() -> None:
    modules = loaded("import faaskeeper.cli.main as m; m.fk.get_command(None, 'get')")
    commands = {each for each in modules if each.startswith("faaskeeper.cli.commands.")}
    assert commands == {"faaskeeper.cli.commands.get"}
    assert not any(each.startswith("faaskeeper.deploy") for each in modules)
    assert modules.isdisjoint({"prompt_toolkit", "rich", "asyncio"})


def test_a_command_of_deployment_imports_no_cloud_until_it_knows_which() -> None:
    modules = loaded("import faaskeeper.cli.main as m; m.fk.get_command(None, 'deploy')")
    assert "faaskeeper.deploy.providers" in modules
    assert not any(each.startswith(("faaskeeper.deploy.aws", "faaskeeper.deploy.gcp")) for each in modules)
    assert modules.isdisjoint({"boto3", "google", "rich"})


def test_the_checks_of_an_embedded_service_need_no_package_of_a_cloud() -> None:
    modules = loaded("import faaskeeper.cli.commands.doctor, faaskeeper.deploy.local")
    assert modules.isdisjoint({"boto3", "cryptography", "google"})
    assert not any(each.startswith("faaskeeper.providers.cloud") for each in modules)
