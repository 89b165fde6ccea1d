"""The commands in groups, for help."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "Nodes",
        (
            "create",
            "get",
            "set",
            "edit",
            "delete",
            "deleteall",
            "exists",
            "stat",
            "ls",
            "getChildren",
            "sync",
            "txn",
        ),
    ),
    ("Trees", ("tree", "find", "grep", "du", "cp", "mv", "getAllChildrenNumber")),
    ("History", ("history", "diff", "blame", "revert")),
    ("Watching and holding", ("watch", "lock", "who", "addWatch", "removeWatches", "getEphemerals")),
    ("Access", ("getAcl", "setAcl", "addauth", "digest")),
    ("Copies of deployments", ("backup", "restore", "export", "import", "mirror")),
    ("Deployments", ("init", "deploy", "doctor", "deadletters", "logs", "cost", "top")),
    ("Running", ("shell", "serve", "ui", "health", "completion")),
)
"""By heading, in the order in which they are shown."""
OTHERS = "Others"


def grouped(names: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    """These commands by heading; those without a group come last."""
    left = dict.fromkeys(names)
    for heading, members in GROUPS:
        found = [name for name in members if name in left]
        for name in found:
            del left[name]
        if found:
            yield heading, found
    if left:
        yield OTHERS, sorted(left)
