"""What the owner of a directory and those that join it have in common: frames, greeting, socket.

A frame is its length (4 bytes, big-endian) and a body. The body of a call or an answer is a codec's
frame (:func:`faaskeeper.core.codec.frame`): a JSON list and bytes. That of a stream begins with a
letter.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from faaskeeper import __version__
from faaskeeper.core import codec, errors
from faaskeeper.core.errors import Denied, DriverError, Unavailable

PROTOCOL = 1
"""Raise this when a release cannot talk to earlier ones: their calls, or what the codec writes."""
NAME = "service.sock"
MAX_BYTES = 1 << 30
"""Longest frame."""
ANSWER_S = 5.0
"""How long an answer may take. An owner that takes longer stands still."""

MESSAGE, RING, FAILED = b"m", b"r", b"f"
"""What a stream carries: a signed message, a wake-up, and why the service has ended."""

_NAME_BYTES = 107
_READ = 64 * 1024


class Absent(DriverError):
    """Nothing listens at the directory's socket, or it does not answer."""


class Gone(DriverError):
    """The connection has ended."""


# ---- frames --------------------------------------------------------------------------------------


def frame(head: object, data: Sequence[bytes] = ()) -> bytes:
    """A frame of a call or an answer."""
    body = codec.frame(head, data)
    return len(body).to_bytes(4, "big") + body


def letter(kind: bytes, body: bytes = b"") -> bytes:
    """A frame of a stream."""
    return (len(body) + 1).to_bytes(4, "big") + kind + body


class Frames:
    """Reads frames from a socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = b""

    def read(self) -> bytes:
        """The next frame. Raises Gone, TimeoutError, OSError."""
        while len(self._buffer) < 4:
            self._more()
        end = 4 + int.from_bytes(self._buffer[:4], "big")
        if end > MAX_BYTES:
            raise Gone(f"a frame of {end} bytes is too long")
        if len(self._buffer) < end:
            self._fill(end)
        body, self._buffer = self._buffer[4:end], self._buffer[end:]
        return body

    def read_some(self) -> list[bytes]:
        """The next frame, and those that came with it."""
        found = [self.read()]
        while len(self._buffer) >= 4 and len(self._buffer) >= 4 + int.from_bytes(self._buffer[:4], "big"):
            found.append(self.read())
        return found

    def _more(self) -> None:
        chunk = self._connection.recv(_READ)
        if not chunk:
            raise Gone("the other process has closed the connection")
        self._buffer = self._buffer + chunk if self._buffer else chunk

    def _fill(self, end: int) -> None:
        """Read a long frame; memory grows with what has come."""
        chunks = [self._buffer]
        have = len(self._buffer)
        while have < end:
            chunk = self._connection.recv(max(_READ, min(end - have, 1 << 20)))
            if not chunk:
                raise Gone("the other process has closed the connection")
            chunks.append(chunk)
            have += len(chunk)
        self._buffer = b"".join(chunks)


# ---- errors --------------------------------------------------------------------------------------

_KINDS = {
    kind.__name__: kind
    for kind in (errors.Conflict, errors.Throttled, errors.Unavailable, errors.TooLarge, errors.Denied)
}


def refusal(error: DriverError) -> bytes:
    """The answer to a call that failed."""
    kind = type(error).__name__
    return frame(["error", kind if kind in _KINDS else "Unavailable", str(error)])


def error_of(kind: object, text: object) -> DriverError:
    """The error of such an answer."""
    return _KINDS.get(str(kind), Unavailable)(str(text))


# ---- the socket ----------------------------------------------------------------------------------


@contextmanager
def address(directory: str) -> Iterator[str]:
    """The name of a directory's socket, short enough to bind or to connect. Raises OSError."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        short = f"/proc/self/fd/{handle}"
        if not os.path.isdir(short):  # no /proc here
            short = directory
        name = f"{short}/{NAME}"
        if len(os.fsencode(name)) > _NAME_BYTES:
            raise OSError(f"{name} is too long for a socket's name, and there is no /proc")
        yield name
    finally:
        os.close(handle)


def peer(connection: socket.socket) -> int:
    """The user id of the process at the other end."""
    size = struct.calcsize("iII")
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    return int(struct.unpack("iII", found)[1])


def check_peer(connection: socket.socket, directory: str) -> None:
    """Raise Denied unless the process at the other end is of this process's user."""
    other, own = peer(connection), os.geteuid()
    if other != own:
        raise Denied(
            f"the service in {directory} is run by the user with the id {other}, and this process by {own}: "
            "use it as that user, or through 'fk serve'"
        )


def release(inherited: socket.socket) -> None:
    """Close a forked child's descriptor of a socket; shutdown() would also affect the parent."""
    descriptor = inherited.detach()
    if descriptor >= 0:
        os.close(descriptor)


def shut(connection: socket.socket) -> None:
    """End a connection; wakes a thread that reads from it."""
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it has ended already


def speaks(greeting: dict[str, object], who: str) -> None:
    """Raise Denied if a greeting, or its answer, is of another protocol. ``who``: made it."""
    protocol = greeting.get("faaskeeper")
    if protocol != PROTOCOL:
        raise Denied(
            f"{who} is of FaaSKeeper {greeting.get('release')}, which shares directories by protocol "
            f"{protocol}, and this is {__version__}, with protocol {PROTOCOL}: use one release for both"
        )
