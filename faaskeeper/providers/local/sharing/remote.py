"""Stores, queue and channel of a deployment whose owner is another process, over a link."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from faaskeeper import clocks
from faaskeeper.config import ClientChannel, Config
from faaskeeper.core import codec, records
from faaskeeper.core.clocks import Steady
from faaskeeper.core.connection import Connection, connection_to
from faaskeeper.core.deployment import on_tables
from faaskeeper.core.drivers.channel import ClientChannel as Channel
from faaskeeper.core.drivers.channel import Handler
from faaskeeper.core.drivers.storage import Condition, IfAbsent, IfOlder, IfStamp, Item, Object, Page, every
from faaskeeper.core.errors import Conflict, Denied
from faaskeeper.core.kept import Image, Kept
from faaskeeper.core.transactions import Limits
from faaskeeper.providers.local.sharing import wire
from faaskeeper.providers.local.sharing.link import Link
from faaskeeper.providers.memory import MemoryTable

_UPLOAD_S = 30.0
"""How long an owner may take to sync a blob to its disk."""


def _condition(condition: Condition) -> tuple[str, int]:
    if isinstance(condition, IfOlder):
        return "older", condition.stamp
    if isinstance(condition, IfStamp):
        return "stamp", condition.stamp
    return ("absent" if isinstance(condition, IfAbsent) else ""), 0


class RemoteTable:
    """A table of the owner. ``again``: repeat writes of unknown fate."""

    max_item_bytes = wire.MAX_BYTES // 2

    def __init__(self, link: Link, name: str, *, again: bool = False) -> None:
        self._link = link
        self._name = name
        self._again = again

    def get(self, partition: str, key: str) -> Item | None:
        return _items(*self._link.call(("get", self._name, partition, key)))[0]

    def get_many(self, keys: Sequence[tuple[str, str]]) -> list[Item | None]:
        return _items(*self._link.call(("many", self._name, list(keys))))

    def put(self, partition: str, key: str, item: Item, condition: Condition = None) -> None:
        head = ("put", self._name, partition, key, *_condition(condition))
        self._link.call(head, codec.item(item), again=self._again)

    def delete(self, partition: str, key: str, condition: Condition = None) -> None:
        self._link.call(("delete", self._name, partition, key, *_condition(condition)), again=self._again)

    def query(self, partition: str, after: str, limit: int) -> Page:
        answer, data = self._link.call(("query", self._name, partition, after, limit))
        items = [item for item in _items(answer, data) if item is not None]
        return Page(list(zip(answer[1], items, strict=True)), answer[2])


def _items(answer: list[Any], data: bytes) -> list[Item | None]:
    items: list[Item | None] = []
    at = 0
    for length in answer[0]:
        if length < 0:
            items.append(None)
            continue
        items.append(codec.to_item(data[at : at + length]))
        at += length
    return items


def _kept(link: Link, path: str) -> Kept:
    """What the owner keeps of a path, as :meth:`faaskeeper.core.kept.Keeper.of` gives it."""
    answer, data = link.call(("kept", path))
    (item,) = _items(answer, data)
    image = None if item is None else Image(*records.decode(item)[:3])
    return Kept(answer[1], answer[2], image)


class WatchRows(RemoteTable):
    """Watch rows. They are in the owner's memory, so this keeps a copy for the next owner.

    A write is made to the copy first. So whatever the copy lacks, the owner need not have; what the
    owner has removed since, a row that has fired, causes a needless notification at most.
    """

    def __init__(self, link: Link) -> None:
        super().__init__(link, "watch", again=True)
        self._copy = MemoryTable()

    def put(self, partition: str, key: str, item: Item, condition: Condition = None) -> None:
        try:
            self._copy.put(partition, key, item, condition)
        except Conflict:
            pass  # the owner decides
        super().put(partition, key, item, condition)

    def delete(self, partition: str, key: str, condition: Condition = None) -> None:
        try:
            self._copy.delete(partition, key, condition)
        except Conflict:
            pass  # the owner decides
        super().delete(partition, key, condition)

    def restore(self) -> None:
        """Put all rows again. Raises DriverError."""
        for partition in list(self._copy.partitions):
            for key, item in every(self._copy, partition):
                try:
                    super().put(partition, key, item, IfOlder(int(item["stamp"])))  # type: ignore[arg-type]
                except Conflict:
                    pass  # it was put meanwhile


class RemoteObjects:
    """The owner's blobs."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def get(self, key: str) -> Object | None:
        (tag,), body = self._link.call(("object", key), within=_UPLOAD_S)
        return None if tag is None else Object(body, tag)

    def put(self, key: str, body: bytes, *, absent: bool = False, match: str | None = None) -> str:
        if not absent or match is not None:
            raise Denied("only the service replaces objects")
        self._link.call(("put object", key), body, within=_UPLOAD_S)
        return ""

    def delete(self, key: str, *, match: str | None = None) -> None:
        raise Denied("only the service deletes objects")

    def list(self, prefix: str, after: str, limit: int) -> list[str]:
        raise Denied("only the service lists objects")


class RemoteQueue:
    """The owner's queue to the writer."""

    ordered = True
    max_message_bytes = wire.MAX_BYTES // 2

    def __init__(self, link: Link) -> None:
        self._link = link

    def send(self, group: str, identity: str, body: bytes) -> None:
        self._link.send(wire.letter(wire.MESSAGE, body))


class _Listener:
    def __init__(self, link: Link) -> None:
        self.address = link.name
        self._link = link

    def close(self) -> None:
        self._link.hear(None)


class _StreamChannel:
    """Receives by the link's stream: one listener, under the link's name."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def listen(self, handler: Handler) -> _Listener:
        self._link.hear(handler)
        return _Listener(self._link)


class _NoChannel:
    """A client delivers to nobody."""

    def deliver(self, address: str, message: bytes) -> bool:
        return False


def connection(link: Link, config: Config, port: int, close: Callable[[], None]) -> Connection:
    """A client's connection over a link, which this begins. ``close``: called after its end."""
    welcome = link.welcome
    rows = WatchRows(link)
    queue = RemoteQueue(link)
    deployment = on_tables(
        lambda name: rows if name == "watch" else RemoteTable(link, name),
        expiring_log=False,
        blobs=RemoteObjects(link) if welcome["blobs"] else None,
        worker_queue=queue,
        channel=_NoChannel(),
        key=bytes.fromhex(welcome["key"]),
        clock=Steady(welcome["clock"], clocks.elapsed),
        limits=Limits(inline_bytes=welcome["inline"]),
        peer=welcome["peer"],
        super_digest=welcome["super"],
    )

    def closed() -> None:
        link.close()
        close()

    link.on_return(rows.restore)
    link.begin()
    return connection_to(
        deployment,
        _by_tcp(port) if config.client_channel is ClientChannel.TCP else _StreamChannel(link),
        coalesce=True,
        kept=partial(_kept, link),
        close=closed,
        ring=lambda: link.send(wire.letter(wire.RING)),
        on_failure=link.on_failure,
        on_return=link.on_return,
        logs=lambda: link.call(("logs",))[1].decode(),
    )


def _by_tcp(port: int) -> Channel:
    from faaskeeper.providers.tcp import TcpClientChannel

    return TcpClientChannel(port=port)
