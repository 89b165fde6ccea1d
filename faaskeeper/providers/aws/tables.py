"""Tables on DynamoDB: one DynamoDB table per core table, with typed attributes.

Reads are strongly consistent. A write is one PutItem or DeleteItem with at most one condition, except
that sweeps delete many items by BatchWriteItem, which knows no conditions. If
an attempt took effect but its response was lost, botocore's retry raises Conflict. The core expects
that: it reads the existing entry, record or lease, and finds its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from faaskeeper.core.drivers.storage import Condition, IfAbsent, IfOlder, Item, Page
from faaskeeper.core.errors import Throttled
from faaskeeper.providers.aws.clients import Aws

PARTITION, SORT, TTL = "partition", "sort", "ttl"
"""Attributes of the key, and of the expiry (s since 1970), when the store may delete an item."""
MAX_ITEM_BYTES = 400 * 1024
_MAX_BATCH = 100
_MAX_WRITES = 25
_TRIES = 8
_NAMES = {"#stamp": "stamp"}


def attributes(item: Item) -> dict[str, Any]:
    """Encode an item in DynamoDB's types."""
    made: dict[str, Any] = {}
    for name, value in item.items():
        if isinstance(value, str):
            made[name] = {"S": value}
        elif isinstance(value, int):
            made[name] = {"N": str(value)}
        elif isinstance(value, bytes):
            made[name] = {"B": value}
        else:
            made[name] = {"L": [{"S": each} for each in value]}
    return made


def to_item(found: dict[str, Any]) -> Item:
    """Decode an item without its key from DynamoDB's types."""
    item: Item = {}
    for name, typed in found.items():
        if name in (PARTITION, SORT, TTL):
            continue
        ((kind, value),) = typed.items()
        if kind == "N":
            item[name] = int(value)
        elif kind == "L":
            item[name] = [each["S"] for each in value]
        else:
            item[name] = value
    return item


def _key(partition: str, key: str) -> dict[str, Any]:
    return {PARTITION: {"S": partition}, SORT: {"S": key}}


def _condition(condition: Condition) -> dict[str, Any]:
    if condition is None:
        return {}
    if isinstance(condition, IfAbsent):
        return {"ConditionExpression": "attribute_not_exists(#stamp)", "ExpressionAttributeNames": _NAMES}
    if isinstance(condition, IfOlder):
        expression = "attribute_not_exists(#stamp) OR #stamp < :stamp"
    else:
        expression = "#stamp = :stamp"
    return {
        "ConditionExpression": expression,
        "ExpressionAttributeNames": _NAMES,
        "ExpressionAttributeValues": {":stamp": {"N": str(condition.stamp)}},
    }


class DynamoTable:
    """A table. ``name``: DynamoDB's name; ``short``: core's name, for errors and counts.

    ``lifetime_s``: seconds after which the store may delete an item (0: never).
    """

    max_item_bytes = MAX_ITEM_BYTES

    def __init__(
        self,
        aws: Aws,
        name: str,
        short: str,
        *,
        lifetime_s: int = 0,
        clock: Callable[[], float] = time.time,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._aws = aws
        self._name = name
        self._short = short
        self._lifetime = lifetime_s
        self._clock = clock
        self._pause = pause

    def _call(self, method: str, operation: str, **parameters: Any) -> Any:
        made = getattr(self._aws.client("dynamodb"), operation)
        return self._aws.call(f"{self._short}.{method}", made, **parameters)

    def get(self, partition: str, key: str) -> Item | None:
        found = self._call(
            "get", "get_item", TableName=self._name, Key=_key(partition, key), ConsistentRead=True
        )
        item = found.get("Item")
        return None if item is None else to_item(item)

    def get_many(self, keys: Sequence[tuple[str, str]]) -> list[Item | None]:
        if len(keys) == 1:
            return [self.get(*keys[0])]
        wanted = list(dict.fromkeys(keys))
        batches = [wanted[at : at + _MAX_BATCH] for at in range(0, len(wanted), _MAX_BATCH)]
        found: dict[tuple[str, str], Item] = {}
        for some in self._aws.gather([lambda batch=batch: self._batch(batch) for batch in batches]):
            found.update(some)
        return [found.get(each) for each in keys]

    def _batch(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Item]:
        found: dict[tuple[str, str], Item] = {}
        asked: dict[str, Any] = {self._name: {"Keys": [_key(*each) for each in keys], "ConsistentRead": True}}
        for turn in range(_TRIES):
            response = self._call("get_many", "batch_get_item", RequestItems=asked)
            for item in response["Responses"].get(self._name, ()):
                found[item[PARTITION]["S"], item[SORT]["S"]] = to_item(item)
            asked = response.get("UnprocessedKeys") or {}
            if not asked:
                return found
            if not response["Responses"].get(self._name):  # otherwise only the response was full
                self._pause(0.05 * 2**turn)
        raise Throttled(f"{self._short}.get_many: the table returned no items")

    def put(self, partition: str, key: str, item: Item, condition: Condition = None) -> None:
        made = {**_key(partition, key), **attributes(item)}
        if self._lifetime:
            made[TTL] = {"N": str(int(self._clock()) + self._lifetime)}
        self._call("put", "put_item", TableName=self._name, Item=made, **_condition(condition))

    def delete(self, partition: str, key: str, condition: Condition = None) -> None:
        self._call(
            "delete",
            "delete_item",
            TableName=self._name,
            Key=_key(partition, key),
            **_condition(condition),
        )

    def delete_many(self, keys: Sequence[tuple[str, str]]) -> None:
        """Delete items without conditions, 25 in a call."""
        wanted = list(dict.fromkeys(keys))  # a call that names an item twice is refused
        batches = [wanted[at : at + _MAX_WRITES] for at in range(0, len(wanted), _MAX_WRITES)]
        self._aws.gather([partial(self._delete_batch, batch) for batch in batches])

    def _delete_batch(self, keys: Sequence[tuple[str, str]]) -> None:
        left: dict[str, Any] = {self._name: [{"DeleteRequest": {"Key": _key(*each)}} for each in keys]}
        for turn in range(_TRIES):
            if turn:
                self._pause(0.05 * 2**turn)
            response = self._call("delete_many", "batch_write_item", RequestItems=left)
            left = response.get("UnprocessedItems") or {}
            if not left:
                return
        raise Throttled(f"{self._short}.delete_many: the table left {len(left[self._name])} items undeleted")

    def query(self, partition: str, after: str, limit: int) -> Page:
        names = {"#partition": PARTITION}
        values = {":partition": {"S": partition}}
        expression = "#partition = :partition"
        if after:
            expression += " AND #sort > :after"
            names["#sort"] = SORT
            values[":after"] = {"S": after}
        response = self._call(
            "query",
            "query",
            TableName=self._name,
            KeyConditionExpression=expression,
            ExpressionAttributeNames=names,
            ExpressionAttributeValues=values,
            ConsistentRead=True,
            Limit=limit,
        )
        items = [(each[SORT]["S"], to_item(each)) for each in response["Items"]]
        return Page(items, "LastEvaluatedKey" in response)
