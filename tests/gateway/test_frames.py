"""Frames are cut from bytes as they come, and gathered before they are sent."""

from __future__ import annotations

import asyncio
import random
from typing import Any, cast

import pytest

from faaskeeper.gateway import frames
from faaskeeper.gateway.frames import FrameReader, FrameTooLong, FrameWriter
from faaskeeper.gateway.output import OutputBatch


def framed(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


def taken(reader: FrameReader, most: int = 1000) -> list[bytes]:
    """The frames that are complete."""
    return list(reader.take(most))


@pytest.mark.parametrize("seed", range(20))
def test_frames_are_the_same_however_their_bytes_are_split(seed: int) -> None:
    chance = random.Random(seed)
    bodies = [chance.randbytes(chance.choice([0, 1, 4, 5, 90])) for _ in range(60)]
    sent = b"".join(map(framed, bodies))
    reader = FrameReader()
    found: list[bytes] = []
    while sent:
        at = chance.randint(1, 40)
        reader.feed(memoryview(sent[:at]))
        sent = sent[at:]
        found += taken(reader)
    assert found == bodies
    assert len(reader) == 0


def test_an_incomplete_frame_stays_until_it_is_complete() -> None:
    reader = FrameReader()
    reader.feed(memoryview(framed(b"first") + framed(b"second")[:7]))
    assert taken(reader) == [b"first"]
    assert len(reader) == 7
    assert reader.head() == b"\0\0\0\6"
    reader.feed(memoryview(b"ond"))
    assert taken(reader) == [b"second"]


@pytest.mark.parametrize("length", [-1, -(1 << 31), 101, (1 << 31) - 1])
def test_a_length_beyond_the_limit_is_refused_before_its_bytes_come(length: int) -> None:
    reader = FrameReader()
    reader.feed(memoryview(length.to_bytes(4, "big", signed=True)))
    with pytest.raises(FrameTooLong, match=f"a frame of {length} bytes; there may be 100"):
        next(reader.take(100))


def test_a_frame_may_be_as_long_as_the_limit() -> None:
    reader = FrameReader()
    reader.feed(memoryview(framed(b"x" * 100)))
    assert taken(reader, 100) == [b"x" * 100]


class Transport:
    """Keeps what is written, and how much of it the client has not read."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.unread = 0

    def set_write_buffer_limits(self, high: int) -> None:
        assert high == frames.PAUSE_BYTES

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def get_write_buffer_size(self) -> int:
        return self.unread


class Loop:
    """An event loop's next turn."""

    def __init__(self) -> None:
        self.soon: list[Any] = []

    def call_soon(self, call: Any) -> None:
        self.soon.append(call)

    def turn(self) -> None:
        soon, self.soon = self.soon, []
        for call in soon:
            call()


class Place:
    """A connection's output."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.batch = OutputBatch(cast(asyncio.AbstractEventLoop, self.loop))
        self.overflows: list[int] = []
        self.transport = Transport()
        self.writer = FrameWriter(self.batch, self.overflows.append)
        self.writer.attach(cast(asyncio.Transport, self.transport))


@pytest.fixture
def place() -> Place:
    return Place()


def test_frames_of_one_turn_are_written_together(place: Place) -> None:
    place.writer.send(b"a")
    place.writer.send(b"b")
    assert place.transport.written == []
    place.loop.turn()
    assert place.transport.written == [b"ab"]
    assert place.writer.sent == 2
    assert not place.loop.soon


def test_frames_are_written_when_the_outermost_block_ends(place: Place) -> None:
    with place.batch:
        with place.batch:
            place.writer.send(b"a")
        assert place.transport.written == []
        place.writer.send(b"b")
    assert place.transport.written == [b"ab"]
    assert not place.loop.soon


def test_frames_are_written_when_a_block_fails(place: Place) -> None:
    def fail() -> None:
        with place.batch:
            place.writer.send(b"a")
            raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        fail()
    assert place.transport.written == [b"a"]


def test_frames_after_a_flush_in_a_block_are_written_at_its_end(place: Place) -> None:
    with place.batch:
        place.writer.send(b"a")
        place.batch.flush()
        assert place.transport.written == [b"a"]
        place.writer.send(b"b")
    assert place.transport.written == [b"a", b"b"]


def test_many_bytes_are_written_at_once(place: Place) -> None:
    with place.batch:
        place.writer.send(b"x" * frames.PAUSE_BYTES)
        assert place.transport.written == []
        place.writer.send(b"y")
        assert len(place.transport.written) == 1


def test_too_many_unread_bytes_are_reported(place: Place) -> None:
    place.transport.unread = frames.MAX_OUTPUT_BYTES
    place.writer.send(b"a")
    place.writer.flush()
    assert place.overflows == []
    place.transport.unread += 1
    place.writer.send(b"b")
    place.writer.flush()
    assert place.overflows == [frames.MAX_OUTPUT_BYTES + 1]


def test_nothing_is_written_after_the_end(place: Place) -> None:
    place.writer.send(b"a")
    place.writer.detach()
    place.writer.send(b"b")
    place.writer.send_now(b"c")
    place.loop.turn()
    assert place.transport.written == []
    assert place.writer.sent == 0
