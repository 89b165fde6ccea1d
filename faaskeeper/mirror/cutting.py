"""The cut-over: the source rests, both trees are equal, and the mirror ends.

The order is what makes it safe. First the target is made equal. Then the source is watched for
``quiet_s``: its stamps, its sequence counters and its children, of which also the creation and
deletion of an ephemeral tells. Only then both trees are read as a whole and compared by digest, and
the source is listed once more, so it has not changed since before the digests. Nothing keeps a
client from writing to the source afterwards: that its writers are stopped is the user's to see to,
which is why ephemerals, the sign of a running client, are refused.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from faaskeeper.mirror.copying import Wishes
from faaskeeper.mirror.errors import MirrorRefused, some
from faaskeeper.mirror.following import Running
from faaskeeper.mirror.trees import Fingerprint, Seen, Tree


class Done(NamedTuple):
    """A cut-over: the digest of both trees, how many znodes, and counters that were not raised."""

    digest: str
    znodes: int
    behind: dict[str, int]


def cut_over(running: Running, quiet_s: float, leave_ephemerals: bool) -> Done:
    """End a mirror. Raises MirrorRefused, with the mirror as it was, if the source is in use."""
    source, target = running.source, running.target
    source.client.sync("/")
    before = running.look()
    if running.copier.ephemerals and not leave_ephemerals:
        raise MirrorRefused(
            f"no cut-over: {source.name} has ephemerals, so clients use it: "
            f"{some(map(source.real, running.copier.ephemerals))}. Stop them, or --leave-ephemerals"
        )
    end = time.monotonic() + quiet_s
    while time.monotonic() < end and not running.changes.stopped:
        running.changes.wait(end)
        _unchanged(source, before, quiet_s)
    if running.changes.stopped:
        raise MirrorRefused("no cut-over: it was interrupted; the mirror stays as it is")
    _unchanged(source, before, quiet_s)
    ours, theirs = _digest(source, running.options.wishes), _digest(target, Wishes())
    if ours != theirs:
        raise MirrorRefused(
            f"no cut-over: the digests differ: {ours[0]} of {source.name}, {theirs[0]} of {target.name}. "
            "Run the mirror again, and tell its authors if it stays so"
        )
    _unchanged(source, before, quiet_s)
    running.marks.remove()
    return Done(theirs[0], theirs[1], running.behind)


def _digest(tree: Tree, wishes: Wishes) -> tuple[str, int]:
    """The digest of a tree with its ACLs as they are wished, and its number of znodes."""
    digest = Fingerprint()
    for path, node in tree.all():
        digest.add(path, node._replace(acl=wishes.acl(node.acl)))
    return digest.hexadecimal(), digest.number


def _unchanged(source: Tree, before: dict[str, Seen], quiet_s: float) -> None:
    source.client.sync("/")
    now = source.list_all()
    changed = [path for path in {*before, *now} if before.get(path) != now.get(path)]
    if changed:
        raise MirrorRefused(
            f"no cut-over: {source.name} still changes: {some(map(source.real, changed))} within "
            f"{quiet_s:g} s. Stop its writers and try again; the mirror stays as it is"
        )
