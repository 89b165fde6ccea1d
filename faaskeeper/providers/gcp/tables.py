"""Tables on Firestore in Datastore mode: an entity per item; a partition's items share an ancestor.

Lookups and ancestor queries are strongly consistent. A write is one commit without a transaction:

* *absent*: an ``insert``, which the service rejects if the entity exists (``AlreadyExists``);
* *older* and *stamp*: the service compares an entity's *version*, not a property. So the condition
  is evaluated here, on the last known state of the entity and its version. The write requires that
  version (``base_version``), or is an ``insert`` if there was no entity. If the entity has changed,
  the service keeps it and reports the conflict; then the entity is looked up. The table caches the
  last state that it read or wrote, so a single writer needs one call. An unknown entity probably
  does not exist (a create, a new watch), so *older* starts with an insert. A wrong cache costs
  calls, never correctness: it only determines what to ask for.

A version is never reused, even if an entity is deleted and put again.

Puts to several tables of one database are one commit with a single-use transaction
(:func:`joint_of`): if one condition fails, all puts fail, and the service does not say which. So
the entities are looked up for the next attempt, all at once: one by one would take three calls for
each.

Sizes: a request and a transaction have at most 10 MiB, an entity 1 MiB
(https://cloud.google.com/datastore/docs/concepts/limits); the number of entities in a commit has no
limit in Firestore (it was 500 in Cloud Datastore, which databases with a name never are).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from google.api_core.exceptions import Aborted, FailedPrecondition, NotFound
from google.cloud.datastore_v1 import types

from faaskeeper.core.drivers.storage import Condition, IfAbsent, IfOlder, IfStamp, Item, Joint, Page, Write
from faaskeeper.core.errors import Conflict, Throttled
from faaskeeper.core.view import MAX_NODES
from faaskeeper.providers.gcp.clients import Gcp, retried

MAX_ITEM_BYTES = 1024 * 1024 - 16 * 1024
"""Limit of an entity: 1 MiB less 4 bytes, including its key and the names of its properties."""
MEMORY = 3 * MAX_NODES
"""Number of cached items: more than a view has znodes, with parents and pages of children."""
_PAGES = {"log": 25}
"""Most items in an answer to a query, where they are large: so many megabytes must come within the
time-out of one attempt."""
_MAX_LOOKUP = 500
_MAX_DELETE = 500
_TRIES = 12
_NON_TRANSACTIONAL = types.CommitRequest.Mode.NON_TRANSACTIONAL
_KEEP = types.Mutation.ConflictResolutionStrategy.SERVER_VALUE
_FAIL = types.Mutation.ConflictResolutionStrategy.FAIL
_MORE = types.QueryResultBatch.MoreResultsType


class _Seen(NamedTuple):
    """The last known state of an entity. ``version`` 0: it did not exist."""

    version: int
    stamp: int


_NONE = _Seen(0, 0)


class _Memory:
    """A cache of the last known states; evicts the oldest."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._seen: dict[tuple[str, str], _Seen] = {}
        self._lock = threading.Lock()

    def get(self, key: tuple[str, str]) -> _Seen | None:
        return self._seen.get(key)

    def put(self, key: tuple[str, str], seen: _Seen) -> None:
        with self._lock:
            self._seen.pop(key, None)
            self._seen[key] = seen
            if len(self._seen) > self._most:
                del self._seen[next(iter(self._seen))]

    def forget(self, key: tuple[str, str]) -> None:
        with self._lock:
            self._seen.pop(key, None)


def to_value(value: object) -> types.Value:
    """Encode a value for Datastore. None is indexed: no query uses properties."""
    if isinstance(value, str):
        return types.Value(string_value=value, exclude_from_indexes=True)
    if isinstance(value, int):
        return types.Value(integer_value=value, exclude_from_indexes=True)
    if isinstance(value, bytes):
        return types.Value(blob_value=value, exclude_from_indexes=True)
    assert isinstance(value, list)
    return types.Value(array_value=types.ArrayValue(values=[to_value(each) for each in value]))


def to_item(entity: types.Entity) -> Item:
    """Decode an entity's item."""
    item: Item = {}
    for name, value in types.Entity.pb(entity).properties.items():
        kind = value.WhichOneof("value_type")
        if kind == "array_value":
            item[name] = [each.string_value for each in value.array_value.values]
        else:
            item[name] = getattr(value, kind)
    return item


class DatastoreTable:
    """A table. ``database``: the database's id; ``short``: core's name and the entities' kind.

    ``memory``: number of cached items. ``shared``: other processes delete most items that this one
    writes, so they are not cached. ``past``: read what was there at this time (None: what is there
    now).
    """

    max_item_bytes = MAX_ITEM_BYTES

    def __init__(
        self,
        gcp: Gcp,
        database: str,
        short: str,
        *,
        memory: int = MEMORY,
        shared: bool = False,
        past: datetime | None = None,
    ) -> None:
        self._gcp = gcp
        self._database = database
        self._short = short
        self._partition_id = types.PartitionId(project_id=gcp.project, database_id=database)
        self._memory = _Memory(memory)
        self._shared = shared
        self._page = _PAGES.get(short, 0)
        self._options = None if past is None else types.ReadOptions(read_time=past)

    def _key(self, partition: str, key: str = "") -> types.Key:
        path = [types.Key.PathElement(kind=f"{self._short}-partition", name=partition)]
        if key:
            path.append(types.Key.PathElement(kind=self._short, name=key))
        return types.Key(partition_id=self._partition_id, path=path)

    def _call(self, method: str, operation: str, request: Any) -> Any:
        return self._gcp.grpc(f"{self._short}.{method}", self._gcp.datastore, operation, request)

    # ---- reads ---------------------------------------------------------------------------

    def get(self, partition: str, key: str) -> Item | None:
        return self._lookup("get", [(partition, key)])[partition, key]

    def get_many(self, keys: Sequence[tuple[str, str]]) -> list[Item | None]:
        wanted = list(dict.fromkeys(keys))
        batches = [wanted[at : at + _MAX_LOOKUP] for at in range(0, len(wanted), _MAX_LOOKUP)]
        found: dict[tuple[str, str], Item | None] = {}
        method = "get" if len(wanted) == 1 else "get_many"
        for some in self._gcp.gather([lambda batch=batch: self._lookup(method, batch) for batch in batches]):
            found.update(some)
        return [found[each] for each in keys]

    def _lookup(self, method: str, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Item | None]:
        found: dict[tuple[str, str], Item | None] = {}
        asked = [self._key(*each) for each in keys]
        while asked:
            request = types.LookupRequest(
                project_id=self._gcp.project,
                database_id=self._database,
                keys=asked,
                read_options=self._options,
            )
            response = self._call(method, "lookup", request)
            for result in response.found:
                found[self._seen(result)] = to_item(result.entity)
            for result in response.missing:
                name = _names(result.entity.key)
                self._memory.put(name, _NONE)
                found[name] = None
            asked = list(response.deferred)
        return found

    def _seen(self, result: types.EntityResult) -> tuple[str, str]:
        """Cache an entity that was read; returns its names."""
        name = _names(result.entity.key)
        stamp = types.Entity.pb(result.entity).properties["stamp"].integer_value
        self._memory.put(name, _Seen(result.version, stamp))
        return name

    def query(self, partition: str, after: str, limit: int) -> Page:
        limit = min(limit, self._page) if self._page else limit
        ancestor = _filter("HAS_ANCESTOR", self._key(partition))
        condition = ancestor
        if after:
            both = [ancestor, _filter("GREATER_THAN", self._key(partition, after))]
            condition = types.Filter(composite_filter=types.CompositeFilter(op="AND", filters=both))
        query = types.Query(
            kind=[types.KindExpression(name=self._short)],
            filter=condition,
            order=[types.PropertyOrder(property=types.PropertyReference(name="__key__"))],
            limit=limit,
        )
        while True:
            request = types.RunQueryRequest(
                project_id=self._gcp.project,
                database_id=self._database,
                partition_id=self._partition_id,
                query=query,
                read_options=self._options,
            )
            batch = self._call("query", "run_query", request).batch
            items = [(self._seen(each)[1], to_item(each.entity)) for each in batch.entity_results]
            unfinished = batch.more_results == _MORE.NOT_FINISHED
            if items or not unfinished:
                return Page(items, unfinished or len(items) >= limit)
            query.start_cursor = batch.end_cursor  # one call scans a limited number of entities

    # ---- writes --------------------------------------------------------------------------

    def put(self, partition: str, key: str, item: Item, condition: Condition = None) -> None:
        entity = self._entity(partition, key, item)

        def made(seen: _Seen | None) -> types.Mutation:
            return _put(entity, seen, _KEEP)

        self._write("put", (partition, key), condition, made, _stamp(item))

    def _entity(self, partition: str, key: str, item: Item) -> types.Entity:
        properties = {name: to_value(value) for name, value in item.items()}
        return types.Entity(key=self._key(partition, key), properties=properties)

    def mutation_of(self, write: Write) -> types.Mutation:
        """A put in a transaction, which fails if the condition does not hold."""
        name = (write.partition, write.key)
        absent = isinstance(write.condition, IfAbsent)
        seen = _NONE if absent else self._fitting(name, write.condition, look=False)
        return _put(self._entity(*name, write.item), seen, _FAIL)

    def _fitting(self, name: tuple[str, str], condition: Condition, *, look: bool) -> _Seen:
        """The cached state of an entity, or with ``look`` the current one. Raises Conflict."""
        seen = None if look else self._memory.get(name)
        if seen is None and not look and isinstance(condition, IfOlder):
            seen = _NONE
        if seen is None or not _holds(condition, seen):
            self._lookup("look", [name])
            seen = self._memory.get(name) or _NONE
            if not _holds(condition, seen):
                raise Conflict(
                    f"{self._short}: {condition} does not hold for {name[0]} {name[1]}, "
                    f"whose stamp is {seen.stamp}"
                )
        return seen

    def look(self, keys: Sequence[tuple[str, str]]) -> None:
        """Cache the current states of some entities."""
        for at in range(0, len(keys), _MAX_LOOKUP):
            self._lookup("look", keys[at : at + _MAX_LOOKUP])

    def forget(self, write: Write) -> None:
        """Remove an item from the cache."""
        self._memory.forget((write.partition, write.key))

    def remember(self, write: Write, version: int) -> None:
        """Cache a put that has succeeded."""
        self._memory.put((write.partition, write.key), _Seen(version, _stamp(write.item)))

    def delete(self, partition: str, key: str, condition: Condition = None) -> None:
        entity = self._key(partition, key)

        def made(seen: _Seen | None) -> types.Mutation:
            if seen is None or not seen.version:
                return types.Mutation(delete=entity)
            return types.Mutation(
                delete=entity, base_version=seen.version, conflict_resolution_strategy=_KEEP
            )

        self._write("delete", (partition, key), condition, made, None)

    def delete_many(self, keys: Sequence[tuple[str, str]]) -> None:
        """Delete items without conditions, 500 in a call."""
        for at in range(0, len(keys), _MAX_DELETE):
            some = keys[at : at + _MAX_DELETE]
            request = types.CommitRequest(
                project_id=self._gcp.project,
                database_id=self._database,
                mode=_NON_TRANSACTIONAL,
                mutations=[types.Mutation(delete=self._key(*each)) for each in some],
            )
            for each in some:
                self._memory.forget(each)
            self._call("delete_many", "commit", request)

    def _write(
        self,
        method: str,
        name: tuple[str, str],
        condition: Condition,
        made: Callable[[_Seen | None], types.Mutation],
        stamp: int | None,
    ) -> None:
        """Commit the mutation that ``made`` makes of an entity's state.

        ``stamp``: new; None: a delete.
        """
        if condition is None or isinstance(condition, IfAbsent):
            seen = None if condition is None else _NONE
            if not self._commit(method, name, made(seen), stamp):
                raise Conflict(f"{self._short}.{method}: {name[0]} {name[1]} exists")
            return
        for turn in range(_TRIES):
            if self._commit(method, name, made(self._fitting(name, condition, look=turn > 0)), stamp):
                return
        raise Throttled(f"{self._short}.{method}: too many concurrent writes to {name[0]} {name[1]}")

    def _commit(
        self, method: str, name: tuple[str, str], mutation: types.Mutation, stamp: int | None
    ) -> bool:
        """Commit and update the cache; returns whether the mutation took effect."""
        request = types.CommitRequest(
            project_id=self._gcp.project,
            database_id=self._database,
            mode=_NON_TRANSACTIONAL,
            mutations=[mutation],
        )

        def commit() -> Any:
            try:
                return self._gcp.datastore().commit(
                    request=request, retry=self._gcp.retry, timeout=self._gcp.timeout
                )
            except NotFound as error:
                if not mutation.base_version:
                    raise
                raise Conflict(f"{name[0]} {name[1]} does not exist") from error

        self._memory.forget(name)
        try:
            response = self._gcp.call(f"{self._short}.{method}", commit)
        except Conflict:
            return False
        result = response.mutation_results[0]
        if result.conflict_detected:
            return False
        if not self._shared:
            self._memory.put(name, _NONE if stamp is None else _Seen(result.version, stamp))
        return True


def joint_of(gcp: Gcp, database: str, tables: Callable[[str], DatastoreTable]) -> Joint:
    """Puts to tables of a database as one commit. ``tables``: by core's names."""

    # retried like other calls, except after an abort, which means a conflict
    retry = gcp.retry.with_predicate(lambda error: retried(error) and not isinstance(error, Aborted))

    def joint(writes: Sequence[Write]) -> None:
        request = types.CommitRequest(
            project_id=gcp.project,
            database_id=database,
            mode=types.CommitRequest.Mode.TRANSACTIONAL,
            single_use_transaction=types.TransactionOptions(read_write=types.TransactionOptions.ReadWrite()),
            mutations=[tables(write.table).mutation_of(write) for write in writes],
        )

        def commit() -> Any:
            try:
                return gcp.datastore().commit(request=request, retry=retry, timeout=gcp.timeout)
            except (Aborted, FailedPrecondition, NotFound) as error:
                raise Conflict(f"a concurrent write was first: {error}") from error

        for write in writes:
            tables(write.table).forget(write)
        try:
            response = gcp.call("joint.put", commit)
        except Conflict:
            conditional: dict[str, list[tuple[str, str]]] = {}
            for write in writes:
                if not isinstance(write.condition, IfAbsent):
                    conditional.setdefault(write.table, []).append((write.partition, write.key))
            for short, keys in conditional.items():
                tables(short).look(keys)
            raise
        for write, result in zip(writes, response.mutation_results, strict=True):
            tables(write.table).remember(write, result.version)

    return joint


def _put(entity: types.Entity, seen: _Seen | None, conflict: Any) -> types.Mutation:
    if seen is None:
        return types.Mutation(upsert=entity)
    if not seen.version:
        return types.Mutation(insert=entity)
    return types.Mutation(update=entity, base_version=seen.version, conflict_resolution_strategy=conflict)


def _stamp(item: Item) -> int:
    stamp = item.get("stamp", 0)
    assert isinstance(stamp, int)
    return stamp


def _holds(condition: Condition, seen: _Seen) -> bool:
    if isinstance(condition, IfOlder):
        return not seen.version or seen.stamp < condition.stamp
    assert isinstance(condition, IfStamp)
    return bool(seen.version) and seen.stamp == condition.stamp


def _names(key: types.Key) -> tuple[str, str]:
    partition, item = types.Key.pb(key).path
    return partition.name, item.name


def _filter(operator: str, key: types.Key) -> types.Filter:
    made = types.PropertyFilter(
        property=types.PropertyReference(name="__key__"), op=operator, value=types.Value(key_value=key)
    )
    return types.Filter(property_filter=made)
