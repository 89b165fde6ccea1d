"""FaaSKeeper on Redis: a provider in one file, as a starting point for your own.

Tables, objects, worker queue and channel use one Redis server (7 or newer). The functions run in
one process of their own: ``python -m faaskeeper_redis CONFIG``. Acknowledged writes are as durable
as Redis makes them.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import redis

from faaskeeper.config import Config
from faaskeeper.core import codec, trust
from faaskeeper.core.connection import Connection, connection_to
from faaskeeper.core.deployment import Deployment, begin, on_tables
from faaskeeper.core.drivers.channel import Handler
from faaskeeper.core.drivers.storage import Condition, IfAbsent, IfOlder, IfStamp, Item, Page
from faaskeeper.core.errors import Conflict, Denied, DriverError, StaleView, Throttled, TooLarge, Unavailable
from faaskeeper.core.heartbeat import Heartbeat
from faaskeeper.core.objects import TableObjects
from faaskeeper.core.transactions import Limits
from faaskeeper.core.writer import Writer

INLINE_BYTES = 64 * 1024
_log = logging.getLogger(__name__)


@contextmanager
def _mapped() -> Any:
    """Map Redis's errors to core's kinds."""
    try:
        yield
    except (redis.AuthenticationError, redis.exceptions.NoPermissionError) as error:
        raise Denied(f"Redis refused access: {error}; check the url's user and password") from error
    except redis.exceptions.OutOfMemoryError as error:
        raise Throttled(f"Redis is full: {error}; raise its maxmemory") from error
    except redis.RedisError as error:
        raise Unavailable(f"Redis did not respond: {error}") from error


# ---- Table -------------------------------------------------------------------------------------

_WRITE = """
local stamp = redis.call('HGET', KEYS[1], 'stamp')
if ARGV[1] == 'absent' and stamp then return 0 end
if ARGV[1] == 'older' and stamp and tonumber(stamp) >= tonumber(ARGV[2]) then return 0 end
if ARGV[1] == 'stamp' and (not stamp or tonumber(stamp) ~= tonumber(ARGV[2])) then return 0 end
if ARGV[5] then
  redis.call('HSET', KEYS[1], 'stamp', ARGV[4], 'item', ARGV[5])
  redis.call('ZADD', KEYS[2], 0, ARGV[3])
else
  redis.call('DEL', KEYS[1])
  redis.call('ZREM', KEYS[2], ARGV[3])
end
return 1"""


class RedisTable:
    """An item is a hash with its stamp and its encoding; a partition is a sorted set of keys."""

    max_item_bytes = 64 * 1024 * 1024

    def __init__(self, server: redis.Redis, name: str) -> None:
        self._server = server
        self._name = name
        self._script = server.register_script(_WRITE)

    def _keys(self, partition: str, key: str) -> list[str]:
        return [f"{self._name}:item:{len(partition)}:{partition}:{key}", f"{self._name}:keys:{partition}"]

    def get(self, partition: str, key: str) -> Item | None:
        return self.get_many([(partition, key)])[0]

    def get_many(self, keys: Sequence[tuple[str, str]]) -> list[Item | None]:
        with _mapped(), self._server.pipeline(transaction=False) as pipeline:
            for partition, key in keys:
                pipeline.hget(self._keys(partition, key)[0], "item")
            return [None if body is None else codec.to_item(body) for body in pipeline.execute()]

    def put(self, partition: str, key: str, item: Item, condition: Condition = None) -> None:
        body = codec.item(item)
        if len(body) > self.max_item_bytes:
            raise TooLarge(f"an item of {len(body)} bytes exceeds the limit of {self.max_item_bytes}")
        self._write(partition, key, condition, [item.get("stamp", 0), body])

    def delete(self, partition: str, key: str, condition: Condition = None) -> None:
        self._write(partition, key, condition, [])

    def _write(self, partition: str, key: str, condition: Condition, what: list[Any]) -> None:
        word = {IfAbsent: "absent", IfOlder: "older", IfStamp: "stamp"}.get(type(condition), "")
        stamp = getattr(condition, "stamp", 0)
        with _mapped():
            done = self._script(self._keys(partition, key), [word, stamp, key, *what])
        if not done:
            raise Conflict(f"{condition} does not hold for {partition} {key}")

    def query(self, partition: str, after: str, limit: int) -> Page:
        with _mapped():
            low = f"({after}" if after else "-"
            found: list[Any] = self._server.zrangebylex(self._keys(partition, "")[1], low, "+", 0, limit)
        keys = [key.decode() for key in found]
        items = self.get_many([(partition, key) for key in keys])
        return Page([(key, item) for key, item in zip(keys, items, strict=True) if item], len(keys) == limit)


# ---- Queue -------------------------------------------------------------------------------------


class RedisQueue:
    """A list. Another list holds the messages in progress; they return if the function dies."""

    ordered = True
    max_message_bytes = 64 * 1024 * 1024

    def __init__(self, server: redis.Redis, name: str) -> None:
        self._server = server
        self._waiting, self._taken = f"{name}:waiting", f"{name}:taken"

    def send(self, group: str, identity: str, body: bytes) -> None:
        if len(body) > self.max_message_bytes:
            raise TooLarge(f"a message of {len(body)} bytes exceeds the limit of {self.max_message_bytes}")
        with _mapped():
            self._server.rpush(self._waiting, body)

    def serve(self, handle: Callable[[Sequence[bytes]], None], timeout: int) -> bool:
        """Process waiting messages in order; False if none arrived within ``timeout`` seconds."""
        with _mapped():
            taken: list[Any] = self._server.lrange(self._taken, 0, -1)  # abandoned ones
            if not taken:
                first = self._server.blmove(self._waiting, self._taken, timeout, "LEFT", "RIGHT")
                if first is None:
                    return False
                taken = [first]
            while body := self._server.lmove(self._waiting, self._taken, "LEFT", "RIGHT"):
                taken.append(body)
        handle(taken)
        with _mapped():
            self._server.delete(self._taken)
        return True


# ---- Channel -----------------------------------------------------------------------------------


class RedisChannel:
    """Both sides of the channel; an address is a publish/subscribe topic."""

    def __init__(self, server: redis.Redis, name: str) -> None:
        self._server = server
        self._name = name

    def deliver(self, address: str, message: bytes) -> bool:
        try:
            return int(self._server.publish(address, message)) > 0
        except redis.RedisError as error:
            _log.warning("could not reach %s: %s", address, error)
            return False

    def listen(self, handler: Handler) -> RedisListener:
        return RedisListener(self._server, f"{self._name}:ear:{uuid4().hex}", handler)


class RedisListener:
    """Receives one client's messages, in a thread."""

    def __init__(self, server: redis.Redis, address: str, handler: Handler) -> None:
        self.address = address
        self._handler = handler
        self._closed = False
        self._lock = threading.RLock()
        with _mapped():
            self._subscription: Any = server.pubsub()  # type: ignore[no-untyped-call]
            self._subscription.subscribe(**{address: self._hear})
            self._subscription.get_message(timeout=10)  # the confirmation of the subscription
        self._thread = self._subscription.run_in_thread(0.5, daemon=True, exception_handler=self._failed)

    def _hear(self, message: dict[str, Any]) -> None:
        with self._lock:
            if not self._closed:
                try:
                    self._handler(message["data"])
                except Exception:
                    _log.exception("the client at %s failed to process a message", self.address)

    def _failed(self, error: Exception, *_: object) -> None:
        if not self._closed:  # redis-py subscribes again; the client asks again for lost replies
            _log.warning("receiving at %s failed: %s", self.address, error)
            time.sleep(0.5)

    def close(self) -> None:
        with self._lock:
            self._closed = True
        self._thread.stop()


# ---- the deployment, its functions and its clients ---------------------------------------------


def server_of(config: Config) -> redis.Redis:
    """The Redis server of a configuration."""
    return redis.Redis.from_url(str(config.provider_config.get("url", "redis://localhost")))


def table(config: Config, name: str) -> RedisTable:
    """A table of the configuration's deployment."""
    return RedisTable(server_of(config), f"{config.deployment_name}:{name}")


def deployment(config: Config, key: bytes) -> Deployment:
    """The drivers of a configuration. ``key``: only the functions have it."""
    server, name = server_of(config), config.deployment_name
    return on_tables(
        partial(table, config),
        expiring_log=False,
        blobs=TableObjects(table(config, "objects")),
        worker_queue=RedisQueue(server, f"{name}:worker"),
        channel=RedisChannel(server, name),
        key=key,
        clock=lambda: time.time_ns() // 1_000_000,
        limits=Limits(INLINE_BYTES),
        super_digest=config.super_digest,
        peer=str(config.provider_config.get("peer", "")),
    )


def connect(config: Config, port: int) -> Connection:
    """The function that the entry point of the group ``faaskeeper.providers`` names."""
    made = deployment(config, b"")
    made.checkpoints.header()  # raises, with the reason, if the deployment is not initialized
    return connection_to(made, RedisChannel(server_of(config), config.deployment_name))


def serve(config: Config, key: bytes) -> None:
    """Run the functions until the process ends."""
    made = deployment(config, key)
    begin(made)
    queue = RedisQueue(server_of(config), f"{config.deployment_name}:worker")
    beats = Heartbeat(made, table(config, "heartbeat"))
    writer, beat_at = Writer(made), time.monotonic() + config.heartbeat_frequency
    while True:
        try:
            if not queue.serve(writer.handle, timeout=1):
                writer.idle()
            if time.monotonic() >= beat_at:
                beat_at = time.monotonic() + config.heartbeat_frequency
                beats.run()
        except (DriverError, StaleView) as error:
            _log.warning("retrying in a second: %s", error)
            time.sleep(1)


if __name__ == "__main__":
    configuration = Config.load(sys.argv[1])
    key_file = Path(str(configuration.provider_config["key-file"]))
    serve(configuration, bytes.fromhex(key_file.read_text())[: trust.KEY_BYTES])
