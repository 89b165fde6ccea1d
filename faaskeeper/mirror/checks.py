"""What keeps a source from being copied to a target, found before the target is changed.

Each problem is one line that says what is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from faaskeeper.core import acl as acls
from faaskeeper.core import paths
from faaskeeper.core.acl import Credential, Identity
from faaskeeper.core.znode import MAX_DATA_BYTES
from faaskeeper.exceptions import (
    MalformedInputException,
    NoAuthException,
    NodeExistsException,
    ZooKeeperException,
)
from faaskeeper.mirror.copying import Wishes
from faaskeeper.mirror.errors import MirrorRefused, some
from faaskeeper.mirror.trees import Tree, Znode, digest_of, hides_hashes

_SCHEMES = frozenset(acls.SCHEMES) - {"auth"}
_USUAL_MOST = 1_000_000
"""Bytes of data that a ZooKeeper server takes with its usual ``jute.maxbuffer``."""


def check(source: Tree, target: Tree, wishes: Wishes, shown: Sequence[Credential]) -> tuple[list[str], int]:
    """Read the whole source; returns its paths, and how many znodes are to be copied.

    ``shown``: the credentials for the target. Raises MirrorRefused with every problem, and
    NoAuthException where the source may not be read.
    """
    who = _identities(target, shown)
    hidden, foreign, locked, large, long = [], [], [], [], []
    found: list[str] = []
    copied = lives = 0
    most = MAX_DATA_BYTES if target.shows_kinds else _USUAL_MOST
    for path, node in _read(source):
        found.append(path)
        if node.seen.owner:
            continue
        copied += 1
        real, acl = source.real(path), wishes.acl(node.acl)
        if hides_hashes(node.acl):
            hidden.append(real)
        if target.shows_kinds and not {scheme for _, scheme, _ in acl} <= _SCHEMES:
            foreign.append(real)
        if not all(acls.permits(acl, 1 << bit, who) for bit in range(5)):
            locked.append(real)
        if len(node.data or b"") > most:
            large.append(real)
        if paths.overlong(target.real(path)):
            long.append(real)
        lives += wishes.ttl(path, node) > 0
    problems = [
        (
            hidden,
            f"{source.name} hides password hashes in the ACLs of {{}}: --source-auth needs ADMIN there, "
            "or the super user",
        ),
        (
            foreign,
            f"{target.name} does not know the schemes in the ACLs of {{}}: --map-id replaces ids, as in "
            "--map-id sasl:kafka=digest:kafka:HASH",
        ),
        (
            locked,
            f"{target.name} would not let the mirror change {{}} once they have their ACLs: "
            "--target-auth needs all permissions there, or the super user",
        ),
        (large, f"{{}} have more than {most} bytes of data, which {target.name} does not take"),
        (long, f"{{}} would have paths of more than {paths.MAX_PATH_BYTES} bytes in {target.name}"),
    ]
    said = [text.format(some(which)) for which, text in problems if which]
    said += _without_lives(target, lives)
    if said:
        raise MirrorRefused(f"nothing was copied. {'. '.join(said)}")
    return found, copied


def _read(source: Tree) -> Iterable[tuple[str, Znode]]:
    try:
        yield from source.all()
    except NoAuthException as error:
        raise MirrorRefused(
            f"nothing was copied. {source.name} does not let the mirror read {error.path}: --source-auth "
            "needs READ there, or the super user"
        ) from error


def _identities(target: Tree, shown: Sequence[Credential]) -> tuple[Identity, ...]:
    """The identities that the target has for the mirror, with hashes."""
    try:
        named = target.client.who_am_i()
    except ZooKeeperException:  # a server before 3.7: it may know the super user and not say so
        named = []
    supers = (acls.SUPER,) if any(scheme == "super" for scheme, _ in named) else ()
    addresses = tuple(each for each in named if each[0] == "ip")
    return (*supers, *addresses, *acls.identities(shown))


def _without_lives(target: Tree, lives: int) -> list[str]:
    """Whether a ZooKeeper server has times to live: it says so before it looks at a path."""
    if not lives or target.shows_kinds:
        return []
    try:
        target.client.create("/zookeeper", ttl=1000)
    except (NodeExistsException, NoAuthException, MalformedInputException):
        return []
    except ZooKeeperException as error:
        return [f"{lives} znodes have times to live, and {error}"]
    return []


def check_target(source: Tree, target: Tree, since: int) -> int:
    """Refuse a target that somebody else changed after the mirror's last write.

    ``since``: the zxid of that write, or -1 if the target is no mirror of this source: then it must
    be empty. Returns its number of znodes. Raises MirrorRefused.
    """
    number = 0
    others: list[str] = []
    for path, node in target.all():
        number += 1
        if since < 0:
            fresh = bool(path or node.data)
        else:
            fresh = node.seen.stamp.mzxid > since and not _equal(source.read(path), node)
        if fresh:
            others.append(target.real(path))
    if others and since < 0:
        raise MirrorRefused(
            f"nothing was copied. {target.name} is not empty and no mirror of {source.name}: it has "
            f"{some(others)}. --overwrite makes it equal to the source, which deletes what only it has"
        )
    if others:
        raise MirrorRefused(
            f"nothing was copied. {some(others)} in {target.name} were changed by somebody else since the "
            "mirror's last write. --overwrite makes the target equal to the source"
        )
    return number


def _equal(source: Znode | None, target: Znode) -> bool:
    if source is None or source.seen.owner:
        return False
    return digest_of(source.data) == digest_of(target.data)
