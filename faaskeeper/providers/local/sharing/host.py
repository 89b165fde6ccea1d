"""The owner's side: serves the clients of other processes.

A thread for each connection: calls block on SQLite at most, and a stream's thread runs the writer
when that is free, as a client's thread does in this process. Pushes never block the writer: what a
client does not take in waits here, up to :data:`MOST_BYTES`; then its stream is cut.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from faaskeeper import __version__
from faaskeeper.clocks import elapsed
from faaskeeper.core import codec, logs, records
from faaskeeper.core.deployment import Deployment
from faaskeeper.core.drivers.storage import Condition, IfAbsent, IfOlder, IfStamp, Item, Page, Table
from faaskeeper.core.errors import Conflict, Denied, DriverError, StaleView, Unavailable
from faaskeeper.core.forks import Inherited, register
from faaskeeper.core.records import Record
from faaskeeper.providers.local.sharing import wire

MOST_BYTES = 16 * 1024 * 1024
"""What may wait for a client that does not take in what it is sent."""
MOST_CONNECTIONS = 1_000
_WAIT_S = 0.005
_SCARCE_S = 0.05
"""How long to wait when this process has no descriptor free."""
_WARN_S = 60.0
_SCARCE = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_JOIN_S = 5.0
_PATIENCE_S = 60.0
"""How long an owner may take to apply the log before it listens."""

_log = logs.logger(__name__)


@dataclass(frozen=True)
class Served:
    """What a host serves. ``tables``: by the names of :func:`~faaskeeper.core.deployment.on_tables`.

    ``serve``: gives the writer messages, and runs it in this thread if it is free. ``settled``:
    waits until user storage has all that was answered early; False if that takes too long.
    ``upto``: the log's end when the service was opened. ``silent``: called with the reason if nothing
    can listen.
    """

    directory: str
    layout: str
    deployment: Deployment
    tables: Mapping[str, Table]
    serve: Callable[[Sequence[bytes]], None]
    ring: Callable[[], None]
    logs: Callable[[], str]
    settled: Callable[[float], bool]
    upto: int
    silent: Callable[[str], None]


class RecordTable:
    """User storage as a table to read: the layouts differ, and it is read through memory."""

    def __init__(self, stored: records.Records) -> None:
        self._stored = stored

    def get(self, partition: str, key: str) -> Item | None:
        found = self._stored.get(partition)
        return None if found is None else records.encode(found)

    def get_many(self, keys: Sequence[tuple[str, str]]) -> list[Item | None]:
        found = self._stored.get_many([path for path, _ in keys])
        return [None if each is None else records.encode(each) for each in found]


class _Stream:
    """A client's stream: what is pushed to it, in order, begun by ``welcome``.

    What waits is sent by one thread, the pump; as long as anything waits, there is one. The first is
    the connection's own (:meth:`pump`), so what is pushed before that comes after the welcome.
    """

    def __init__(self, connection: socket.socket, welcome: bytes) -> None:
        self.connection = connection
        self._lock = threading.Lock()
        self._waiting: deque[bytes] = deque((welcome,))
        self._bytes = len(welcome)

    def push(self, body: bytes) -> bool:
        """Send without waiting; False if the client has gone, or is cut off."""
        with self._lock:
            if not self._waiting:
                try:
                    sent = self.connection.send(body, socket.MSG_DONTWAIT)
                except BlockingIOError:
                    sent = 0
                except OSError:
                    return False
                if sent == len(body):
                    return True
                body = body[sent:]
                try:
                    threading.Thread(target=self.pump, name="faaskeeper-host-pump", daemon=True).start()
                except RuntimeError as error:
                    return self._cut(str(error))
            self._waiting.append(body)
            self._bytes += len(body)
            return self._bytes <= MOST_BYTES or self._cut("it does not take in what it is sent")

    def _cut(self, why: str) -> bool:
        """End the stream, which may be within a frame: nothing more must be sent. The caller has the lock."""
        _log.warning("cut off a client: %s", why)
        wire.shut(self.connection)
        self._waiting.clear()
        return False

    def pump(self) -> None:
        """Send what waits, until nothing does; what is pushed meanwhile waits behind."""
        sent = b""
        while True:
            with self._lock:  # also whether it was the last: from then on, pushes need another pump
                if sent and self._waiting:
                    self._waiting.popleft()
                    self._bytes -= len(sent)
                if not self._waiting:
                    return
                sent = self._waiting[0]
            try:
                self.connection.sendall(sent)
            except OSError:
                wire.shut(self.connection)
                return  # what waits stays: pushes must not overtake it


class Host(Inherited):
    """Listens in a directory, as soon as user storage covers the log, until :meth:`stop`."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._tables: dict[str, Any] = {**served.tables, "records": RecordTable(served.deployment.records)}
        self._lock = threading.Lock()
        self._connections: dict[socket.socket, threading.Thread] = {}
        self._streams: dict[str, _Stream] = {}
        self._listener: socket.socket | None = None
        self._stopping = threading.Event()
        self._failure = ""
        self._name = os.urandom(8).hex()
        """Tells a link whether a connection is to the owner of its stream."""
        register(self)
        self._thread = threading.Thread(target=self._listen, name="faaskeeper-host", daemon=True)
        self._thread.start()

    # ---- listening ---------------------------------------------------------------------

    def _listen(self) -> None:
        try:
            if not self._ready():
                return
            listener = self._bound()
        except Exception as error:  # an AttributeError: a system without SO_PEERCRED
            self._served.silent(str(error))
            return
        with self._lock:
            self._listener = listener
            stopped = self._stopping.is_set()
        if stopped:
            self._close(listener)
            return
        self._accept(listener)

    def _bound(self) -> socket.socket:
        """A socket that listens in the directory. Raises OSError."""
        while True:
            try:
                return self._bind()
            except OSError as error:
                if error.errno not in _SCARCE or self._stopping.wait(_SCARCE_S):
                    raise

    def _bind(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.settimeout(None)  # whatever the program has for its own sockets
            with wire.address(self._served.directory) as name:
                if os.path.lexists(name):  # of an owner that was killed: this process has the lock
                    os.unlink(name)
                listener.bind(name)
                os.chmod(name, 0o600)
            listener.listen(128)
        except BaseException:
            listener.close()
            raise
        return listener

    def _ready(self) -> bool:
        """Wait until the mark covers the log as it was found; False if the service stops first.

        A service that has ended is ready, to refuse.
        """
        applied = self._served.deployment.checkpoints.applied
        for turn in range(int(_PATIENCE_S / _WAIT_S)):
            try:
                if self._failure or applied() >= self._served.upto:
                    return bool(socket.SO_PEERCRED) and not self._stopping.is_set()
                if not turn:
                    self._served.ring()
            except (DriverError, StaleView) as error:
                _log.info("the log is not applied yet: %s", error)
            if self._stopping.wait(_WAIT_S):
                return False
        raise OSError("the log could not be applied")

    def _accept(self, listener: socket.socket) -> None:
        warned = -_WARN_S
        while not self._stopping.is_set():
            wrong = self._accept_one(listener)
            if wrong and time.monotonic() - warned >= _WARN_S:
                warned = time.monotonic()
                _log.warning("a process that joins has to wait: %s", wrong)

    def _accept_one(self, listener: socket.socket) -> str:
        """Serve one more connection; returns why not, if it cannot."""
        try:
            connection, _ = listener.accept()
        except OSError as error:  # closed, if this stops; else it comes again
            self._stopping.wait(_SCARCE_S)
            return "" if self._stopping.is_set() else str(error)
        if len(self._connections) >= MOST_CONNECTIONS:
            connection.close()
            return f"there are {MOST_CONNECTIONS} connections"
        connection.settimeout(wire.ANSWER_S)  # for the greeting
        serving = threading.Thread(
            target=self._serve, args=(connection,), name="faaskeeper-host-client", daemon=True
        )
        with self._lock:  # stop() ends it, or it does not begin
            if self._stopping.is_set():
                connection.close()
                return ""
            self._connections[connection] = serving
            try:
                serving.start()
                return ""
            except RuntimeError as error:
                wrong = str(error)
        self._forget(connection)
        return wrong

    def _forget(self, connection: socket.socket) -> None:
        with self._lock:
            self._connections.pop(connection, None)
        connection.close()

    @property
    def joined(self) -> bool:
        """Whether a client of another process, or of a link in this one, is connected."""
        return bool(self._connections)

    def _close(self, listener: socket.socket) -> None:
        """Stop listening, while this process has the lock."""
        try:
            with wire.address(self._served.directory) as name:
                os.unlink(name)
        except OSError:
            pass  # the directory was removed
        wire.shut(listener)
        listener.close()

    def stop(self) -> None:
        """Let nobody join any more, and end all connections: their clients look for a new owner."""
        self._stopping.set()
        with self._lock:
            listener, self._listener = self._listener, None
            connections = dict(self._connections)
        if listener is not None:
            self._close(listener)
        for connection in connections:
            wire.shut(connection)
        for thread in (self._thread, *connections.values()):
            thread.join(_JOIN_S)

    def fail(self, error: Exception) -> None:
        """Tell all clients why the service has ended."""
        self._failure = str(error)
        body = wire.letter(wire.FAILED, self._failure.encode())
        for stream in list(self._streams.values()):
            stream.push(body)

    def forked(self, why: str) -> None:
        self._stopping.set()
        self._lock = threading.Lock()
        if self._listener is not None:
            wire.release(self._listener)
        while self._connections:
            wire.release(self._connections.popitem()[0])
        self._streams = {}

    # ---- connections -------------------------------------------------------------------

    def _serve(self, connection: socket.socket) -> None:
        frames = wire.Frames(connection)
        try:
            greeting, _ = codec.unframe(frames.read())
            if not isinstance(greeting, dict):
                raise codec.Malformed(f"not a greeting: {greeting!r}")
            try:
                wire.check_peer(connection, self._served.directory)
                self._check(greeting)
            except Denied as error:
                connection.sendall(wire.frame({**self._greeting(), "refused": str(error)}))
                return
            deployment = self._served.deployment
            welcome = {
                **self._greeting(),
                "owner": self._name,
                "key": deployment.key.hex(),
                "inline": deployment.limits.inline_bytes,
                "blobs": deployment.blobs is not None,
                "peer": deployment.peer,
                "super": deployment.super_digest,
                "clock": deployment.clock(),
                "elapsed": elapsed(),
            }
            connection.settimeout(None)
            name = greeting["stream"]
            if name:
                self._stream(str(name), connection, frames, wire.frame(welcome))
            else:
                connection.sendall(wire.frame(welcome))
                while True:
                    connection.sendall(self._answer(frames.read()))
        except (wire.Gone, OSError):
            pass  # the client has ended
        except (codec.Malformed, KeyError, IndexError, TypeError, ValueError) as error:
            _log.error("closed a connection: it sent what this cannot read: %r", error)
        except Exception:
            _log.exception("closed a connection: a call failed")
        finally:
            self._forget(connection)

    @staticmethod
    def _greeting() -> dict[str, object]:
        return {"faaskeeper": wire.PROTOCOL, "release": __version__, "pid": os.getpid()}

    def _check(self, greeting: dict[str, Any]) -> None:
        """Raise Denied if a process must not join."""
        if self._failure:
            raise Denied(self._failure)
        directory = self._served.directory
        wire.speaks(greeting, f"the process {greeting.get('pid')} that asks")
        if greeting["layout"] != self._served.layout:
            raise Denied(
                f"{directory} was set up with user-storage {self._served.layout!r}, but the "
                f"configuration has {greeting['layout']!r}: keep the old value, or choose another directory"
            )
        if greeting["super"] not in (None, self._served.deployment.super_digest):
            raise Denied(
                f"the service in {directory}, which process {os.getpid()} runs, has another 'super-digest' "
                "than this configuration: use one for both, or leave it out here"
            )

    # ---- streams -----------------------------------------------------------------------

    def _stream(self, name: str, connection: socket.socket, frames: wire.Frames, welcome: bytes) -> None:
        stream = _Stream(connection, welcome)
        with self._lock:
            self._streams[name] = stream
        if self._failure:
            stream.push(wire.letter(wire.FAILED, self._failure.encode()))
        try:
            stream.pump()
            while True:
                self._take(frames.read_some(), stream)
        finally:
            with self._lock:
                if self._streams.get(name) is stream:
                    del self._streams[name]

    def _take(self, came: Sequence[bytes], stream: _Stream) -> None:
        bodies = [each[1:] for each in came if each[:1] == wire.MESSAGE]
        try:
            if any(each[:1] == wire.RING for each in came):
                self._served.ring()
            if bodies:
                self._served.serve(bodies)
        except Denied as error:
            stream.push(wire.letter(wire.FAILED, str(error).encode()))
        except DriverError as error:
            raise wire.Gone(str(error)) from error  # it is stopping

    def deliver(self, name: str, message: bytes) -> bool:
        """Push a message to the client with a stream of this name."""
        stream = self._streams.get(name)
        return stream is not None and stream.push(wire.letter(wire.MESSAGE, message))

    # ---- calls -------------------------------------------------------------------------

    def _answer(self, body: bytes) -> bytes:
        (word, until, *arguments), at = codec.unframe(body)
        try:
            if until < elapsed():
                raise Unavailable("the call came too late: its sender has given up")
            return CALLS[word](self, arguments, body[at:])
        except DriverError as error:
            return wire.refusal(error)

    def _table(self, name: str) -> Any:
        if name == "records" and not self._served.settled(wire.ANSWER_S):
            raise Unavailable("records that were answered for are not in user storage")
        return self._tables[name]

    def _get(self, arguments: list[Any], _: bytes) -> bytes:
        table, partition, key = arguments
        return _items([self._table(table).get(partition, key)])

    def _get_many(self, arguments: list[Any], _: bytes) -> bytes:
        table, keys = arguments
        return _items(self._table(table).get_many([(partition, key) for partition, key in keys]))

    def _query(self, arguments: list[Any], _: bytes) -> bytes:
        table, partition, after, limit = arguments
        page: Page = self._table(table).query(partition, after, limit)
        return _items([item for _, item in page.items], [key for key, _ in page.items], page.more)

    def _put(self, arguments: list[Any], data: bytes) -> bytes:
        table, partition, key, *condition = arguments
        self._writable(table).put(partition, key, codec.to_item(data), _condition(*condition))
        return _DONE

    def _delete(self, arguments: list[Any], _: bytes) -> bytes:
        table, partition, key, *condition = arguments
        self._writable(table).delete(partition, key, _condition(*condition))
        return _DONE

    def _writable(self, name: str) -> Any:
        if name not in ("lease", "watch"):
            raise Denied(f"only the service writes the table {name!r}")
        return self._tables[name]

    def _kept(self, arguments: list[Any], _: bytes) -> bytes:
        keeper = self._served.deployment.keeper
        if keeper is None:
            raise Denied("this service keeps no history beside its log")
        found = keeper.of(*arguments)
        image = None if found.image is None else records.encode(Record(*found.image, [], 0, 0, ""))
        return _items([image], found.horizon, found.time)

    def _get_object(self, arguments: list[Any], _: bytes) -> bytes:
        found = self._blobs.get(*arguments)
        return wire.frame([None]) if found is None else wire.frame([found.tag], (found.body,))

    def _put_object(self, arguments: list[Any], data: bytes) -> bytes:
        (key,) = arguments
        try:
            self._blobs.put(key, data, absent=True)
        except Conflict:
            found = self._blobs.get(key)
            if found is None or found.body != data:
                raise
            # a repetition, since the owner before this one ended
        return _DONE

    @property
    def _blobs(self) -> Any:
        return self._served.deployment.blobs

    def _logs(self, _: list[Any], __: bytes) -> bytes:
        return wire.frame([], (self._served.logs().encode(),))


CALLS: dict[str, Callable[[Host, list[Any], bytes], bytes]] = {
    "get": Host._get,
    "many": Host._get_many,
    "query": Host._query,
    "put": Host._put,
    "delete": Host._delete,
    "kept": Host._kept,
    "object": Host._get_object,
    "put object": Host._put_object,
    "logs": Host._logs,
}
_DONE = wire.frame([])
_CONDITIONS: dict[str, Callable[[int], Condition]] = {
    "absent": lambda _: IfAbsent(),
    "older": IfOlder,
    "stamp": IfStamp,
    "": lambda _: None,
}


def _condition(word: str, stamp: int) -> Condition:
    return _CONDITIONS[word](stamp)


def _items(items: Sequence[Item | None], *more: object) -> bytes:
    """An answer with items: their lengths (-1: None), and what else belongs to it."""
    bodies = [b"" if each is None else codec.item(each) for each in items]
    lengths = [-1 if each is None else len(body) for each, body in zip(items, bodies, strict=True)]
    return wire.frame([lengths, *more], bodies)
