"""The only codec: messages, log entries and records as bytes and as table items.

Bytes are *frames*: the length of a JSON text (4 bytes, big-endian), the text, then raw data to
which the text refers by lengths. In tables everything is a flat item, whose strings are JSON if
they hold more than a word, so that a console shows the contents.

Decoders raise :class:`Malformed` on anything that an encoder would not have written.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from faaskeeper.core.acl import Credential
from faaskeeper.core.changes import (
    NOTHING,
    Change,
    Closed,
    Effect,
    Opened,
    Owned,
    Replaced,
    Restored,
    Resumed,
    Transaction,
    trimmed,
)
from faaskeeper.core.drivers.storage import Item
from faaskeeper.core.errors import Code
from faaskeeper.core.requests import (
    MAX_INCARNATION,
    NO_DATA,
    Check,
    Close,
    Create,
    Data,
    Delete,
    End,
    Epoch,
    Message,
    Multi,
    Notification,
    Open,
    Operation,
    Outcome,
    Reply,
    Request,
    Resume,
    SetAcl,
    SetData,
)
from faaskeeper.core.znode import OPEN_ACL, Acl, Meta

_T = TypeVar("_T")
_meta: Callable[[type[Meta], Sequence[Any]], Meta] = tuple.__new__
"""Makes a named tuple of all its fields, several times faster than its class does."""


class Malformed(ValueError):
    """Bytes that this codec did not write."""


def _checked(decode: Callable[..., _T]) -> Callable[..., _T]:
    def checked(*args: Any) -> _T:
        try:
            return decode(*args)
        except Malformed:
            raise
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise Malformed(f"{decode.__name__}: {error!r}") from error

    return checked


def _encoder() -> Callable[[object], str]:
    """Make a JSON encoder once: ``JSONEncoder.encode`` makes its C encoder for every call."""
    encoder = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, check_circular=False)
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return encoder.encode
    encode = make(None, encoder.default, json.encoder.encode_basestring, None, ":", ",", False, False, True)

    def text(value: object) -> str:
        return "".join(encode(value, 0))

    return text


text: Callable[[object], str] = _encoder()
"""JSON of a value, without spaces."""
_dumps = text


_decoder: Any = json.JSONDecoder()
_scan: Callable[[str, int], tuple[Any, int]] = _decoder.scan_once
"""Without ``raw_decode`` around it, which only changes the error."""


def parse(value: str) -> Any:
    """Value of a JSON text made by :func:`text`. Raises ValueError."""
    try:
        parsed, end = _scan(value, 0)
    except StopIteration:
        raise Malformed("the JSON text has no value where one was expected") from None
    if end != len(value):
        raise Malformed("the JSON text is followed by other bytes")
    return parsed


def frame(head: object, data: Sequence[bytes] = ()) -> bytes:
    """Bytes of a JSON value and the data to which it refers."""
    encoded = _dumps(head).encode()
    return b"".join((len(encoded).to_bytes(4, "big"), encoded, *data))


def unframe(body: bytes) -> tuple[Any, int]:
    """The JSON value of a frame, and the offset of its data."""
    end = 4 + int.from_bytes(body[:4], "big")
    if len(body) < max(end, 4):
        raise Malformed("a frame is truncated")
    return parse(body[4:end].decode()), end


# ---- messages of clients -------------------------------------------------------------------


def _acl(acl: tuple[Acl, ...]) -> list[Acl] | None:
    return None if acl is OPEN_ACL or acl == OPEN_ACL else list(acl)


def _to_acl(value: Any) -> tuple[Acl, ...]:
    if value is None:
        return OPEN_ACL
    acl = tuple((int(perms), str(scheme), str(name)) for perms, scheme, name in value)
    return OPEN_ACL if acl == OPEN_ACL else acl


def _requested_acl(value: Any) -> tuple[Acl, ...]:
    """The ACL of a request. Raises Malformed if it contains what cannot be logged."""
    if value is None:
        return OPEN_ACL
    return tuple((_int32(perms), _path(scheme), _path(name)) for perms, scheme, name in value)


def _operation(operation: Operation, data: list[bytes]) -> list[Any]:
    if isinstance(operation, SetData):
        content = operation.data
        data.append(content.inline)
        return ["set", operation.path, operation.version, _data(content)]
    if isinstance(operation, Create):
        data.append(operation.data.inline)
        flags = operation.ephemeral | operation.sequential << 1
        row = ["create", operation.path, flags, _data(operation.data), _acl(operation.acl)]
        return [*row, operation.ttl] if operation.ttl else row
    if isinstance(operation, Delete):
        return ["delete", operation.path, operation.version]
    if isinstance(operation, Check):
        return ["check", operation.path, operation.version]
    if isinstance(operation, SetAcl):
        return ["acl", operation.path, operation.version, list(operation.acl)]
    if isinstance(operation, Multi):
        return ["multi", [_operation(each, data) for each in operation.operations]]
    if isinstance(operation, Close):
        return ["close"]
    if isinstance(operation, End):
        return ["end", operation.session]
    if isinstance(operation, Open):
        data.append(operation.secret)
        return ["open", operation.nonce, len(operation.secret), operation.timeout]
    if isinstance(operation, Resume):
        return ["resume", operation.after]
    raise Malformed(f"not an operation of clients: {operation!r}")


def _data(data: Data) -> int | list[Any]:
    return [data.blob, data.length] if data.blob else data.length


def message(message: Message) -> bytes:
    """Encode a client's message as a frame (to be signed)."""
    data: list[bytes] = []
    requests: list[list[Any]] = []
    for cxid, operation, auth in message.requests:
        requests.append([cxid, _operation(operation, data)])
        if auth:
            requests[-1].append(list(auth))
    head = [message.session, message.incarnation, message.acked, message.address, requests]
    return frame(head, data)


def _path(value: Any) -> str:
    if not isinstance(value, str):
        raise Malformed(f"not a path: {value!r}")
    if not value.isascii():
        value.encode()
    return value


def _int(value: Any) -> int:
    if type(value) is not int:
        raise Malformed(f"not an integer: {value!r}")
    return value


def _session(value: Any) -> int:
    if not 0 <= _int(value) < 2**63:
        raise Malformed(f"not a session: {value!r}")
    return int(value)


def _int32(value: Any) -> int:
    if not -(2**31) <= _int(value) < 2**31:
        raise Malformed(f"not an integer of 32 bits: {value!r}")
    return int(value)


class _Cursor:
    """Takes data out of a frame, piece by piece."""

    def __init__(self, body: bytes, at: int) -> None:
        self._body = body
        self._at = at

    def take(self, length: Any) -> bytes:
        end = self._at + _int(length)
        if not self._at <= end <= len(self._body):
            raise Malformed("data is truncated")
        piece = self._body[self._at : end]
        self._at = end
        return piece

    def data(self, value: Any) -> Data:
        if isinstance(value, list):
            blob, length = value
            return Data(b"", _path(blob), _int(length))
        return NO_DATA if value == -1 else Data(self.take(value), "", value)


def _to_operation(value: list[Any], cursor: _Cursor) -> Operation:
    kind = value[0]
    if kind == "set":
        return SetData(_path(value[1]), cursor.data(value[3]), _int32(value[2]))
    if kind == "create":
        flags = _int(value[2])
        data = cursor.data(value[3])
        ttl = _int(value[5]) if len(value) > 5 else 0
        if not 0 <= flags <= 3:
            raise Malformed(f"not the flags of a create: {flags}")
        return Create(_path(value[1]), data, bool(flags & 1), bool(flags & 2), _requested_acl(value[4]), ttl)
    if kind == "delete":
        return Delete(_path(value[1]), _int32(value[2]))
    if kind == "check":
        return Check(_path(value[1]), _int32(value[2]))
    if kind == "acl":
        return SetAcl(_path(value[1]), _requested_acl(value[3]), _int32(value[2]))
    if kind == "multi":
        return Multi(tuple(_in_multi(each, cursor) for each in value[1]))
    if kind == "close":
        return Close()
    if kind == "end":
        return End(_session(value[1]))
    if kind == "open":
        return Open(_path(value[1]), cursor.take(value[2]), _int(value[3]))
    if kind == "resume":
        return Resume(_int(value[1])) if len(value) > 1 else Resume()
    raise Malformed(f"not an operation: {kind!r}")


def _in_multi(value: list[Any], cursor: _Cursor) -> Create | SetData | Delete | Check:
    operation = None if value[0] == "multi" else _to_operation(value, cursor)
    if isinstance(operation, (Create, SetData, Delete, Check)):
        return operation
    raise Malformed(f"not an operation of a multi: {value[0]!r}")


def _to_auth(value: list[Any]) -> tuple[Credential, ...]:
    if not value:
        return ()
    return tuple((_path(scheme), _path(shown)) for scheme, shown in value[0])


@_checked
def to_message(body: bytes) -> Message:
    """Decode the message of a frame."""
    (session, incarnation, acked, address, requests), at = unframe(body)
    cursor = _Cursor(body, at)
    decoded = tuple(
        Request(_int(row[0]), _to_operation(row[1], cursor), _to_auth(row[2:])) for row in requests
    )
    if not 0 <= _int(incarnation) < MAX_INCARNATION:
        raise Malformed(f"not an incarnation: {incarnation}")
    return Message(_int(session), incarnation, _int(acked), _path(address), decoded)


# ---- parts of several messages ---------------------------------------------------------------

_USUAL = (OPEN_ACL, 0, 0, 0)
"""The last fields of nearly all metadata."""


def meta(meta: Meta | None) -> list[Any] | None:
    """Metadata as a list; the ACL and later fields only if they differ from the defaults."""
    if meta is None:
        return None
    if meta[12:] == _USUAL:
        return list(meta[:12])
    if meta.emptied:
        return [*meta[:12], list(meta.acl), meta.ttl, meta.pages, meta.emptied]
    if meta.pages:
        return [*meta[:12], list(meta.acl), meta.ttl, meta.pages]
    if meta.ttl:
        return [*meta[:12], list(meta.acl), meta.ttl]
    return [*meta[:12], list(meta.acl)]


def to_meta(value: Any) -> Meta | None:
    """Decode metadata."""
    if value is None:
        return None
    if len(value) == 12:
        return _meta(Meta, (*value, *_USUAL))
    ttl, pages, emptied = (*value[13:], 0, 0, 0)[:3]
    return Meta(*value[:12])._replace(acl=_to_acl(value[12]), ttl=ttl, pages=pages, emptied=emptied)


_CODES = {code.value: code for code in Code}
_VALUES = {code: code.value for code in Code}
"""``code.value`` is a call."""


def outcome(decided: Outcome) -> list[Any]:
    """Encode an outcome as a list."""
    code, txid, path, after, paths, results = decided
    row = [_VALUES[code], txid, path, meta(after)]
    if results or paths:
        row.append(list(paths))
        row.append([outcome(each) for each in results])
    return row


def to_outcome(value: Any) -> Outcome:
    """Decode an outcome."""
    if len(value) == 4:
        return Outcome(_CODES[value[0]], value[1], value[2], to_meta(value[3]))
    results = tuple(to_outcome(each) for each in value[5])
    code = _CODES[value[0]]
    return Outcome(code, value[1], value[2], to_meta(value[3]), tuple(value[4]), results)


def recent(value: Any) -> Any:
    """Decode ``recent`` of an epoch."""
    if value is None:
        return None
    return tuple((txid, tuple((path, letters) for path, letters in writes)) for txid, writes in value)


def to_epoch(value: Any) -> Epoch:
    """Decode an epoch."""
    floor, upto, transactions = value
    return Epoch(_int(floor), _int(upto), recent(transactions))


# ---- messages to clients ---------------------------------------------------------------------


def reply(reply: Reply) -> bytes:
    """Encode a reply as a frame (to be signed)."""
    outcomes = [[cxid, *outcome(each)] for cxid, each in reply.outcomes]
    head = [
        "reply",
        reply.session,
        reply.incarnation,
        outcomes,
        reply.epoch,
        reply.time,
        reply.resend,
        reply.nonce,
    ]
    if reply.current:
        head.append(reply.current)
    return frame(head)


def notification(notification: Notification) -> bytes:
    """Encode a notification as a frame (to be signed)."""
    return frame(["event", notification.session, notification.epoch])


@_checked
def to_delivery(body: bytes) -> Reply | Notification:
    """Decode a reply or notification."""
    value, _ = unframe(body)
    if value[0] == "event":
        return Notification(_int(value[1]), to_epoch(value[2]))
    _, session, incarnation, outcomes, epoch, time, resend, nonce, *current = value
    decoded = tuple((each[0], to_outcome(each[1:])) for each in outcomes)
    return Reply(session, incarnation, decoded, to_epoch(epoch), time, resend, nonce, *current)


# ---- transactions ----------------------------------------------------------------------------


def _effect(effect: Effect) -> list[Any]:
    if isinstance(effect, Owned):
        return ["own" if effect.kept else "disown", effect.session, effect.path]
    if isinstance(effect, Opened):
        return ["open", effect.nonce, effect.sealed.hex(), effect.timeout]
    if isinstance(effect, Resumed):
        return ["resume", effect.session, effect.incarnation]
    if isinstance(effect, Restored):
        return ["restore", effect.of, int(effect.planned)]
    return ["close", effect.session, 1] if effect.partial else ["close", effect.session]


def _to_effect(value: list[Any]) -> Effect:
    kind = value[0]
    if kind in ("own", "disown"):
        return Owned(value[1], value[2], kind == "own")
    if kind == "open":
        return Opened(value[1], bytes.fromhex(value[2]), value[3])
    if kind == "resume":
        return Resumed(value[1], value[2])
    if kind == "close":
        return Closed(value[1], len(value) > 2)
    if kind == "restore":
        return Restored(value[1], bool(value[2]))
    raise Malformed(f"not an effect: {kind!r}")


def _replaced(txid: int, replaced: Replaced) -> Any:
    """What a change replaced, by how many transactions before."""
    if replaced == NOTHING:
        return 0
    mzxid, version, acl = replaced
    return [txid - mzxid, version] if acl is OPEN_ACL else [txid - mzxid, version, list(acl)]


def _to_replaced(txid: int, value: Any) -> Replaced:
    if not isinstance(value, list):
        return Replaced(txid - value) if value else NOTHING
    return Replaced(txid - value[0], value[1], _to_acl(value[2]) if len(value) > 2 else OPEN_ACL)


def transaction(transaction: Transaction, data: list[bytes]) -> str:
    """Encode a transaction as JSON; its data is appended to ``data``.

    What earlier releases do not know stands behind what they read, and they ignore it: ``replaced``
    as a change's fifth value, ``by`` as the transaction's eighth.
    """
    changes: list[list[Any]] = []
    for path, letters, after, content in transaction.changes:
        if content is None:
            changes.append([path, letters, meta(after)])
        else:
            changes.append([path, letters, meta(after), len(content)])
            data.append(content)
    txid = transaction.txid
    for change, replaced in zip(changes, transaction.replaced, strict=False):
        if replaced is None:
            continue
        if len(change) == 3:  # deleted
            change.append(0)
        if replaced is NOTHING:
            change.append(0)
        else:
            simple = not replaced[1] and replaced[2] is OPEN_ACL
            change.append(txid - replaced[0] if simple else _replaced(txid, replaced))
    row: list[Any] = [txid, changes]
    if transaction.effects or transaction.garbage:
        row.append([_effect(effect) for effect in transaction.effects])
        row.append(list(transaction.garbage))
    by = transaction.by
    if transaction.resized or transaction.grown or transaction.order or by:
        row.extend([[], []] if len(row) == 2 else [])
        row.append(list(transaction.resized))
        if transaction.grown or transaction.order or by:
            row.append(transaction.grown)
        if transaction.order or by:
            row.append(list(transaction.order))
        if by:
            row.append(list(by))
    return _dumps(row)


def to_transaction(value: str, cursor: _Cursor) -> Transaction:
    """Decode a transaction; its data is taken from the cursor."""
    row = parse(value)
    changes = tuple(
        Change(
            change[0],
            change[1],
            to_meta(change[2]),
            None if len(change) < 4 or (len(change) > 4 and change[2] is None) else cursor.take(change[3]),
        )
        for change in row[1]
    )
    replaced: tuple[Replaced | None, ...] = ()
    if len(row[1]) != 1:
        replaced = trimmed([_to_replaced(row[0], each[4]) if len(each) > 4 else None for each in row[1]])
    elif len(row[1][0]) > 4:
        replaced = (_to_replaced(row[0], row[1][0][4]),)
    if len(row) == 2:
        return Transaction(row[0], changes, replaced=replaced)
    effects = tuple(_to_effect(effect) for effect in row[2])
    resized = tuple((path, pages) for path, pages in row[4]) if len(row) > 4 else ()
    grown = row[5] if len(row) > 5 else 0
    order = tuple((place, letters) for place, letters in row[6]) if len(row) > 6 else ()
    by = tuple(row[7]) if len(row) > 7 else ()
    return Transaction(row[0], changes, effects, tuple(row[3]), resized, grown, order, replaced, by)


def cursor(data: bytes) -> _Cursor:
    """A cursor over data that :func:`transaction` appended."""
    return _Cursor(data, 0)


# ---- items, for stores of bytes --------------------------------------------------------------


def item(item: Item) -> bytes:
    """Encode a table's item as a frame."""
    head = {name: [len(value)] if isinstance(value, bytes) else value for name, value in item.items()}
    data = {name: value for name, value in item.items() if isinstance(value, bytes)}
    return frame([head, list(data)], list(data.values()))


@_checked
def to_item(body: bytes) -> Item:
    """Decode the item of a frame."""
    (item, binary), at = unframe(body)
    for name in binary:
        end = at + item[name][0]
        item[name] = body[at:end]
        at = end
    return dict(item)
