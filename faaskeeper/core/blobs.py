"""Blobs: the objects that hold data above the inline limit, and what their names contain.

A name contains when the blob was made, for which path, by which session, and the digest of the
data. So the writer can refuse a reference to anything but the session's own data for that path, a
reader can verify that an object is what was written, and heartbeat can find out much later whether
anything refers to it (``docs/architecture/storage.md``, *Data in blobs*).
"""

from __future__ import annotations

import re

from faaskeeper.core.drivers.storage import ObjectStore
from faaskeeper.core.hashes import blake2b
from faaskeeper.core.tuples import NamedTuple

PREFIX = "b/"

TOKEN_BYTES = 3
"""Random bytes that distinguish blobs of the same session, path, content and millisecond."""
_DIGEST_BYTES = 16
TRIES = 3
"""How often a reader looks for a znode's data before it reports the data as lost. If the reader got
its record long ago, the blob may have been swept. That happens a day after the record was replaced,
so the next read returns another record."""

_NAME = (  # compiled at first use: most programs store no data that large
    r"(?as)b/(?P<made>[0-9]{13})/"
    r"(?:(?P<session>[0-9a-f]{1,16})\.[\w-]{4}\.(?P<digest>[\w-]{22})|[0-9a-f]{1,64})"
    r"/(?P<kind>[sn])(?P<path>/.*)"
)


class BlobName(NamedTuple):
    """The contents of a blob's name.

    ``made``: when it was made, in ms. ``path``: the znode's, without its sequence number if
    ``sequential``. ``session``: the session that stored it. ``digest``: of its data. Names made by
    older versions lack the last two: 0 and "".
    """

    made: int
    path: str
    sequential: bool
    session: int
    digest: str


def digest(data: bytes) -> str:
    """Digest of a blob's data: BLAKE2b, 128 bits, as 22 characters.

    The alphabet is that of base64 in RFC 4648, section 5.
    """
    from base64 import urlsafe_b64encode

    code = blake2b(data, digest_size=_DIGEST_BYTES, person=b"fk blob").digest()
    return urlsafe_b64encode(code).decode().rstrip("=")


def blob_name(made: int, token: bytes, session: int, data: bytes, path: str, sequential: bool = False) -> str:
    """Name of a blob. At most 62 bytes longer than the path.

    ``made``: ms. ``token``: :data:`TOKEN_BYTES` random bytes. ``session``: the session that stores
    it. The sequence number of a ``sequential`` znode is not known when its blob is stored: the name
    has the path without the number, and is marked.
    """
    from base64 import urlsafe_b64encode

    random = urlsafe_b64encode(token).decode()
    kind = "s" if sequential else "n"
    return f"{PREFIX}{made:013d}/{session:x}.{random}.{digest(data)}/{kind}{path}"


def parse_blob_name(name: str) -> BlobName | None:
    """The contents of a blob's name; None if :func:`blob_name` never made such a name."""
    parts = re.fullmatch(_NAME, name)
    if parts is None:
        return None
    made, session, digest, kind, path = parts.group("made", "session", "digest", "kind", "path")
    return BlobName(int(made), path, kind == "s", int(session or "0", 16), digest or "")


def read_blob(store: ObjectStore | None, name: str, length: int) -> bytes | None:
    """The data of a znode that names a blob of ``length`` bytes.

    None if the object is absent or is not what was written. Raises what the store raises.
    """
    parsed = parse_blob_name(name)
    found = None if parsed is None or store is None else store.get(name)
    if parsed is None or found is None or len(found.body) != length:
        return None
    if parsed.digest and not _same(parsed.digest, digest(found.body)):
        return None
    return found.body


def _same(one: str, other: str) -> bool:
    from hmac import compare_digest

    return compare_digest(one, other)


def lost(path: str, name: str) -> str:
    """The message for a user whose znode's data is gone."""
    return (
        f"the data of {path} is lost: the object {name!r} is absent or is not what was written; "
        "set the data again, or restore the object store from a backup"
    )
