"""The commands by name: one line each, in :data:`COMMANDS` or :data:`DEPLOYMENT_COMMANDS`.

A line has the module, named after the command or its group, the function in it, and the first
sentence of the function's docstring, for lists of commands. So a command imports no other, and a
list of commands imports none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from faaskeeper import registry

if TYPE_CHECKING:
    import click


class Commands(Mapping[str, "click.Command"]):
    """Commands by name, imported on first use.

    ``lines``: maps a name to ``MODULE:NAME`` in this package, and to a sentence on the command.
    """

    def __init__(self, lines: Mapping[str, tuple[str, str]]) -> None:
        self._lines = lines

    def __getitem__(self, name: str) -> click.Command:
        command: click.Command = registry.load(f"{__name__}.{self._lines[name][0]}")
        return command

    def __contains__(self, name: object) -> bool:
        return name in self._lines

    def __iter__(self) -> Iterator[str]:
        return iter(self._lines)

    def __len__(self) -> int:
        return len(self._lines)

    def summary(self, name: str) -> str:
        """A sentence on a command, which is not imported for it."""
        return self._lines[name][1]


COMMANDS = Commands(
    {
        "addWatch": ("watches:add_watch", "Print every change of a path."),
        "addauth": ("auth:addauth", "Authenticate the session: addauth digest USER:PASSWORD."),
        "blame": (
            "history:blame",
            "Print who last changed each line of a node's data, or each value of JSON.",
        ),
        "cp": ("copy:cp", "Copy a node; with -r, all below it, too."),
        "create": ("nodes:create", "Create a node; its data defaults to empty."),
        "delete": ("nodes:delete", "Delete a node without children."),
        "deleteall": ("nodes:deleteall", "Delete a node and all nodes below it."),
        "diff": ("diff:diff", "Print how a node's data differs between two moments."),
        "digest": ("auth:digest", "Print the digest id of USER:PASSWORD."),
        "du": ("du:du", "Print how much data each tree has."),
        "edit": ("edit:edit", "Edit a node's data with $VISUAL or $EDITOR."),
        "exists": ("nodes:exists", "Check whether a node exists (exit status 3: no)."),
        "find": ("find:find", "Print the paths of nodes that meet conditions."),
        "get": ("get:get", "Print a node's data."),
        "getAcl": ("acl:get_acl", "Print a node's ACL, one entry per line."),
        "getAllChildrenNumber": ("ls:all_children_number", "Count the descendants of a node."),
        "getChildren": ("ls:ls", "List a node's children."),
        "getEphemerals": ("ls:get_ephemerals", "List this session's ephemerals with a path prefix."),
        "grep": ("grep:grep", "Print lines of data that match."),
        "history": (
            "history:history",
            "Print what happened to a node, or without PATH to all; newest first.",
        ),
        "logs": ("logs:logs", "Print recent logs of the deployment's functions."),
        "ls": ("ls:ls", "List a node's children."),
        "mv": ("copy:mv", "Move a node and all nodes below it."),
        "removeWatches": ("watches:remove_watches", "Remove this session's watches on a path."),
        "revert": (
            "diff:revert",
            "Give a node the data that it had: shows what would change, and does it with --yes.",
        ),
        "set": ("nodes:set_", "Replace a node's data."),
        "setAcl": ("acl:set_acl", "Replace a node's ACL."),
        "stat": ("nodes:stat", "Print a node's stat."),
        "sync": ("nodes:sync", "Make later reads see all committed writes."),
        "tree": ("tree:tree", "Print a node and all nodes below it as a tree."),
        "txn": ("txn:txn", "Run operations in one transaction: all of them, or none."),
        "watch": ("watch:watch", "Print each change of a path, in order, until interrupted."),
        "who": ("who:who", "Show who holds a lock, leads, or is a member, and who waits, in order."),
    }
)
"""Commands on znodes, available in the shell and as ``fk COMMAND``; with aliases."""
DEPLOYMENT_COMMANDS = Commands(
    {
        "backup": ("backup:backup", "Write a backup of a deployment, for fk restore."),
        "completion": ("completion:completion", "Print a completion script for your shell."),
        "cost": ("cost:cost", "Estimate the monthly costs of a deployment."),
        "deadletters": ("deadletters:deadletters", "List, resend or delete dead letters."),
        "deploy": ("deploy:deploy", "Create, update or remove a deployment on a cloud."),
        "doctor": ("doctor:doctor", "Check a deployment and suggest repairs."),
        "export": ("export:export", "Write the whole tree as JSON lines, for fk import."),
        "health": ("health:health", "Check that a server serves."),
        "import": ("import_:import_", "Create the nodes of a dump of fk export."),
        "init": ("init:init", "Write a configuration to FILE, by asking for what matters."),
        "lock": ("lock:lock", "Run a command while a lock is held."),
        "mirror": ("mirror:mirror", "Make the tree TARGET equal to the tree SOURCE, and keep it so."),
        "restore": (
            "restore:restore",
            "Set a deployment, new or in use, to the state of a backup or of a moment.",
        ),
        "serve": ("serve:serve", "Serve ZooKeeper clients such as kazoo and zkCli.sh."),
        "shell": ("shell:shell", "Open an interactive shell."),
        "ui": ("ui:ui", "Show a deployment in the browser: a live tree, its past, locks, the service."),
        "top": (
            "top:top",
            "Show writes, sessions, paths with most writes, lag, and the month's cost so far.",
        ),
    }
)
"""Commands that the shell does not offer: each selects a deployment, or has a session of its own."""
