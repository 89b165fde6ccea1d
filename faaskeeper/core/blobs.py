"""Blobs: the objects that hold data above the inline limit, and what their names say.

A name tells when the blob was made, for which path, and who made what: the session that stored it, and the
digest of the data. So the writer can refuse a reference to anything but a session's own data for that very
path, a reader can tell whether an object is what was written, and heartbeat can find out, long after,
whether anything refers to it (``docs/architecture/storage.md``, *Data in blobs*).
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from hashlib import blake2b
from hmac import compare_digest
from typing import NamedTuple

from faaskeeper.core.storage import ObjectStore

PREFIX = "b/"

TOKEN_BYTES = 3
"""Random bytes that tell blobs of one session, path, content and millisecond apart."""
_DIGEST_BYTES = 16
TRIES = 3
"""How often a reader looks for a znode's data before it says that it is lost. Whoever read the record long
ago finds its blob swept; that is done a day after the record was replaced, so the next look shows another."""

_NAME = (  # compiled when first used: most programs store nothing that large
    r"(?as)b/(?P<made>[0-9]{13})/"
    r"(?:(?P<session>[0-9a-f]{1,16})\.[\w-]{4}\.(?P<digest>[\w-]{22})|[0-9a-f]{1,64})"
    r"/(?P<kind>[sn])(?P<path>/.*)"
)


class BlobName(NamedTuple):
    """What a blob's name says: when it was made (ms), for which path, and whether that lacks a sequence
    number; the session that stored it, and the digest of its data.

    Names that older versions made do not tell the last two: 0 and "".
    """

    made: int
    path: str
    sequential: bool
    session: int
    digest: str


def digest(data: bytes) -> str:
    """Digest of a blob's data: BLAKE2b, 128 bits, as 22 characters (base64 of RFC 4648, section 5)."""
    code = blake2b(data, digest_size=_DIGEST_BYTES, person=b"fk blob").digest()
    return urlsafe_b64encode(code).decode().rstrip("=")


def blob_name(made: int, token: bytes, session: int, data: bytes, path: str, sequential: bool = False) -> str:
    """Name of a blob: when it was made (ms), :data:`TOKEN_BYTES` random bytes, the session that stores it,
    the digest of its data, and the path it is for. At most 62 bytes longer than the path.

    The number of a sequential znode is not known when its blob is stored: it is named by the path
    without it, and marked.
    """
    random = urlsafe_b64encode(token).decode()
    kind = "s" if sequential else "n"
    return f"{PREFIX}{made:013d}/{session:x}.{random}.{digest(data)}/{kind}{path}"


def parse_blob_name(name: str) -> BlobName | None:
    """What a blob's name says; None where it is not one that :func:`blob_name` makes or ever made."""
    parts = re.fullmatch(_NAME, name)
    if parts is None:
        return None
    made, session, digest, kind, path = parts.group("made", "session", "digest", "kind", "path")
    return BlobName(int(made), path, kind == "s", int(session or "0", 16), digest or "")


def read_blob(store: ObjectStore | None, name: str, length: int) -> bytes | None:
    """The data of a znode that names a blob, ``length`` bytes; None where it is not there, or is not what was
    written. Raises what the store raises.
    """
    said = parse_blob_name(name)
    found = None if said is None or store is None else store.get(name)
    if said is None or found is None or len(found.body) != length:
        return None
    if said.digest and not compare_digest(said.digest, digest(found.body)):
        return None
    return found.body


def lost(path: str, name: str) -> str:
    """What a user is told when a znode's data is gone."""
    return (
        f"the data of {path} is lost: the object {name!r} is not there, or is not what was written; "
        "set the data anew, or restore the store of objects from a backup"
    )
