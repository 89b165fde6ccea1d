"""The usual requests, decoded in few steps; all others by :mod:`faaskeeper.gateway.protocol`.

Nearly all requests are reads, sets with data, and creates with data and the open ACL. What is
decoded here equals what ``protocol`` makes of the same bytes.
"""

from __future__ import annotations

import struct

from faaskeeper.core.requests import Create, Data, SetData
from faaskeeper.core.znode import OPEN_ACL
from faaskeeper.gateway import protocol
from faaskeeper.gateway.jute import INT, text
from faaskeeper.gateway.protocol import READS, Read, Request, Write

_BEGINNING = struct.Struct(">iii")
"""xid, type, and the length of the path that most records begin with."""
_PATH = _BEGINNING.size
_CREATES = frozenset((protocol.CREATE, protocol.CREATE2))
_OPEN_ACL = protocol.acl(OPEN_ACL)

_int = INT.unpack_from


def to_request(body: bytes) -> tuple[int, Request]:
    """xid and request of a frame, as :func:`protocol.to_request`."""
    size = len(body)
    if size > _PATH:
        xid, kind, length = _BEGINNING.unpack_from(body)
        at = _PATH + length
        if _PATH < at < size:
            if kind in READS:
                if at + 1 == size:
                    return xid, Read(kind, text(body[_PATH:at]), body[at] != 0)
            elif kind == protocol.SET_DATA or kind in _CREATES:
                write = _with_data(kind, body, at)
                if write is not None:
                    return xid, write
    return protocol.to_request(body)


def _with_data(kind: int, body: bytes, at: int) -> Write | None:
    """The set or create whose path ends at ``at``; None if it is not a usual one."""
    begin = at + 4
    if begin > len(body):
        return None
    (length,) = _int(body, at)
    end = begin + length
    if length < 0 or end + 4 > len(body):
        return None
    path, data = text(body[_PATH:at]), Data(body[begin:end], "", length)
    if kind == protocol.SET_DATA:
        return Write(kind, SetData(path, data, _int(body, end)[0]))
    flags_at = end + len(_OPEN_ACL)
    if flags_at + 4 > len(body) or body[end:flags_at] != _OPEN_ACL:
        return None
    flags = protocol.FLAGS.get(_int(body, flags_at)[0])
    return None if flags is None else Write(kind, Create(path, data, *flags))
