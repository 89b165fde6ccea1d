"""Frames of a connection: cut from the bytes that arrive, and gathered before they are sent.

A frame is a length (4 bytes, big-endian, signed) and so many bytes. Nothing here knows what is in
it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from faaskeeper.gateway.jute import INT, Malformed
from faaskeeper.gateway.output import OutputBatch

MAX_OUTPUT_BYTES = 16 * 1024 * 1024
"""Most bytes that wait for a client that reads slowly; above it the connection is ended."""
PAUSE_BYTES = 256 * 1024
"""Bytes that wait for a client above which none of its requests is begun."""

_length = INT.unpack_from


class FrameTooLong(Malformed):
    """A frame's length is above the limit, or negative."""


class FrameReader:
    """Cuts received bytes into frames."""

    __slots__ = ("_at", "_received")

    def __init__(self) -> None:
        self._received = bytearray()
        self._at = 0

    def __len__(self) -> int:
        """How many received bytes are not taken."""
        return len(self._received) - self._at

    def feed(self, received: memoryview) -> None:
        """Add bytes, which are copied."""
        self._received += received

    def head(self) -> bytes:
        """The next 4 bytes, or fewer where there are not so many."""
        return bytes(self._received[self._at : self._at + 4])

    def take(self, most: int) -> Iterator[bytes]:
        """The complete frames without their lengths, each taken when it is returned.

        The bytes of frames that were taken are freed when no complete one is left, not after each,
        since that copies the rest. Raises FrameTooLong where a length is negative or above
        ``most``. To be left before bytes are fed or cleared.
        """
        received = self._received
        size = len(received)
        while (begin := self._at + 4) <= size:
            (length,) = _length(received, begin - 4)
            if not 0 <= length <= most:
                raise FrameTooLong(f"a frame of {length} bytes; there may be {most}")
            end = begin + length
            if end > size:
                break
            self._at = end
            yield bytes(received[begin:end])
        if self._at:
            del received[: self._at]
            self._at = 0

    def clear(self) -> None:
        """Forget all bytes."""
        self._received.clear()
        self._at = 0


class FrameWriter:
    """Gathers frames and sends them together, by an :class:`OutputBatch`.

    ``overflow`` is called with the number of bytes that wait when they are above
    :data:`MAX_OUTPUT_BYTES`.
    """

    __slots__ = ("_batch", "_bytes", "_frames", "_overflow", "_transport", "sent")

    def __init__(self, batch: OutputBatch, overflow: Callable[[int], None]) -> None:
        self._batch = batch
        self._overflow = overflow
        self._transport: asyncio.Transport | None = None
        self._frames: list[bytes] = []
        self._bytes = 0
        self.sent = 0
        """Number of frames sent."""

    def attach(self, transport: asyncio.Transport) -> None:
        """Send to a transport from now on."""
        self._transport = transport
        transport.set_write_buffer_limits(high=PAUSE_BYTES)

    def detach(self) -> None:
        """Send nothing more: frames that were not flushed are dropped."""
        self._transport = None
        self._frames.clear()
        self._bytes = 0

    @property
    def empty(self) -> bool:
        """Whether no frame waits to be flushed."""
        return not self._frames

    def send(self, frame: bytes) -> None:
        """Send a frame, together with others."""
        if self._transport is None:
            return
        if not self._frames:
            self._batch.add(self)
        self._frames.append(frame)
        self._bytes += len(frame)
        if self._bytes > PAUSE_BYTES:
            self.flush()

    def send_now(self, frame: bytes) -> None:
        """Send a frame at once, while :attr:`empty`."""
        if self._transport is not None:
            self.sent += 1
            self._transport.write(frame)

    def flush(self) -> None:
        """Send the frames that were gathered."""
        transport, frames = self._transport, self._frames
        if not frames or transport is None:
            return
        self.sent += len(frames)
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        frames.clear()
        self._bytes = 0
        transport.write(data)
        waiting = transport.get_write_buffer_size()
        if waiting > MAX_OUTPUT_BYTES:
            self._overflow(waiting)
