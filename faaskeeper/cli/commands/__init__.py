"""The commands by name.

Each lives in a module named after it or its group, imported on first use.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from faaskeeper import registry

if TYPE_CHECKING:
    import click


class Commands(Mapping[str, "click.Command"]):
    """Commands by name. ``references``: maps a name to ``MODULE:NAME`` in this package."""

    def __init__(self, references: Mapping[str, str]) -> None:
        self._references = references

    def __getitem__(self, name: str) -> click.Command:
        command: click.Command = registry.load(f"{__name__}.{self._references[name]}")
        return command

    def __iter__(self) -> Iterator[str]:
        return iter(self._references)

    def __len__(self) -> int:
        return len(self._references)


COMMANDS = Commands(
    {
        "addWatch": "watches:add_watch",
        "addauth": "auth:addauth",
        "blame": "history:blame",
        "create": "nodes:create",
        "delete": "nodes:delete",
        "deleteall": "nodes:deleteall",
        "diff": "diff:diff",
        "digest": "auth:digest",
        "exists": "nodes:exists",
        "get": "nodes:get",
        "getAcl": "acl:get_acl",
        "getAllChildrenNumber": "ls:all_children_number",
        "getChildren": "ls:ls",
        "getEphemerals": "ls:get_ephemerals",
        "history": "history:history",
        "logs": "logs:logs",
        "ls": "ls:ls",
        "removeWatches": "watches:remove_watches",
        "revert": "diff:revert",
        "set": "nodes:set_",
        "setAcl": "acl:set_acl",
        "stat": "nodes:stat",
        "sync": "nodes:sync",
        "tree": "tree:tree",
    }
)
"""Commands on znodes, available in the shell and as ``fk COMMAND``; with aliases."""
DEPLOYMENT_COMMANDS = Commands(
    {
        "backup": "backup:backup",
        "cost": "cost:cost",
        "deadletters": "deadletters:deadletters",
        "deploy": "deploy:deploy",
        "doctor": "doctor:doctor",
        "export": "export:export",
        "import": "import_:import_",
        "init": "init:init",
        "restore": "restore:restore",
        "serve": "serve:serve",
        "shell": "shell:shell",
    }
)
"""Commands that the shell does not offer, because each selects a deployment by its arguments."""
