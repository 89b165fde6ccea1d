"""A hostile client, which sends what no client of ours sends.

It holds the secret of its own session, and may put any bytes into the worker queue and any object
into the object store. It can copy what others send, and cannot read it, as if it were in an
envelope (``faaskeeper/providers/cloud/envelopes.py``). It must get no answer to that, and must not
change the subtree of :mod:`faaskeeper.testing.simulator.vault`. Other clients are checked as in any
history.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from faaskeeper.core import codec, trust
from faaskeeper.core.blobs import TOKEN_BYTES, blob_name
from faaskeeper.core.codec import Malformed
from faaskeeper.core.errors import DriverError
from faaskeeper.core.requests import (
    Check,
    Close,
    Create,
    Data,
    Delete,
    End,
    Message,
    Multi,
    Open,
    Operation,
    Reply,
    Request,
    Resume,
    SetAcl,
    SetData,
    inline,
)
from faaskeeper.core.znode import OPEN_ACL
from faaskeeper.testing.simulator.vault import VAULT
from faaskeeper.testing.simulator.world import World

_ODD_NUMBERS = (0, -1, -2, 1, 2, 7, 1 << 31, (1 << 63) - 1, 1 << 63, 1 << 70, -(1 << 70), 10**400)
_ODD_TEXTS = (
    "",
    "/",
    "//",
    "/a/",
    "/a//b",
    "a",
    "/\0",
    "\ud800",
    "/é",
    "é" * 700,
    "/" + "x" * 5_000,
    "r/a",
    "b/",
)
_ODD_JSON = (
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "1.5",
    "true",
    "null",
    "[]",
    "{}",
    '"\\ud800"',
    "[" * 3_000 + "]" * 3_000,
    str(1 << 70),
    "-1",
    '""',
)
_FOREIGN = (
    ("digest", "owner:wrong"),
    ("super", "x"),
    ("world", "anyone"),
    ("ip", "127.0.0.1"),
    ("x509", "é:CN=x"),
)


class Hostile:
    """The client. ``times``: how many messages it sends."""

    def __init__(self, world: World, times: int) -> None:
        self._world = world
        self._random = world.random
        self._times = times
        self._secret = world.bytes(trust.KEY_BYTES)
        self._session = 0
        self._incarnation = 0
        self._last = 0
        self.process = world.process("hostile", False)
        self.done = False

    def run(self) -> None:
        """Send messages, and read the answers."""
        listener = self._world.mail.listen(self._receive)
        self._world.hostile_address = listener.address
        for _ in range(self._times):
            if self._world.overheard and self._random.random() < 0.4:
                self._copy(listener.address)
            if not self._session:
                self._open(listener.address)
            elif self._random.random() < 0.1:
                self._write_over()
            else:
                self._send(listener.address)
            self._world.scheduler.sleep(self._random.choice((1, 1, 30, 500)))
        self.done = True

    def _receive(self, signed: bytes) -> None:
        delivered = codec.to_delivery(trust.body(signed))
        if not isinstance(delivered, Reply):
            return
        if delivered.nonce and not self._session:
            self._session = delivered.session
        if delivered.session == self._session:
            for cxid, _ in delivered.outcomes:
                self._last = max(self._last, cxid)

    def _open(self, address: str) -> None:
        nonce = self._world.bytes(16).hex()
        self._world.model.hostile_nonces.add(nonce)
        opening = Open(nonce, self._secret, self._random.choice((4_000, 10_000, -5)))
        self._put(trust.sign(self._secret, codec.message(Message(0, 0, 0, address, (Request(0, opening),)))))

    def _put(self, signed: bytes) -> None:
        world = self._world
        world.foul.add(signed)
        try:
            trust.verify(self._secret, signed)
            message = codec.to_message(trust.body(signed))
        except (Malformed, trust.Forged):
            pass
        else:
            if message.session in world.model.hostile:
                world.model.may_be_asked(message)
        world.reached["sent what no client sends"] += 1
        try:
            world.worker_queue.send("writer", "hostile", signed)
        except DriverError:
            pass  # no check depends on it

    def _copy(self, address: str) -> None:
        """Send a message of another again: as it is, with a byte changed, or with this address."""
        body = self._random.choice(self._world.overheard)
        kind = self._random.random()
        if kind < 0.2:
            at = self._random.randrange(len(body))
            body = body[:at] + bytes((body[at] ^ 1 << self._random.randrange(8),)) + body[at + 1 :]
        elif kind < 0.6:
            body = self._readdressed(body, address)
        self._world.reached["a copy of what another has sent"] += 1
        self._put(body)

    @staticmethod
    def _readdressed(signed: bytes, address: str) -> bytes:
        """The message with another address: more than who cannot read it can do."""
        body = trust.body(signed)
        try:
            message = codec.to_message(body)
        except Malformed:  # an order
            return signed
        code = signed[: len(signed) - len(body)]
        return code + codec.message(message._replace(address=address))

    def _write_over(self) -> None:
        """Overwrite a blob of another client: clients may put any object."""
        bucket = self._world.bucket
        names = [name for name in bucket if name.startswith("b/")]
        if names:
            name = self._random.choice(names)
            body = bucket[name].body
            other = bucket[self._random.choice(names)].body
            self._world.objects.write_over(
                name, self._random.choice((b"", other, self._random.randbytes(len(body))))
            )
            self._world.reached["data written over by another"] += 1

    # ---- what it sends -----------------------------------------------------------------

    def _send(self, address: str) -> None:
        random = self._random
        kinds: tuple[Callable[[str], bytes], ...] = (
            self._in_turn,
            self._in_turn,
            self._in_turn,
            self._numbered,
            self._numbered,
            self._resumed,
            self._of_another,
            self._mangled,
            self._mangled,
            self._order,
            self._noise,
        )
        self._put(random.choice(kinds)(address))

    def _message(self, address: str, *requests: Request, **more: Any) -> bytes:
        fields = {"session": self._session, "incarnation": self._incarnation, "acked": 0, **more}
        message = Message(address=address, requests=requests, **fields)
        return trust.sign(self._secret, codec.message(message))

    def _in_turn(self, address: str) -> bytes:
        """The next request of the session, which is judged, with an odd operation."""
        self._last += 1
        return self._message(address, Request(self._last, self._operation(), self._auth()))

    def _numbered(self, address: str) -> bytes:
        """Cxids that repeat, leave gaps or are out of range."""
        random = self._random
        cxids = [random.choice((*_ODD_NUMBERS, self._last, self._last + 2)) for _ in range(3)]
        if random.random() < 0.5:
            cxids = sorted({cxid for cxid in cxids if cxid > 0})
        requests = [Request(cxid, self._operation(), self._auth()) for cxid in cxids]
        return self._message(
            address,
            *requests,
            acked=random.choice(_ODD_NUMBERS),
            incarnation=random.choice((self._incarnation, self._incarnation, *_ODD_NUMBERS)),
        )

    def _resumed(self, address: str) -> bytes:
        """Resume as another incarnation, in the place of its own or of any other."""
        random = self._random
        after, self._incarnation = self._incarnation, self._incarnation + random.choice((0, 1, 1, 5, 1 << 40))
        resume = Resume(random.choice((after, after, -1, *_ODD_NUMBERS)))
        if random.random() < 0.3:
            odd = random.choice(_ODD_NUMBERS)
            return self._message(address, Request(random.choice((0, self._last)), resume), incarnation=odd)
        self._last = 0
        return self._message(address, Request(0, resume), incarnation=self._incarnation)

    def _of_another(self, address: str) -> bytes:
        """Requests in the name of another session."""
        other = self._random.choice([*self._world.model.sessions, 1 << 40])
        while other == self._session:
            other += 1
        cxid = self._random.randint(0, 6)
        operation = self._random.choice((Close(), Resume(), Delete("/a"), self._operation()))
        if self._world.plan.ending and self._random.random() < 0.3:
            operation = End(self._random.choice([*self._world.model.sessions, 1 << 40]))
        return self._message(address, Request(cxid, operation), session=other)

    def _mangled(self, address: str) -> bytes:
        """A message in which one value is replaced."""
        body = trust.body(self._in_turn(address))
        end = 4 + int.from_bytes(body[:4], "big")
        head = json.loads(body[4:end])
        at: Any = head
        while True:
            where = self._random.randrange(len(at))
            if not (isinstance(at[where], list) and at[where]) or self._random.random() < 0.2:
                break
            at = at[where]
        at[where] = "@odd@"
        text = json.dumps(head).replace('"@odd@"', self._random.choice(_ODD_JSON)).encode()
        return trust.sign(self._secret, len(text).to_bytes(4, "big") + text + body[end:])

    def _order(self, address: str) -> bytes:
        """An order that only the service's own functions may send."""
        victims = list(self._world.model.sessions)
        return trust.sign(self._secret, codec.frame({"close": victims, "reap": [VAULT, f"{VAULT}/x"]}))

    def _noise(self, address: str) -> bytes:
        length = self._random.choice((0, 3, 31, 32, 33, 36, 37, 100))
        return self._random.randbytes(length)

    def _auth(self) -> tuple[tuple[str, str], ...]:
        return (self._random.choice(_FOREIGN),) if self._random.random() < 0.3 else ()

    def _path(self) -> str:
        paths = ("/h", "/h/1", "/a", "/b/x", VAULT, f"{VAULT}/x", f"{VAULT}/x", f"{VAULT}/z")
        return self._random.choice(paths if self._random.random() < 0.8 else _ENCODABLE)

    def _data(self, path: str) -> Data:
        random = self._random
        if random.random() < 0.5:
            return inline(b"h" * random.choice((0, 1, 10)))
        images = self._world.model.tree().values()
        names = [image.meta.blob for image in images if image.meta and image.meta.blob]
        token = self._world.bytes(TOKEN_BYTES)
        for session in (self._session, 1):
            names.append(blob_name(self._world.scheduler.now, token, session, b"x", path))
        name = random.choice([*names, f"r{VAULT}/x", "b/", "b/x", f"b/1700000000000/00/n{VAULT}/x"])
        return Data(b"", name, random.choice((0, 1, 60, 1 << 20, -1, 1 << 70)))

    def _operation(self, inside: bool = False) -> Operation:
        random = self._random
        version = random.choice((-1, -1, 0, *_ODD_NUMBERS))
        kind = random.randrange(8 if inside else 11)
        path = self._path()
        if kind < 3:
            return SetData(path, self._data(path), random.choice((-1, version)))
        if kind < 6:
            acl = random.choice((OPEN_ACL, OPEN_ACL, ((version, "digest", "a:b"), (1, "ip", "::/0")), ()))
            ttl = random.choice((0, 0, 0, 1, -1, *_ODD_NUMBERS))
            flags = random.random() < 0.3, random.random() < 0.3
            return Create(path, self._data(path), *flags, acl, ttl)
        if kind == 6:
            return Delete(path, random.choice((-1, version)))
        if kind == 7 and inside:
            return Check(path, version)
        if kind in (7, 8):
            acl = random.choice(
                (OPEN_ACL, ((31, "auth", ""),), ((31, "nobody", "x"),), ((0, "world", "anyone"),))
            )
            return SetAcl(path, acl, version)
        if kind == 9:
            some = [self._operation(inside=True) for _ in range(random.choice((0, 1, 3, 40)))]
            return Multi(tuple(some))  # type: ignore[arg-type]
        return random.choice((Open("x", b"y", 1), Resume(0), Multi(()), Check("", 0)))


_ENCODABLE = tuple(
    text for text in _ODD_TEXTS if text.encode("utf-8", "replace") == text.encode("utf-8", "ignore")
)
