"""Envelopes: what travels between clients and functions, so that only its receiver can read it.

Each envelope is one single-shot HPKE encryption (RFC 9180, base mode) for one public key: a
request's is the deployment's (:mod:`faaskeeper.providers.cloud.seals`), a reply's is the
listener's, which its address carries. They are decorators of core's queue and channel, whose
messages keep their codes inside: an envelope hides, and authenticates nobody.
``docs/architecture/security.md``, *Envelopes*, has the argument.
"""

from __future__ import annotations

import binascii
import logging
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import NamedTuple, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from faaskeeper.core.drivers.channel import Channel, ClientChannel, Handler, Listener
from faaskeeper.core.drivers.queue import Queue
from faaskeeper.providers.cloud.seals import PrivateKeys, SealOf

_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
_REQUEST, _REPLY = b"faaskeeper request", b"faaskeeper reply"
_MAGIC = b"FKE1"
_MAX_LABEL_BYTES = 255
_SEALED_BYTES = 32 + 16
"""What HPKE adds: an ephemeral public key, and a tag."""
OVERHEAD_BYTES = len(_MAGIC) + 4 + 1 + _MAX_LABEL_BYTES + _SEALED_BYTES
"""Most bytes that a request's envelope adds."""
_KEY_MARK = "#"

_log = logging.getLogger(__name__)


# ---- requests ------------------------------------------------------------------------------------


class Header(NamedTuple):
    """What can be read from outside: the key pair's generation, and the message's identity.

    ``size``: bytes of the header.
    """

    generation: int
    label: str
    size: int


def header_of(body: bytes) -> Header | None:
    """The header of a request's envelope; None if the body does not begin like one.

    A message without an envelope begins with its code, and so begins like one by chance only.
    """
    start = len(_MAGIC) + 5
    if len(body) < start or not body.startswith(_MAGIC):
        return None
    size = start + body[start - 1]
    label = body[start:size].decode(errors="replace")
    return Header(int.from_bytes(body[len(_MAGIC) : start - 1], "big"), label, size)


class SealedQueue:
    """The worker queue for clients: seals what is sent. ``seal_of``: the key to seal with.

    The message's identity, a session and its incarnation, stays readable for the sake of dead
    letters.
    """

    def __init__(self, queue: Queue, seal_of: SealOf) -> None:
        self._queue = queue
        self._seal_of = seal_of
        self.ordered = queue.ordered
        self.max_message_bytes = queue.max_message_bytes - OVERHEAD_BYTES

    def send(self, group: str, identity: str, body: bytes) -> None:
        generation, key = self._seal_of()
        label = identity.encode()[:_MAX_LABEL_BYTES]
        header = _MAGIC + generation.to_bytes(4, "big") + bytes((len(label),)) + label
        self._queue.send(group, identity, header + _SUITE.encrypt(body, key, info=_REQUEST + header))


def opened(body: bytes, keys: PrivateKeys) -> bytes:
    """The request in an envelope; a body that is none, or cannot be opened, as it is.

    The writer drops the latter, since its code is wrong. Raises DriverError if the keys cannot be
    read.
    """
    header = header_of(body)
    if header is None:
        return body
    key = keys.get(header.generation)
    if key is None:
        _log.warning("a request is sealed with the unknown key %d", header.generation)
        return body
    try:
        return _SUITE.decrypt(body[header.size :], key, info=_REQUEST + body[: header.size])
    except (InvalidTag, ValueError):
        return body


# ---- replies -------------------------------------------------------------------------------------


def bare(address: str) -> str:
    """An address without the listener's key: as the channel inside knows it."""
    return address.partition(_KEY_MARK)[0]


def _key_of(text: str) -> X25519PublicKey:
    """A listener's key. Raises ValueError for any text that is none: clients choose it."""
    return X25519PublicKey.from_public_bytes(urlsafe_b64decode(text.encode() + b"="))


class Closable(Channel, Protocol):
    """A channel with connections to close."""

    def close(self) -> None:
        """Close the connections to clients."""


class SealedChannel:
    """Service side: seals each message for the key in its address.

    An address without a key is that of a client of an earlier release; its messages stay in clear.
    """

    def __init__(self, channel: Closable) -> None:
        self._channel = channel

    def close(self) -> None:
        """Close the connections to clients."""
        self._channel.close()

    def deliver(self, address: str, message: bytes) -> bool:
        inner, mark, key = address.partition(_KEY_MARK)
        if mark:
            try:
                message = _SUITE.encrypt(message, _key_of(key), info=_REPLY)
            except (ValueError, binascii.Error) as error:
                _log.warning("cannot seal for the client at %s: %s", address, error)
                return False
        return self._channel.deliver(inner, message)


class SealedClientChannel:
    """Client side: each listener has a key pair of its own, for as long as it listens."""

    def __init__(self, channel: ClientChannel) -> None:
        self._channel = channel

    def listen(self, handler: Handler) -> Listener:
        return _SealedListener(self._channel, handler)


class _SealedListener:
    """Passes on what opens with its key, and nothing else."""

    def __init__(self, channel: ClientChannel, handler: Handler) -> None:
        self._key = X25519PrivateKey.generate()
        self._handler = handler
        self._inner = channel.listen(self._receive)
        public = urlsafe_b64encode(self._key.public_key().public_bytes_raw()).decode().rstrip("=")
        self.address = f"{self._inner.address}{_KEY_MARK}{public}"

    def _receive(self, sealed: bytes) -> None:
        try:
            message = _SUITE.decrypt(sealed, self._key, info=_REPLY)
        except (InvalidTag, ValueError):
            _log.warning("dropped a message that is not sealed for this client")
            return
        self._handler(message)

    def close(self) -> None:
        self._inner.close()
