"""A client's connections to the owner of a directory, and what it does when they break.

One thread reads the stream. When that ends, this thread reaches the next owner, which may be this
process: ``reach`` does that. Meanwhile calls wait, :data:`~.wire.ANSWER_S` at most. Then the
``returned`` handlers are called, in order, and must not block for long.

A call without an answer in time is taken for an owner that stands still: all connections are given
up, and the owner is greeted until it answers. Other failures of a call's connection say nothing
about the stream, which has its own end; the call is made by another one.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from faaskeeper import __version__
from faaskeeper.clocks import elapsed
from faaskeeper.core import codec, logs
from faaskeeper.core.connection import FailureHandler
from faaskeeper.core.drivers.channel import Handler
from faaskeeper.core.errors import Denied, DriverError, Unavailable
from faaskeeper.core.forks import Inherited, register
from faaskeeper.core.tuples import NamedTuple
from faaskeeper.providers.local.sharing import wire

_IDLE = 32
"""Most connections for calls that are kept. A client needs as many as its threads call at once."""
_JOIN_S = 5.0
_PAUSE_S = 0.02

_log = logs.logger(__name__)


class Asking(NamedTuple):
    """What a process says when it joins. ``super_digest`` None: it says nothing about that."""

    directory: str
    layout: str
    super_digest: str | None


class Greeted(Inherited):
    """A connection to the owner, and what it said. A forked child closes it, whoever uses it."""

    def __init__(self) -> None:
        self.connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.frames = wire.Frames(self.connection)
        self.welcome: dict[str, Any] = {}
        register(self)

    def forked(self, why: str) -> None:
        wire.release(self.connection)


def greet(asking: Asking, stream: str = "") -> Greeted:
    """Connect to the owner of a directory. ``stream``: the name of a stream; "": for calls.

    Raises Absent if there is none, or it does not answer; Denied, if it refuses.
    """
    try:
        greeted = Greeted()
    except OSError as error:
        raise wire.Absent(f"cannot reach the service in {asking.directory}: {error}") from error
    connection = greeted.connection
    try:
        connection.settimeout(wire.ANSWER_S)
        with wire.address(asking.directory) as name:
            connection.connect(name)
        wire.check_peer(connection, asking.directory)
        greeting = {
            "faaskeeper": wire.PROTOCOL,
            "release": __version__,
            "pid": os.getpid(),
            "layout": asking.layout,
            "super": asking.super_digest,
            "stream": stream,
        }
        connection.sendall(wire.frame(greeting))
        greeted.welcome, _ = codec.unframe(greeted.frames.read())
        if "refused" in greeted.welcome:
            raise Denied(str(greeted.welcome["refused"]))
        wire.speaks(
            greeted.welcome, f"process {greeted.welcome.get('pid')}, which has {asking.directory} open,"
        )
    except (OSError, wire.Gone, codec.Malformed, AttributeError) as error:
        connection.close()
        raise wire.Absent(f"nobody shares the service in {asking.directory}: {error}") from error
    except BaseException:
        connection.close()
        raise
    return greeted


Reach = Callable[[str], Greeted]
"""Connects a stream of this name to the next owner, or tries to; raises Absent: try again. Any
other DriverError is final."""


class Link(Inherited):
    """One client's way to the owner. ``first``: the stream's connection."""

    def __init__(self, asking: Asking, name: str, first: Greeted, reach: Reach) -> None:
        self.name = name
        self.welcome = first.welcome
        self._asking = asking
        self._reach = reach
        self._handler: Handler | None = None
        self._failures: list[FailureHandler] = []
        self._returned: list[Callable[[], None]] = []
        self._changed = threading.Condition()
        self._sending = threading.Lock()
        self._hearing = threading.RLock()
        self._stream: socket.socket | None = first.connection
        self._idle: list[Greeted] = []
        self._refused = 0
        """How many calls wait for a connection, since the owner takes no more."""
        self._lead = first.welcome["elapsed"] - elapsed()
        """How far the owner's clock of elapsed time is ahead: it differs between containers."""
        self._failure: DriverError | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._run, args=(first,), name="faaskeeper-link", daemon=True)
        register(self)

    def begin(self) -> None:
        """Start to read the stream."""
        self._thread.start()

    # ---- handlers ----------------------------------------------------------------------

    def hear(self, handler: Handler | None) -> None:
        """Call a handler with each message of the stream; None: with none after this returns."""
        with self._hearing:
            self._handler = handler

    def on_failure(self, handler: FailureHandler) -> None:
        """Call a handler when no owner can be reached any more, or the service has ended."""
        self._failures.append(handler)

    def on_return(self, handler: Callable[[], None]) -> None:
        """Call a handler when the link is to a new owner, or to one that stood still."""
        self._returned.append(handler)

    # ---- the stream --------------------------------------------------------------------

    def _run(self, greeted: Greeted | None) -> None:
        try:
            while greeted is not None:
                try:
                    self._read(greeted)
                except (wire.Gone, OSError):
                    pass
                self._drop(greeted)
                greeted = self._again()
        except Exception as error:  # otherwise its sessions would wait for a thread that is dead
            _log.exception("the link to the owner of %s has broken", self._asking.directory)
            self._fail(Denied(f"the link to the owner of {self._asking.directory} has broken: {error}"))

    def _drop(self, greeted: Greeted) -> None:
        self._lost(greeted.connection)
        with self._sending:  # nobody sends to a descriptor that may be another file's by then
            greeted.connection.close()

    def _read(self, greeted: Greeted) -> None:
        greeted.connection.settimeout(None)
        while True:
            for body in greeted.frames.read_some():
                if body[:1] == wire.FAILED:
                    self._fail(Denied(body[1:].decode(errors="replace")))
                    return
                self._hand_on(body[1:])

    def _hand_on(self, message: bytes) -> None:
        with self._hearing:
            if self._handler is None:
                return
            try:
                self._handler(message)
            except Exception:
                _log.exception("a client of %s failed to process a message", self._asking.directory)

    def _again(self) -> Greeted | None:
        """Reach the next owner; None if the link is closed or has failed."""
        _log.info("the owner of %s has gone or stands still", self._asking.directory)
        while not self._over:
            try:
                greeted = self._reach(self.name)
                if greeted.welcome["key"] != self.welcome["key"]:
                    greeted.connection.close()
                    raise Denied(f"there is another service in {self._asking.directory} now")
                if self._take(greeted):
                    return greeted
            except (wire.Absent, OSError):
                pass  # there is none yet
            except DriverError as error:
                self._fail(error)
            with self._changed:
                if not self._over:
                    self._changed.wait(_PAUSE_S)
        return None

    def _take(self, greeted: Greeted) -> bool:
        """Go on by a new stream; False: it was given up again."""
        with self._changed:
            if not self._over:
                self.welcome = greeted.welcome
                self._lead = greeted.welcome["elapsed"] - elapsed()
                self._stream = greeted.connection
                self._changed.notify_all()
        try:
            for handler in () if self._over else self._returned:
                handler()
        except (DriverError, OSError) as error:  # only the next return restores what this one did not
            _log.info("what %s lost is not restored yet: %s", self._asking.directory, error)
            self._drop(greeted)
            if isinstance(error, Denied):
                raise
        if self._over or self._stream is not greeted.connection:
            self._drop(greeted)
            return False
        return True

    @property
    def _over(self) -> bool:
        return self._closed or self._failure is not None

    def _lost(self, stream: socket.socket | None) -> None:
        """Give up all connections, if ``stream`` is the present one."""
        with self._changed:
            if stream is None or self._stream is not stream:
                return
            self._stream = None
            idle, self._idle = self._idle, []
        wire.shut(stream)  # wakes the thread, which closes it
        for each in idle:
            each.connection.close()

    def _fail(self, error: DriverError) -> None:
        with self._changed:
            if self._over:
                return
            self._failure = error
            self._changed.notify_all()
        for handler in list(self._failures):
            handler(error)

    def send(self, body: bytes) -> None:
        """Send a frame of the stream, again if the owner ended meanwhile: the writer may get it twice.

        Raises Unavailable, Denied.
        """
        deadline = time.monotonic() + wire.ANSWER_S
        while True:
            stream = self._current(deadline)
            try:
                with self._sending:
                    _send_all(stream, body)
                return
            except TimeoutError as error:
                self._lost(stream)
                raise self._unavailable(error) from error
            except OSError:
                self._lost(stream)

    # ---- calls -------------------------------------------------------------------------

    def call(
        self, head: Sequence[object], data: bytes = b"", *, again: bool = True, within: float = wire.ANSWER_S
    ) -> tuple[list[Any], bytes]:
        """Have the owner answer a call: its list and its bytes. Raises what the owner's driver raises.

        ``again``: repeat it if its fate is unknown, since another try does no harm. ``within``: how
        long the answer may take, in s.
        """
        deadline = time.monotonic() + within
        refused = False
        while True:
            stream = self._current(deadline)
            sent = False
            try:
                greeted = self._lend(stream, refused)
                try:
                    until = elapsed() + self._lead + int(within * 1000)
                    if greeted.connection.gettimeout() != within:
                        greeted.connection.settimeout(within)
                    greeted.connection.sendall(wire.frame([head[0], until, *head[1:]], (data,)))
                    sent = True
                    body = greeted.frames.read()
                except BaseException:
                    greeted.connection.close()
                    raise
                self._give_back(stream, greeted)
            except (OSError, wire.Gone, wire.Absent) as error:
                late = isinstance(error, TimeoutError) or isinstance(error.__cause__, TimeoutError)
                if late or _ended(stream):
                    self._lost(stream)
                unknown = sent and not again  # a frame that was not sent as a whole has no effect
                if unknown or isinstance(error, TimeoutError) or time.monotonic() > deadline:
                    raise self._unavailable(error) from error
                if isinstance(error, wire.Absent):
                    refused = True
                    self._await_another(stream)
                continue
            answer, at = codec.unframe(body)
            if answer and answer[0] == "error":
                raise wire.error_of(*answer[1:])
            return answer, body[at:]

    def _current(self, deadline: float) -> socket.socket:
        """The present stream, when there is one. Raises Unavailable, Denied."""
        with self._changed:
            while self._stream is None or self._over:
                if self._failure is not None:
                    raise self._failure
                left = deadline - time.monotonic()
                # This thread is the one that reaches the next owner.
                if self._closed or left <= 0 or threading.current_thread() is self._thread:
                    raise self._unavailable(None)
                self._changed.wait(left)
            return self._stream

    def _unavailable(self, error: Exception | None) -> Unavailable:
        if self._closed:
            return Unavailable("this client is closed")
        why = f": {error}" if error is not None else ""
        return Unavailable(f"the process that has {self._asking.directory} open does not answer{why}")

    def _lend(self, stream: socket.socket, refused: bool = False) -> Greeted:
        """A connection to the owner of a stream, for one call. Raises Absent.

        ``refused``: the owner gave this call none before, so it comes first.
        """
        with self._changed:
            if len(self._idle) > (0 if refused else self._refused):
                return self._idle.pop()
        greeted = greet(self._asking)
        with self._changed:
            if greeted.welcome["owner"] == self.welcome["owner"]:
                return greeted
        greeted.connection.close()
        self._lost(stream)  # the new owner, or another directory's: the stream's thread sees which
        raise wire.Absent(f"another process has {self._asking.directory} open")

    def _await_another(self, stream: socket.socket) -> None:
        """Wait for a connection that another call gives back, or for another stream."""
        with self._changed:
            if self._stream is stream and not self._idle:
                self._refused += 1
                self._changed.wait(_PAUSE_S)
                self._refused -= 1

    def _give_back(self, stream: socket.socket, greeted: Greeted) -> None:
        with self._changed:
            if self._stream is stream and len(self._idle) < _IDLE and not self._over:
                self._idle.append(greeted)
                if self._refused:
                    self._changed.notify_all()
                return
        greeted.connection.close()

    # ---- the end -----------------------------------------------------------------------

    def close(self) -> None:
        """End all connections."""
        with self._changed:
            self._closed = True
            stream, self._stream = self._stream, None
            idle, self._idle = self._idle, []
            self._changed.notify_all()
        if stream is not None:
            wire.shut(stream)
        for each in idle:
            each.connection.close()
        if threading.current_thread() is not self._thread:
            self._thread.join(_JOIN_S)

    def forked(self, why: str) -> None:
        self._changed = threading.Condition()
        self._sending = threading.Lock()
        self._hearing = threading.RLock()
        self._failure = Denied(f"{self._asking.directory}: {why}")
        self._stream = None
        self._idle = []
        self._handler = None


def _ended(stream: socket.socket) -> bool:
    """Whether the owner has ended a stream, or has died."""
    poll = select.poll()
    try:
        poll.register(stream, 0)  # POLLHUP is reported in any case
    except (OSError, ValueError):
        return True  # the link's thread has closed it
    return bool(poll.poll(0))


def _send_all(stream: socket.socket, body: bytes) -> None:
    """Send on a stream, whose socket has no time-out, within :data:`~.wire.ANSWER_S`."""
    try:
        sent = stream.send(body, socket.MSG_DONTWAIT)
    except BlockingIOError:
        sent = 0
    if sent == len(body):
        return
    deadline = time.monotonic() + wire.ANSWER_S
    view = memoryview(body)[sent:]
    while view:
        poll = select.poll()
        poll.register(stream, select.POLLOUT)
        if not poll.poll(max(deadline - time.monotonic(), 0) * 1000):
            raise TimeoutError("the owner does not take in what it is sent")
        try:
            view = view[stream.send(view, socket.MSG_DONTWAIT) :]
        except BlockingIOError:
            pass
