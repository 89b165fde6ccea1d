"""Who may do what: ZooKeeper's access control lists.

An ACL entry gives permissions to an *identity*, a pair of scheme and id. What a client shows for itself
are *credentials*, a pair of scheme and secret or address; only the writer (and whoever else may read a
client's requests) sees them, and the log never does. Rules of ZooKeeper 3.8: ``ZooKeeperServer.checkACL``,
``PrepRequestProcessor.fixupACL`` and the providers in ``org.apache.zookeeper.server.auth``.

Schemes: ``world`` (everybody), ``digest`` (``user:password``, kept as ``user:base64(sha1)``), ``ip`` (an
address, or a network with its prefix length), ``x509`` (the subject of a certificate that a server has
verified), ``auth`` (in a request only: whoever asks), and ``super`` (may do everything; who shows the digest
credentials of the deployment's super user).
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from hashlib import blake2b, sha1
from hmac import compare_digest

from faaskeeper.core.znode import CONFIG, OPEN_ACL, Acl
from faaskeeper.core.znode import READ_ACL as READ_ACL

READ, WRITE, CREATE, DELETE, ADMIN, ALL = 1, 2, 4, 8, 16, 31

Identity = tuple[str, str]
"""Scheme, id."""
Credential = tuple[str, str]
"""Scheme, and the password or address that proves it."""

MAX_CREDENTIALS_BYTES = 16 * 1024
"""Most bytes of the credentials under which a request is asked for."""
MAX_ACL_BYTES = 64 * 1024
"""Most bytes of schemes and ids in an ACL: it stands in everything that is logged of its znode."""

ANYONE: Identity = ("world", "anyone")
SUPER: Identity = ("super", "")
SCHEMES = ("world", "auth", "digest", "ip", "x509")

CREATOR_ALL_ACL: tuple[Acl, ...] = ((ALL, "auth", ""),)


def digest(credential: str) -> str:
    """The id of ``user:password``: ``user:`` and the base64 of its SHA-1.

    The format is ``DigestAuthenticationProvider.generateDigest``'s, so that ACLs of other clients hold.
    """
    user = credential.split(":", 1)[0]
    return f"{user}:{b64encode(sha1(credential.encode()).digest()).decode()}"


def vouch(key: bytes, name: str, scheme: str = "x509") -> Credential:
    """The credential of a certificate's subject or (scheme ``ip``) a client's address, by a server that has
    seen it and holds the deployment's key.

    A name alone would be anybody's to claim: this one only holders of the key can make.
    """
    return scheme, f"{_voucher(key, name, scheme)}:{name}"


def _voucher(key: bytes, name: str, scheme: str) -> str:
    person = f"fk {scheme}".encode()
    return blake2b(name.encode(), digest_size=16, key=key, person=person).hexdigest()


def size_of(credentials: Iterable[Credential]) -> int:
    """How many bytes credentials take; a request is asked for under :data:`MAX_CREDENTIALS_BYTES` at most."""
    return sum(len(scheme.encode()) + len(shown.encode()) for scheme, shown in credentials)


def identities(
    credentials: Iterable[Credential], super_digest: str = "", key: bytes = b""
) -> tuple[Identity, ...]:
    """Identities that credentials prove. ``super_digest``: the id of the deployment's super user, if any.
    ``key``: the deployment's, by which certificates and addresses are vouched for.

    A scheme that is not known proves nothing.
    """
    found: list[Identity] = []
    for scheme, shown in credentials:
        if scheme == "digest":
            identity = digest(shown)
            if super_digest and identity == super_digest:
                found.append(SUPER)
            found.append((scheme, identity))
        elif scheme in ("ip", "x509") and key:
            voucher, _, name = shown.partition(":")
            if compare_digest(voucher.encode(), _voucher(key, name, scheme).encode()):
                found.append((scheme, name))
    return tuple(found)


def effective(path: str, acl: tuple[Acl, ...]) -> tuple[Acl, ...]:
    """The ACL that holds for a path: its own; but nothing gives everybody more than READ of
    ``/zookeeper/config``, which was open to all in deployments made before.
    """
    if path != CONFIG:
        return acl
    return tuple(
        (permissions & READ if (scheme, id) == ANYONE else permissions, scheme, id)
        for permissions, scheme, id in acl or OPEN_ACL
    )


def permits(acl: tuple[Acl, ...], permission: int, who: tuple[Identity, ...]) -> bool:
    """Whether an ACL gives one of the permissions to one of the identities. An empty ACL gives all."""
    if acl is OPEN_ACL or not acl:
        return True
    if SUPER in who:
        return True
    for given, scheme, id in acl:
        if not given & permission:
            continue
        if (scheme, id) == ANYONE:
            return True
        for known, name in who:
            if known == scheme and (name == id or (scheme == "ip" and _within(name, id))):
                return True
    return False


def fixed(acl: tuple[Acl, ...], who: tuple[Identity, ...]) -> tuple[Acl, ...] | None:
    """The ACL as it is kept, with ``auth`` replaced by who asks; None where it is not a valid one."""
    if acl is OPEN_ACL:
        return acl
    kept: dict[Acl, None] = {}
    proven = [(known, name) for known, name in who if known in ("digest", "x509")]
    for permissions, scheme, id in dict.fromkeys(acl):
        if scheme == "auth":
            if not proven:
                return None
            kept.update(((permissions, known, name), None) for known, name in proven)
        elif _valid(scheme, id):
            kept[permissions, scheme, id] = None
        else:
            return None
    fits = sum(len(scheme) + len(id.encode()) for _, scheme, id in kept) <= MAX_ACL_BYTES
    return tuple(kept) if kept and fits else None


def masked(acl: tuple[Acl, ...], who: tuple[Identity, ...]) -> tuple[Acl, ...]:
    """The ACL as it is shown: hashes of passwords only to who may administrate the znode."""
    if permits(acl, ADMIN, who):
        return acl
    return tuple(
        (permissions, scheme, f"{id.split(':', 1)[0]}:x" if scheme == "digest" else id)
        for permissions, scheme, id in acl
    )


def named(who: Iterable[Identity]) -> list[Identity]:
    """Identities as they are shown to their owner, without hashes (ZooKeeper's whoAmI)."""
    return [(scheme, name.split(":", 1)[0] if scheme == "digest" else name) for scheme, name in who]


def _valid(scheme: str, id: str) -> bool:
    if scheme == "world":
        return id == "anyone"
    if scheme == "digest":
        return len(id.rstrip(":").split(":")) == 2  # as Java splits
    if scheme == "x509":
        return bool(id)
    return scheme == "ip" and _network(id) is not None


def _network(id: str) -> object:
    from ipaddress import ip_network

    try:
        return ip_network(id, strict=False)
    except ValueError:
        return None


def _within(address: str, id: str) -> bool:
    from ipaddress import ip_address, ip_network

    try:
        return ip_address(address) in ip_network(id, strict=False)
    except ValueError:
        return False
