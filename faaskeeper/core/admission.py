"""What a message of a client may look like, whoever made it.

The codec sees to types. Here is what a message must keep to so that it costs its sender, and nobody else: it
stands in the log and in the session's state for everybody (its address, above all), and it is answered. Our
clients keep to all of it.
"""

from __future__ import annotations

from faaskeeper.core.acl import MAX_CREDENTIALS_BYTES, size_of
from faaskeeper.core.codec import Malformed
from faaskeeper.core.requests import Message, Open, Resume

MAX_NUMBER = 2**62
"""Greatest session, incarnation and cxid: what every store holds as a number."""
MAX_ADDRESS_BYTES = 1024
MAX_NONCE_BYTES = 256


def check(message: Message) -> None:
    """Raise :class:`~faaskeeper.core.codec.Malformed` for a message that no client of ours makes."""
    for number in (message.session, message.incarnation, message.acked):
        if not 0 <= number <= MAX_NUMBER:
            raise Malformed(f"a session, an incarnation or an acknowledgement is {number}")
    if len(message.address.encode()) > MAX_ADDRESS_BYTES:
        raise Malformed(f"an address of {len(message.address)} characters")
    alone = len(message.requests) == 1
    last = 0
    for cxid, operation, auth in message.requests:
        if auth and size_of(auth) > MAX_CREDENTIALS_BYTES:
            raise Malformed(f"credentials of {size_of(auth)} bytes")
        if isinstance(operation, (Open, Resume)):
            # A Resume's answer lists paths: many of them would be answered with megabytes.
            if not alone or cxid:
                raise Malformed("an Open or a Resume comes alone, and is not numbered")
            if isinstance(operation, Open) and len(operation.nonce.encode()) > MAX_NONCE_BYTES:
                raise Malformed(f"a nonce of {len(operation.nonce)} characters")
        elif not last < cxid <= MAX_NUMBER:  # one that comes twice would be answered twice
            raise Malformed(f"request {cxid} comes after {last}")
        else:
            last = cxid
