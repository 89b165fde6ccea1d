"""Access control lists, with ZooKeeper's rules.

An ACL entry grants permissions to an *identity*, a pair of scheme and id. A client presents
*credentials*, pairs of scheme and secret or address. Only the writer sees them, and every other
process that can read a client's requests; they are never logged. Rules of ZooKeeper 3.8:
``ZooKeeperServer.checkACL``, ``PrepRequestProcessor.fixupACL`` and the providers in
``org.apache.zookeeper.server.auth``.

Schemes:

* ``world``: everybody;
* ``digest``: ``user:password``, stored as ``user:base64(sha1)``;
* ``ip``: an address, or a network with its prefix length;
* ``x509``: the subject of a certificate that a server has verified;
* ``auth``: in a request only: the client that sends it;
* ``super``: may do everything; a client gets it with the digest credentials of the deployment's
  super user.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Union

from faaskeeper.core.hashes import blake2b
from faaskeeper.core.znode import CONFIG, OPEN_ACL, Acl
from faaskeeper.core.znode import READ_ACL as READ_ACL

READ, WRITE, CREATE, DELETE, ADMIN, ALL = 1, 2, 4, 8, 16, 31

Identity = tuple[str, str]
"""Scheme, id."""
Credential = tuple[str, str]
"""Scheme, and the password or address that proves the identity."""

SuperUser = Union[str, Callable[[str, object], bool]]
"""The digest id of a deployment's super user ("": there is none), or a function that judges whether
an id is. Its second argument says who shows the id, so that one client's guesses can be bounded."""

MAX_CREDENTIALS_BYTES = 16 * 1024
"""Most bytes of the credentials of a request."""
MAX_ACL_BYTES = 64 * 1024
"""Most bytes of schemes and ids in an ACL: every logged image of its znode repeats it."""

ANYONE: Identity = ("world", "anyone")
SUPER: Identity = ("super", "")
SCHEMES = ("world", "auth", "digest", "ip", "x509")

CREATOR_ALL_ACL: tuple[Acl, ...] = ((ALL, "auth", ""),)


def digest(credential: str) -> str:
    """The id of ``user:password``: ``user:`` and the base64 of its SHA-1.

    The format is that of ``DigestAuthenticationProvider.generateDigest``, so ACLs set by other
    clients remain valid.
    """
    from base64 import b64encode
    from hashlib import sha1

    user = credential.split(":", 1)[0]
    return f"{user}:{b64encode(sha1(credential.encode()).digest()).decode()}"


def vouch(key: bytes, name: str, scheme: str = "x509") -> Credential:
    """A credential for the subject of a certificate or (scheme ``ip``) the address of a client.

    A server makes it after it has verified the name. It needs the deployment's key: anybody could
    claim a bare name, but only holders of the key can make this credential.
    """
    return scheme, f"{_voucher(key, name, scheme)}:{name}"


def _voucher(key: bytes, name: str, scheme: str) -> str:
    person = f"fk {scheme}".encode()
    return blake2b(name.encode(), digest_size=16, key=key, person=person).hexdigest()


def size_of(credentials: Iterable[Credential]) -> int:
    """Size of credentials in bytes. A request has at most :data:`MAX_CREDENTIALS_BYTES`."""
    return sum(len(scheme.encode()) + len(shown.encode()) for scheme, shown in credentials)


def identities(
    credentials: Iterable[Credential], super_user: SuperUser = "", key: bytes = b"", by: object = None
) -> tuple[Identity, ...]:
    """Identities that credentials prove. Credentials of an unknown scheme prove nothing.

    ``super_user``: of the deployment. ``key``: the deployment's key, which checks credentials made
    by :func:`vouch`; without it they prove nothing. ``by``: who shows them.
    """
    found: list[Identity] = []
    for scheme, shown in credentials:
        if scheme == "digest":
            found.extend(supers(((scheme, digest(shown)),), super_user, by))
            found.append((scheme, digest(shown)))
        elif scheme in ("ip", "x509") and key:
            voucher, _, name = shown.partition(":")
            from hmac import compare_digest

            if compare_digest(voucher.encode(), _voucher(key, name, scheme).encode()):
                found.append((scheme, name))
    return tuple(found)


def supers(who: Iterable[Identity], super_user: SuperUser, by: object) -> tuple[Identity, ...]:
    """:data:`SUPER` for each of the identities that is the super user's."""
    if not super_user:
        return ()
    ids = (id for scheme, id in who if scheme == "digest")
    if isinstance(super_user, str):
        from hmac import compare_digest

        return tuple(SUPER for id in ids if compare_digest(id.encode(), super_user.encode()))
    return tuple(SUPER for id in ids if super_user(id, by))


def effective(path: str, acl: tuple[Acl, ...]) -> tuple[Acl, ...]:
    """The ACL that applies to a path: its own, with one exception.

    Everybody gets at most READ on ``/zookeeper/config``: older deployments stored an open ACL
    there.
    """
    if path != CONFIG:
        return acl
    return tuple(
        (permissions & READ if (scheme, id) == ANYONE else permissions, scheme, id)
        for permissions, scheme, id in acl or OPEN_ACL
    )


def permits(acl: tuple[Acl, ...], permission: int, who: tuple[Identity, ...]) -> bool:
    """Whether an ACL grants one of the permissions to one of the identities.

    An empty ACL grants everything.
    """
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
    """The ACL to store: ``auth`` is replaced by the client's identities. None: invalid."""
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
    """The ACL to show: only identities with ADMIN on the znode see hashes of passwords."""
    return acl if permits(acl, ADMIN, who) else hidden(acl)


def hidden(acl: tuple[Acl, ...]) -> tuple[Acl, ...]:
    """An ACL without hashes of passwords."""
    return tuple(
        (permissions, scheme, f"{id.split(':', 1)[0]}:x" if scheme == "digest" else id)
        for permissions, scheme, id in acl
    )


def named(who: Iterable[Identity]) -> list[Identity]:
    """Identities to show to their owner, without hashes (ZooKeeper's whoAmI)."""
    return [(scheme, name.split(":", 1)[0] if scheme == "digest" else name) for scheme, name in who]


_LABELS, _LABEL_CHARACTERS = 4, 100
"""Bounds of what an entry says about who wrote: a client may claim any number of long names."""


def labels(credentials: Iterable[Credential], who: Iterable[Identity]) -> tuple[str, ...]:
    """Who a client is, for the log: the names of its identities, as scheme and name, no hashes.

    ``super`` alone for the super user. ``credentials``: those of ``who``. One of the scheme digest
    that lacks a name has the password in its place, and is left out.
    """
    nameless = {shown for scheme, shown in credentials if scheme == "digest" and ":" not in shown}
    if SUPER in who:
        return ("super",)
    found = (f"{scheme}:{name}" for scheme, name in named(who) if name not in nameless)
    return tuple(each[:_LABEL_CHARACTERS] for each in dict.fromkeys(found))[:_LABELS]


def _valid(scheme: str, id: str) -> bool:
    if scheme == "world":
        return id == "anyone"
    if scheme == "digest":
        return len(id.rstrip(":").split(":")) == 2  # as Java's split does
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
