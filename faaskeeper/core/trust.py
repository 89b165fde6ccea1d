"""Authentication: message codes under session secrets, and secrets sealed for the log.

A client makes its session's secret. The client knows it, and so do holders of the deployment's key
(functions and trusted writers). Data that clients may read, such as the log, contains it only
*sealed*. Message codes are keyed BLAKE2b (RFC 7693). Sealing is encrypt-then-MAC with the same
function as the pseudo-random function: the secret is as long as one output of it, and every seal
has its own nonce.
"""

from __future__ import annotations

from hmac import compare_digest

from faaskeeper.core.hashes import blake2b

KEY_BYTES = 32
_MAC_BYTES = 32
_NONCE_BYTES = 16


class Forged(ValueError):
    """The message was not made by its claimed sender, or the seal was made with another key."""


def _mac(key: bytes, body: bytes) -> bytes:
    return blake2b(body, digest_size=_MAC_BYTES, key=key).digest()


def sign(key: bytes, body: bytes) -> bytes:
    """Prepend the message code to the body."""
    return _mac(key, body) + body


def body(signed: bytes) -> bytes:
    """The body of a signed message, unverified: needed to find out which secret verifies it."""
    return signed[_MAC_BYTES:]


def verify(key: bytes, signed: bytes) -> None:
    """Raise :class:`Forged` unless the message was signed with the key."""
    expected = _mac(key, signed[_MAC_BYTES:])
    if not compare_digest(expected, signed[:_MAC_BYTES]):
        raise Forged("the message code does not match")


def seal(key: bytes, secret: bytes, nonce: bytes) -> bytes:
    """Encrypt a secret (32 bytes) with the deployment's key; ``nonce``: 16 random bytes."""
    if len(secret) != KEY_BYTES or len(nonce) != _NONCE_BYTES:
        raise ValueError(f"a secret has {KEY_BYTES} bytes and a nonce {_NONCE_BYTES}")
    stream = _mac(_mac(key, b"faaskeeper seal: encrypt"), nonce)
    hidden = bytes(a ^ b for a, b in zip(secret, stream, strict=True))
    code = _mac(_mac(key, b"faaskeeper seal: authenticate"), nonce + hidden)
    return nonce + hidden + code


def unseal(key: bytes, sealed: bytes) -> bytes:
    """Decrypt a sealed secret. Raises :class:`Forged` if the key is another one."""
    nonce, hidden = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:-_MAC_BYTES]
    code = _mac(_mac(key, b"faaskeeper seal: authenticate"), nonce + hidden)
    if not compare_digest(code, sealed[-_MAC_BYTES:]):
        raise Forged("the seal was made with another deployment's key")
    stream = _mac(_mac(key, b"faaskeeper seal: encrypt"), nonce)
    return bytes(a ^ b for a, b in zip(hidden, stream, strict=True))
