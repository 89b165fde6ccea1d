"""Bounds of a client's message, checked before validation.

The codec checks types. This module checks what keeps a message from costing anybody but its sender:
the log and the session's state hold parts of it for everybody (the address, above all), and it gets
an answer. Our clients stay within all bounds.
"""

from __future__ import annotations

from faaskeeper.core.acl import MAX_CREDENTIALS_BYTES, size_of
from faaskeeper.core.codec import Malformed
from faaskeeper.core.requests import Message, Open, Resume

MAX_NUMBER = 2**62
"""Greatest session, incarnation and cxid: every store can hold it as a number."""
MAX_ADDRESS_BYTES = 1024
MAX_NONCE_BYTES = 256


def check(message: Message) -> None:
    """Check a message. Raises :class:`~faaskeeper.core.codec.Malformed` if it is out of bounds."""
    for number in (message.session, message.incarnation, message.acked):
        if not 0 <= number <= MAX_NUMBER:
            raise Malformed(f"a session, incarnation and acked cxid are 0 to {MAX_NUMBER}, not {number}")
    if len(message.address.encode()) > MAX_ADDRESS_BYTES:
        raise Malformed(f"an address has at most {MAX_ADDRESS_BYTES} bytes")
    alone = len(message.requests) == 1
    last = 0
    for cxid, operation, auth in message.requests:
        if auth and size_of(auth) > MAX_CREDENTIALS_BYTES:
            raise Malformed(f"credentials have at most {MAX_CREDENTIALS_BYTES} bytes, not {size_of(auth)}")
        if isinstance(operation, (Open, Resume)):
            # The answer to a Resume lists paths: the answer to many would take megabytes.
            if not alone or cxid:
                raise Malformed("an Open or a Resume must be the only request of its message, with cxid 0")
            if isinstance(operation, Open) and len(operation.nonce.encode()) > MAX_NONCE_BYTES:
                raise Malformed(f"a nonce has at most {MAX_NONCE_BYTES} bytes")
        elif not last < cxid <= MAX_NUMBER:  # a repeated request would be answered twice
            raise Malformed(f"cxids of a message increase, up to {MAX_NUMBER}: {cxid} follows {last}")
        else:
            last = cxid
