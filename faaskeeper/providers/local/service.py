"""The embedded service: all functions of a deployment, in the process that owns its database."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from faaskeeper import clocks
from faaskeeper.clocks import clock as clock
from faaskeeper.config import ClientChannel, Config, QueueType, StorageType
from faaskeeper.core import logs, trust
from faaskeeper.core import records as user_storage
from faaskeeper.core.answers import wake_up
from faaskeeper.core.checkpoint import Checkpoints
from faaskeeper.core.clocks import Clock, Steady
from faaskeeper.core.connection import Connection, FailureHandler, connection_to
from faaskeeper.core.deployment import Deployment
from faaskeeper.core.distribution import DistributorFunction
from faaskeeper.core.drivers.channel import Listener
from faaskeeper.core.drivers.storage import Check, Gather, IfAbsent, ObjectStore, Table, in_any_case, in_turn
from faaskeeper.core.errors import Conflict, Denied, DriverError, Restoring
from faaskeeper.core.forks import Inherited, register
from faaskeeper.core.heartbeat import Heartbeat
from faaskeeper.core.records import ObjectRecords, Record, Records
from faaskeeper.core.requests import Message, Reply
from faaskeeper.core.sessions import Leases, Transients
from faaskeeper.core.transactions import Limits
from faaskeeper.core.watches import WatchTable
from faaskeeper.core.writer import Writer, order
from faaskeeper.core.znode import MAX_DATA_BYTES
from faaskeeper.providers.inprocess import LocalQueue, PromptQueue
from faaskeeper.providers.local import kept
from faaskeeper.providers.local.atrest import PEER
from faaskeeper.providers.local.behind import MEMORY_BYTES, RecordsBehind, Saved
from faaskeeper.providers.local.channels import LocalChannel
from faaskeeper.providers.local.database import Database, Owner
from faaskeeper.providers.local.matching import HIGH_WATER, OWN, LogEnd, Matching, NotedLog, check
from faaskeeper.providers.local.tables import NumberedTable, SqliteTable
from faaskeeper.providers.memory import MemoryTable

if TYPE_CHECKING:
    from logging import Handler

    from faaskeeper.providers.local.sharing.host import Host
    from faaskeeper.providers.tcp import TcpChannel, TcpClientChannel

INLINE_BYTES = 64 * 1024
"""Hybrid storage keeps larger data in files of its own."""
_STEP_S = 1.0
"""A heartbeat waits in steps of this length. One that takes as much longer tells that the process
stood still."""
_STOOD_S = 10.0
"""How long the next heartbeat is put off then: clients could not renew their leases, and now can."""
_SHARE_AGAIN_S = 1.0
_LOOK_S = 10.0
"""How often a service checks whether a sweep is due."""
_SLICE_MS = 200
"""How long it sweeps at a time; then it pauses four times as long."""
_LAST_MS = 5
"""How long it sweeps when it stops, in addition to a twentieth of its run time."""
_STATE_TABLES = ("records", "checkpoint", "lease", "heartbeat", OWN)

_log = logs.logger(__name__)


class _Channel:
    """Delivers to clients in this process, to those that joined, and to others over TCP."""

    def __init__(self, local: LocalChannel) -> None:
        self._local = local
        self._lock = threading.Lock()
        self._tcp: TcpChannel | None = None
        self.host: Host | None = None

    def deliver(self, address: str, message: bytes) -> bool:
        if address.startswith("shared:"):
            return self.host is not None and self.host.deliver(address, message)
        if address.startswith("tcp:"):
            return self._by_tcp().deliver(address, message)
        return self._local.deliver(address, message)

    def _by_tcp(self) -> TcpChannel:
        with self._lock:
            if self._tcp is None:  # importing sockets takes 5 % of a command's time
                from faaskeeper.providers.tcp import TcpChannel

                self._tcp = TcpChannel()
            return self._tcp

    def close(self) -> None:
        if self._tcp is not None:
            self._tcp.close()


class _CoveredRecords(ObjectRecords):
    """Records in objects. Raises the high water in ``state.db`` before it puts an object."""

    def __init__(self, store: ObjectStore, gather: Gather[Any], matching: Matching) -> None:
        super().__init__(store, gather)
        self._matching = matching

    def put(self, path: str, record: Record, check: Check = in_any_case) -> bool:
        self._matching.raise_high_water(record.txid)
        return super().put(path, record, check)


class _Within:
    """Gives messages to the writer of this process, and replies to its clients, as objects."""

    def __init__(self, queue: LocalQueue, channel: LocalChannel) -> None:
        self._queue = queue
        self._channel = channel

    def commit(self, messages: Sequence[Message]) -> None:
        self._queue.serve_promptly(messages)
        self._queue.check()

    def listen(self, handler: Callable[[Reply | bytes], None], settled: Callable[[], None]) -> Listener:
        return self._channel.listen_early(handler, settled)

    def listen_late(self, handler: Callable[[Reply | bytes], None]) -> Listener:
        return self._channel.listen_late(handler)


class EmbeddedService(Inherited):
    """A deployment in a directory, with its functions' threads.

    ``clock``: ms since 1970, for times that users see (None: the wall clock). ``steady``: ms, for
    leases and ages; it is never set and includes suspend time. None: with the wall clock, it
    continues from one service of the directory to the next (the time at the first opening since
    boot, plus the time elapsed since); with another clock, it starts at that clock's time.
    ``beat``: run heartbeat in a thread, every ``config.heartbeat_frequency`` seconds. ``functions``:
    whether it serves anybody; without, its stores can be used by this process alone.
    ``share_after``: seconds until other processes may join: a command that ends at once need not
    load sockets.
    """

    def __init__(
        self,
        config: Config,
        directory: str | os.PathLike[str],
        *,
        clock: Clock | None = None,
        steady: Clock | None = None,
        beat: bool = True,
        functions: bool = True,
        share_after: float = 0.05,
    ) -> None:
        self._config = config
        self._cache_bytes = _cache_bytes(config)
        self.directory = directory = os.fspath(directory)
        self.clock = clock or clocks.clock
        self._given = steady or (clock and Steady(clock(), clocks.elapsed))
        self._owner = Owner(directory)
        self._log_file = Database(f"{directory}/log.db", synced=True)
        self._state_file = Database(f"{directory}/state.db", synced=False)
        self._log_end = LogEnd(directory)
        self._handlers: list[list[FailureHandler]] = []
        self._stop = threading.Event()
        self._lines: deque[str] = deque(maxlen=1000)
        self._lately: logs.Attached | None = None
        self._queues: list[LocalQueue] = []
        self._threads: list[threading.Thread] = []
        self._host: Host | None = None
        self._failure: Exception | None = None
        self.unshared = ""
        """Why other processes cannot join; "": they can, or soon."""
        self._inherited = ""
        self._loading = threading.Lock()
        register(self)
        self._owner.acquire(shared=functions)
        try:
            self._open()
            found = self._log_file.read('SELECT "stamp" FROM "log" ORDER BY "key" DESC LIMIT 1', ())
            if functions:
                self._refuse_unfinished()
                self.heartbeat.readmit()
                self._start_functions()
                self._begin("sharing", self._share, found[0][0] if found else 0, share_after)
            if beat:
                self._begin("heartbeat", self._beat)
                self._begin("sweeping", self._tend)
        except BaseException:
            self._end_threads()
            self._close_files()
            self._owner.release()
            raise
        self._lately = logs.Attached("faaskeeper", self._handler)
        self._started = time.monotonic()
        self._tends = beat

    def _open(self) -> None:
        config = self._config
        check(self.directory, self._log_file, self._state_file)
        self._log_end.open()
        self._log_file.open({"log": NumberedTable.SCHEMA, OWN: SqliteTable.SCHEMA})
        key = self._settled_once(config)
        tables = dict.fromkeys(_STATE_TABLES, SqliteTable.SCHEMA)
        self._state_file.open(tables, (*HIGH_WATER, *kept.STATEMENTS))
        self._matching = Matching(self._log_file, self._state_file, key)
        self.local_channel = LocalChannel()
        self._channel = _Channel(self.local_channel)
        self.blobs: ObjectStore | None = None
        high = self._state_file.read("SELECT stamp FROM high_water", ())[0][0]
        records_table = SqliteTable(self._state_file, "records")
        self._behind = RecordsBehind(self._state_file, records_table, high, self._cache_bytes)
        records: Records = self._behind
        if config.user_storage is not StorageType.KEY_VALUE:
            from faaskeeper.providers.local.objects import DirectoryStore

            objects = self.blobs = DirectoryStore(f"{self.directory}/objects")
            self._matching.note_objects(self.directory, objects)
        if config.user_storage is StorageType.PERSISTENT and self.blobs is not None:
            records = _CoveredRecords(self.blobs, in_turn, self._matching)
        self.inline_bytes = MAX_DATA_BYTES if self.blobs is None else INLINE_BYTES
        checkpoints = Saved(self._behind.flush, SqliteTable(self._state_file, "checkpoint"), self.gather)
        self._matching.note_identity(checkpoints)
        self._start_tree(checkpoints, records)
        watches = MemoryTable()  # all watchers are in this process, or will put their rows again
        heartbeat_state = SqliteTable(self._state_file, "heartbeat")
        in_file = records is self._behind
        files = self._log_file, self._state_file
        keeper = kept.SqliteKeeper(*files, self.directory, checkpoints.applied(), in_file)
        self.deployment = Deployment(
            log=NotedLog(NumberedTable(self._log_file, "log"), self._log_file.together, self._log_end),
            checkpoints=checkpoints,
            records=records,
            leases=Leases(SqliteTable(self._state_file, "lease")),
            transients=Transients(SqliteTable(self._state_file, "lease")),
            watches=WatchTable(watches),
            blobs=self.blobs,
            worker_queue=_Later(),
            distributor_queue=None,
            channel=self._channel,
            direct_channel=self.local_channel,
            key=key,
            clock=self._given or self._steady(heartbeat_state),
            wall=self.clock,
            gather=self.gather,
            limits=Limits(inline_bytes=self.inline_bytes),
            expiring_log=False,
            keeper=keeper,
            retention=kept.retention(config, self._log_file),
            peer=PEER,
            super_digest=config.super_digest,
        )
        self.heartbeat = Heartbeat(self.deployment, heartbeat_state)
        self._tables: dict[str, Table] = {
            "log": NumberedTable(self._log_file, "log"),
            "checkpoint": SqliteTable(self._state_file, "checkpoint"),
            "lease": SqliteTable(self._state_file, "lease"),
            "watch": watches,
        }

    def _begin(self, name: str, act: Callable[..., None], *arguments: object) -> None:
        """Run a function in a thread. Raises RuntimeError if there cannot be one more."""
        thread = threading.Thread(target=act, args=arguments, name=f"faaskeeper-{name}", daemon=True)
        thread.start()
        self._threads.append(thread)

    def _share(self, upto: int, after: float) -> None:
        """Let other processes join, after some s. ``upto``: the log's end as it was found."""
        while not self._stop.wait(after):
            try:
                self._host = self._channel.host = self._listening(upto)
            except (OSError, ImportError, RuntimeError) as error:  # no descriptor or thread is free
                _log.warning("other processes cannot join the service in %s yet: %s", self.directory, error)
                after = _SHARE_AGAIN_S
                continue
            if self._failure is not None:  # it came while nobody listened
                self._host.fail(self._failure)
            return

    def _listening(self, upto: int) -> Host:
        with self._loading:
            from faaskeeper.providers.local.sharing.host import Host, Served

        served = Served(
            self.directory,
            self._config.user_storage.value,
            self.deployment,
            self._tables,
            self._queues[0].serve_promptly,
            self.ring,
            lambda: "".join(self._lines),
            self.local_channel.quiet,
            upto,
            self._unshare,
        )
        return Host(served)

    def _unshare(self, why: str) -> None:
        self.unshared = f"other processes cannot join the service in {self.directory}: {why}"
        _log.warning("%s", self.unshared)
        self._owner.share_not()

    def _refuse_unfinished(self) -> None:
        """Raise Denied if a restore was interrupted: a repetition must complete it."""
        try:
            self.deployment.checkpoints.header()
        except Restoring as error:
            raise Denied(str(error)) from None

    def _settled_once(self, config: Config) -> bytes:
        """A directory's settings, fixed at its first opening: deployment key and storage layout."""
        table = SqliteTable(self._log_file, "deployment")
        layout = config.user_storage.value
        try:
            key = os.urandom(trust.KEY_BYTES)
            table.put("deployment", "settings", {"key": key, "user-storage": layout}, IfAbsent())
        except Conflict:
            pass  # not the first opening
        settings = table.get("deployment", "settings")
        if settings is None or not isinstance(settings["key"], bytes):
            raise AssertionError("the settings were just stored")
        if settings["user-storage"] != layout:
            raise DriverError(
                f"{self.directory} was set up with user-storage {settings['user-storage']!r}, but the "
                f"configuration has {layout!r}: keep the old value, or choose another directory"
            )
        return settings["key"]

    def _steady(self, state: Table) -> Clock:
        """The steady clock, as the first service of this directory since boot started it."""
        this, now = clocks.boot(), clocks.elapsed()
        known = state.get("clock", "steady")
        if known is not None and this and known["boot"] == this:
            return Steady(int(known["origin"]) + now, clocks.elapsed)  # type: ignore[arg-type]
        began = self.clock()
        state.put("clock", "steady", {"stamp": 1, "boot": this, "origin": began - now})
        return Steady(began, clocks.elapsed)

    @staticmethod
    def _start_tree(checkpoints: Checkpoints, records: Records) -> None:
        if not checkpoints.applied():  # the first opening, or one after an interrupted set-up
            user_storage.bootstrap(records)
        checkpoints.begin(clocks.clock())

    def _start_functions(self) -> None:
        deployment = self.deployment
        writer = Writer(deployment)
        if self._config.distributor_queue is QueueType.LOCAL:
            function = DistributorFunction(deployment)
            distributor = LocalQueue("distributor", function.handle, function.idle, self._broke)
            deployment.distributor_queue = distributor
            self._queues.append(distributor)

        def idle() -> None:
            writer.idle()
            self._matching.note_last_entry()

        worker = LocalQueue("writer", writer.handle, idle, self._broke)
        deployment.worker_queue = worker
        self._prompt = PromptQueue(worker)
        self._queues.insert(0, worker)
        # Entries that an earlier process committed but did not apply.
        deployment.worker_queue.send("writer", "start", order(deployment))

    def gather(self, calls: Sequence[Callable[[], Any]]) -> list[Any]:
        """Driver calls at once. On one SQLite file, a transaction is the fastest way.

        Not if some calls put objects: the file's notes on them must be written first.
        """
        if self._config.user_storage is StorageType.PERSISTENT:
            return in_turn(calls)
        results = self._state_file.together(calls)
        self._behind.flush_if_full()
        return results

    def _broke(self, error: Exception) -> None:
        self._failure = error
        if self._host is not None:
            self._host.fail(error)
        for handlers in list(self._handlers):
            for handler in handlers:
                handler(error)

    def _beat(self) -> None:
        while self._await_beat():
            try:
                self.heartbeat.beat()
            except Exception as error:
                _log.error("heartbeat failed; it tries again: %s", error, exc_info=_unknown(error))

    def _await_beat(self) -> bool:
        """Wait until a heartbeat is due; False if the service stops.

        Leases run on while this process stands still, and nobody can renew them. So the beat is put
        off until their owners had time for that, whenever it stood still.
        """
        now = clocks.elapsed_s()  # the time of leases
        due = now + self._config.heartbeat_frequency
        while now < due:
            step = min(due - now, _STEP_S)
            if self._stop.wait(step):
                return False
            began, now = now, clocks.elapsed_s()
            if now - began > step + _STEP_S:
                due = max(due, now + _STOOD_S)
        return True

    def _tend(self) -> None:
        """Sweep when due, in short slices, in a thread of its own: it must not delay heartbeats."""
        more = False
        while not self._stop.wait(_SLICE_MS / 1000 * 4 if more else _LOOK_S):
            try:
                more = self.heartbeat.due() and not self.heartbeat.tend(_SLICE_MS)
            except Exception as error:
                more = False
                _log.error("sweeping failed; it tries again: %s", error, exc_info=_unknown(error))

    def _tend_at_last(self) -> None:
        """Sweep briefly if due: services may be short-lived, but the caller waits for the stop."""
        ran = (time.monotonic() - self._started) * 1000
        try:
            if self.heartbeat.due():
                self.heartbeat.sweep(_LAST_MS + int(ran) // 20)
        except Exception as error:
            _log.warning("sweeping failed; the next service tries again: %s", error)

    def ring(self) -> None:
        """Trigger the distribution of waiting entries."""
        deployment = self.deployment
        if deployment.distributor_queue is not None:
            deployment.distributor_queue.send("distributor", "ring", wake_up(None, 0, ()))
        else:
            deployment.worker_queue.send("writer", "ring", order(deployment))

    def connection(self, port: int, close: Callable[[], None]) -> Connection:
        """Connect a client to this service."""
        if self._inherited:
            raise Denied(f"the service: {self._inherited}")
        deployment = self.deployment
        tcp = self._config.client_channel is ClientChannel.TCP
        handlers: list[FailureHandler] = []
        self._handlers.append(handlers)

        def closed() -> None:
            self._handlers[:] = [each for each in self._handlers if each is not handlers]
            close()

        return connection_to(
            deployment,
            _by_tcp(port) if tcp else self.local_channel,
            prompt_queue=self._prompt,
            coalesce=True,
            within=_Within(self._queues[0], self.local_channel),
            objects=not tcp,
            close=closed,
            ring=self.ring,
            on_failure=handlers.append,
            logs=lambda: "".join(self._lines),
        )

    def stop(self) -> None:
        """Process what waits, save mark and checkpoint, close the files, release the directory."""
        if self._inherited:
            return  # the other process does all that
        awaited = self._end_threads()
        if self._tends and not awaited:
            self._tend_at_last()
        if self._lately is not None:
            self._lately.detach()
        self._channel.close()
        self._behind.flush_at_last()
        self._close_files()
        self._owner.release()

    def _end_threads(self) -> bool:
        """Let nobody join, and process what waits. Returns whether others had joined: they wait."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        awaited = self._host is not None and self._host.joined
        if self._host is not None:
            self._host.stop()
        for queue in self._queues:
            queue.stop()
        return awaited

    def _close_files(self) -> None:
        self._log_file.close()
        self._state_file.close()
        self._log_end.close()

    def fork_begins(self) -> None:
        """A child of a process that loads a module in another thread could never load it."""
        self._loading.acquire()

    def fork_ends(self) -> None:
        self._loading.release()

    def forked(self, why: str) -> None:
        self._inherited = why
        if self._lately is not None:
            self._lately.detach()

    def _handler(self) -> Handler:
        from faaskeeper.providers.local.lately import Lately

        return Lately(self._lines)


def _cache_bytes(config: Config) -> int:
    """How much memory records may take: ``cache-bytes`` of the section ``local``."""
    size = config.provider_config.get("cache-bytes", MEMORY_BYTES)
    if type(size) is not int or size < 0:
        raise DriverError(f"'cache-bytes' in the section 'local' is {size!r}: it must be a number of bytes")
    return size


def _by_tcp(port: int) -> TcpClientChannel:
    from faaskeeper.providers.tcp import TcpClientChannel

    return TcpClientChannel(port=port)


def _unknown(error: Exception) -> bool:
    """Whether a traceback adds to an error's message."""
    return not isinstance(error, DriverError)


class _Later:
    """Replaces the worker queue until the writer exists."""

    ordered = True
    max_message_bytes = 0

    def send(self, group: str, identity: str, body: bytes) -> None:
        raise AssertionError("the worker queue does not exist yet")
