"""A small ZooKeeper in memory, written from its documented rules: what a server must show, without a server.

It shares no code with the core, and says with other words what the judge says. Sources: the Programmer's
Guide (data model, ACLs, watches, container and TTL nodes) and the order in which ``PrepRequestProcessor`` of
release 3.8 refuses. It does the operations of scenarios (``faaskeeper/testing/conformance/golden.json``).
Time stands still.
"""

from __future__ import annotations

import copy
import hashlib
import ipaddress
import re
from base64 import b64encode
from collections.abc import Iterable
from typing import Any, NamedTuple

READ, WRITE, CREATE, DELETE, ADMIN = 1, 2, 4, 8, 16
OPEN = [[31, "world", "anyone"]]
TTL_MOST_MS = 0xFFFFFFFFFF
DATA_MOST = 1024 * 1024


class Error(Exception):
    """The answer is this error."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Stat(NamedTuple):
    """As clients know it."""

    czxid: int
    mzxid: int
    ctime: int
    mtime: int
    version: int
    cversion: int
    aversion: int
    ephemeralOwner: int
    dataLength: int
    numChildren: int
    pzxid: int


class Node:
    """A znode with its children by name."""

    def __init__(self, zxid: int, data: bytes, acl: list[list[Any]], owner: int = 0) -> None:
        self.czxid = self.mzxid = self.pzxid = zxid
        self.version = self.aversion = 0
        self.born = 0
        """Children ever created."""
        self.changes = 0
        """How often a child was created or deleted."""
        self.data = data
        self.acl = acl
        self.owner = owner
        self.children: dict[str, Node] = {}

    def stat(self) -> Stat:
        return Stat(
            self.czxid,
            self.mzxid,
            0,
            0,
            self.version,
            self.changes,
            self.aversion,
            self.owner,
            len(self.data),
            len(self.children),
            self.pzxid,
        )


class Session:
    """An open session, what it has proven, what it watches, and what it was told."""

    def __init__(self, id: int) -> None:
        self.id = id
        self.users: list[str] = []
        self.watches: set[tuple[str, str]] = set()
        """Path and kind: data, exists, children, persistent, recursive."""
        self.told: list[list[str]] = []

    def proves(self, scheme: str, id: str) -> bool:
        if scheme == "world":
            return True
        if scheme == "ip":
            return ipaddress.ip_address("127.0.0.1") in ipaddress.ip_network(id, strict=False)
        return scheme == "digest" and id in self.users


_WRONG_CHARACTER = re.compile("[\0-\x1f\x7f-\x9f\ud800-\uf8ff\ufff0-\uffff]")


def is_path(path: str) -> bool:
    """Whether a znode may have the path."""
    parts = path.split("/")
    return path == "/" or (
        parts[0] == ""
        and len(parts) > 1
        and all(part not in ("", ".", "..") for part in parts[1:])
        and not _WRONG_CHARACTER.search(path)
    )


def above(path: str) -> str:
    """The parent's path."""
    return path.rsplit("/", 1)[0] or "/"


class ZooKeeper:
    """A server's tree and sessions."""

    def __init__(self) -> None:
        self._zxid = 0
        self._root = Node(0, b"", OPEN)
        reserved = self._root.children["zookeeper"] = Node(0, b"", OPEN)
        reserved.children["quota"] = Node(0, b"", OPEN)
        config = reserved.children["config"] = Node(0, b"", [[READ, "world", "anyone"]])
        config.aversion = -1
        self._root.changes, reserved.changes = -1, -2  # children that a server does not count
        self._sessions: dict[str, Session] = {}
        self._pending: list[tuple[str, str]] = []
        """What the operation that is under way has done: created, deleted or changed, and a path."""

    # ---- as scenarios want it --------------------------------------------------------------

    def call(self, session: str, op: str, args: list[Any]) -> dict[str, Any]:
        """Perform an operation. Raises Error."""
        own = self._session(session)
        if op in ("close", "expire"):
            self._close(session, own)
            return {}
        if op in ("create", "create_container", "create_ttl", "set", "delete", "set_acl", "check"):
            return self._commit(lambda: self._one(own, op, args))
        if op == "multi":
            return self._multi(own, args[0])
        if op == "multi_read":
            return {"results": [self._part(own, op, path) for op, path in args[0]]}
        found: dict[str, Any] = getattr(self, f"_{op}")(own, *args)
        return found

    def events(self) -> dict[str, list[list[str]]]:
        """What each session was told since the last call, in order."""
        told = {name: each.told for name, each in self._sessions.items() if each.told}
        for each in self._sessions.values():
            each.told = []
        return told

    def owner(self, session: str) -> int:
        """Id of a session."""
        return self._session(session).id

    def _session(self, name: str) -> Session:
        if name not in self._sessions:
            self._zxid += 1
            self._sessions[name] = Session(self._zxid)
        return self._sessions[name]

    # ---- the tree --------------------------------------------------------------------------

    def _find(self, path: str) -> Node | None:
        node = self._root if path.startswith("/") else None
        for name in [part for part in path.split("/")[1:] if path != "/"]:
            node = None if node is None else node.children.get(name)
        return node

    def _get_node(self, path: str) -> Node:
        node = self._find(path)
        if node is None:
            raise Error("NoNode")
        return node

    @staticmethod
    def _allow(own: Session, node: Node, permission: int) -> None:
        if not any(given & permission and own.proves(scheme, id) for given, scheme, id in node.acl):
            raise Error("NoAuth")

    @staticmethod
    def _fixed(own: Session, acl: list[list[Any]]) -> list[list[Any]]:
        kept: list[list[Any]] = []
        for permissions, scheme, id in acl:
            if scheme == "auth":
                if not own.users:
                    raise Error("InvalidACL")
                kept += [[permissions, "digest", user] for user in own.users]
                continue
            if scheme == "world":
                valid = id == "anyone"
            elif scheme == "digest":
                valid = bool(re.fullmatch(r"[^:]*:[^:]+:*", id))
            elif scheme == "ip":
                try:
                    valid = bool(ipaddress.ip_network(id, strict=False))
                except ValueError:
                    valid = False
            else:
                valid = False
            if not valid:
                raise Error("InvalidACL")
            if [permissions, scheme, id] not in kept:
                kept.append([permissions, scheme, id])
        if not kept:
            raise Error("InvalidACL")
        return kept

    # ---- writing ---------------------------------------------------------------------------

    def _commit(self, do: Any) -> dict[str, Any]:
        """Do something as one transaction, and tell who watches what it did."""
        self._zxid += 1
        self._pending = []
        shown: dict[str, Any] = do()
        for what, path in self._pending:
            self._tell(what, path)
        return shown

    def _one(self, own: Session, op: str, args: list[Any]) -> dict[str, Any]:
        if op == "create":
            path, data, flags, *acl = args
            return self._create(own, path, data, flags, acl[0] if acl else OPEN)
        if op == "create_container":
            return self._create(own, args[0], args[1], 0, OPEN)
        if op == "create_ttl":
            path, data, flags, ttl = args
            if not 0 < ttl <= TTL_MOST_MS:
                raise Error("BadArguments")
            return self._create(own, path, data, 2 if flags == 6 else 0, OPEN)
        if op == "set":
            return self._set(own, *args)
        if op == "delete":
            return self._delete(own, *args)
        if op == "set_acl":
            return self._set_acl(own, *args)
        return self._check(own, *args)

    def _create(self, own: Session, path: str, data: Any, flags: int, acl: list[list[Any]]) -> dict[str, Any]:
        if "/" not in path or "\0" in path:
            raise Error("BadArguments")
        kept = self._fixed(own, acl)
        parent = self._get_node(above(path))
        self._allow(own, parent, CREATE)
        if flags & 2:
            path += f"{parent.born:010d}"
        if not is_path(path):
            raise Error("BadArguments")
        if self._find(path) is not None:
            raise Error("NodeExists")
        if parent.owner:
            raise Error("NoChildrenForEphemerals")
        node = Node(self._zxid, _bytes(data), kept, own.id if flags & 1 else 0)
        parent.children[path.rsplit("/", 1)[1]] = node
        parent.born += 1
        parent.changes += 1
        parent.pzxid = self._zxid
        self._pending.append(("created", path))
        return {"path": path, "stat": node.stat()}

    def _set(self, own: Session, path: str, data: Any, version: int) -> dict[str, Any]:
        if not is_path(path):
            raise Error("BadArguments")
        node = self._get_node(path)
        self._allow(own, node, WRITE)
        if version not in (-1, node.version):
            raise Error("BadVersion")
        node.data = _bytes(data)
        node.version += 1
        node.mzxid = self._zxid
        self._pending.append(("changed", path))
        return {"stat": node.stat()}

    def _delete(self, own: Session, path: str, version: int) -> dict[str, Any]:
        fixed = ("/", "/zookeeper", "/zookeeper/config", "/zookeeper/quota")
        if "/" not in path or "\0" in path or path in fixed:
            raise Error("BadArguments")
        parent = self._get_node(above(path))
        self._allow(own, parent, DELETE)
        node = self._get_node(path)
        if version not in (-1, node.version):
            raise Error("BadVersion")
        if node.children:
            raise Error("NotEmpty")
        self._remove(path)
        return {}

    def _remove(self, path: str) -> None:
        parent = self._get_node(above(path))
        del parent.children[path.rsplit("/", 1)[1]]
        parent.changes += 1
        parent.pzxid = self._zxid
        self._pending.append(("deleted", path))

    def _set_acl(self, own: Session, path: str, acl: list[list[Any]], version: int) -> dict[str, Any]:
        if not is_path(path):
            raise Error("BadArguments")
        kept = self._fixed(own, acl)
        node = self._get_node(path)
        self._allow(own, node, ADMIN)
        if version not in (-1, node.aversion):
            raise Error("BadVersion")
        node.acl = kept
        node.aversion += 1
        return {"stat": node.stat()}

    def _check(self, own: Session, path: str, version: int) -> dict[str, Any]:
        if not is_path(path):
            raise Error("BadArguments")
        node = self._get_node(path)
        self._allow(own, node, READ)
        if version not in (-1, node.version):
            raise Error("BadVersion")
        return {}

    def _multi(self, own: Session, parts: list[Any]) -> dict[str, Any]:
        """All or nothing: on a copy of the tree that is thrown away where one part is refused."""
        before = copy.deepcopy(self._root)
        results: list[dict[str, Any]] = []

        def do() -> dict[str, Any]:
            for op, *args in parts:
                shown = self._one(own, op, args)
                if op == "create":
                    del shown["stat"]
                results.append({"op": op, **shown})
            return {"results": results}

        try:
            return self._commit(do)
        except Error as error:
            self._root = before
            failed = ["Ok"] * len(results) + [error.code]
            failed += ["RuntimeInconsistency"] * (len(parts) - len(failed))
            return {"results": [{"error": code} for code in failed]}

    def _close(self, name: str, own: Session) -> None:
        del self._sessions[name]
        mine = [path for path, node in self._walk("/") if node.owner == own.id]

        def do() -> dict[str, Any]:
            for path in mine:
                self._remove(path)
            return {}

        self._commit(do)

    # ---- reading ---------------------------------------------------------------------------

    def _walk(self, path: str) -> Iterable[tuple[str, Node]]:
        """Everything below a path."""
        node = self._find(path)
        for name, child in [] if node is None else node.children.items():
            below = f"/{name}" if path == "/" else f"{path}/{name}"
            yield below, child
            yield from self._walk(below)

    def _readable(self, own: Session, path: str) -> Node:
        node = self._get_node(path)
        self._allow(own, node, READ)
        return node

    def _get(self, own: Session, path: str, watch: bool = False) -> dict[str, Any]:
        node = self._readable(own, path)
        if watch:
            own.watches.add((path, "data"))
        return {"data": node.data.decode(), "stat": node.stat()}

    def _exists(self, own: Session, path: str, watch: bool = False) -> dict[str, Any]:
        if "\0" in path:
            raise Error("BadArguments")
        if watch:
            own.watches.add((path, "exists"))
        return {"stat": self._get_node(path).stat()}

    def _children(self, own: Session, path: str, watch: bool = False) -> dict[str, Any]:
        node = self._readable(own, path)
        if watch:
            own.watches.add((path, "children"))
        return {"children": sorted(node.children)}

    def _children2(self, own: Session, path: str, watch: bool = False) -> dict[str, Any]:
        return {**self._children(own, path, watch), "stat": self._get_node(path).stat()}

    def _part(self, own: Session, op: str, path: str) -> dict[str, Any]:
        try:
            return {"op": op, **getattr(self, f"_{op}")(own, path)}
        except Error as error:
            return {"error": error.code}

    def _get_acl(self, own: Session, path: str) -> dict[str, Any]:
        node = self._get_node(path)
        self._allow(own, node, READ | ADMIN)
        try:
            self._allow(own, node, ADMIN)
            acl = node.acl
        except Error:
            acl = [
                [given, scheme, id.split(":")[0] + ":x" if scheme == "digest" else id]
                for given, scheme, id in node.acl
            ]
        return {"acl": [list(each) for each in acl], "stat": node.stat()}

    def _sync(self, _: Session, path: str) -> dict[str, Any]:
        return {"path": path}

    def _get_ephemerals(self, own: Session, path: str) -> dict[str, Any]:
        mine = (each for each, node in self._walk("/") if node.owner == own.id)
        return {"paths": sorted(each for each in mine if each.startswith(path))}

    def _all_children_number(self, own: Session, path: str) -> dict[str, Any]:
        self._readable(own, path)
        return {"number": len(list(self._walk(path)))}

    def _auth(self, own: Session, scheme: str, shown: str) -> dict[str, Any]:
        user = shown.split(":", 1)[0]
        id = f"{user}:{b64encode(hashlib.sha1(shown.encode()).digest()).decode()}"
        if scheme == "digest" and id not in own.users:
            own.users.append(id)
        return {}

    def _whoami(self, own: Session) -> dict[str, Any]:
        return {"ids": [["ip", "127.0.0.1"], *(["digest", user.split(":")[0]] for user in own.users)]}

    # ---- watching --------------------------------------------------------------------------

    def _add_watch(self, own: Session, path: str, mode: int) -> dict[str, Any]:
        own.watches.add((path, "recursive" if mode else "persistent"))
        return {}

    @staticmethod
    def _watching(own: Session, path: str, type: int) -> set[tuple[str, str]]:
        kinds = {1: ("children",), 2: ("data", "exists")}.get(
            type, ("data", "exists", "children", "persistent", "recursive")
        )
        found = {(path, kind) for kind in kinds} & own.watches
        if not found:
            raise Error("NoWatcher")
        return found

    def _check_watches(self, own: Session, path: str, type: int) -> dict[str, Any]:
        self._watching(own, path, type)
        return {}

    def _remove_watches(self, own: Session, path: str, type: int) -> dict[str, Any]:
        own.watches -= self._watching(own, path, type)
        return {}

    def _tell(self, what: str, path: str) -> None:
        """Tell of a znode that was created, deleted or changed, and then of its parent's children."""
        for own in self._sessions.values():
            once = {(path, "data"), (path, "exists")} if what != "created" else {(path, "exists")}
            if what == "deleted":
                once.add((path, "children"))
            line = [path]
            while line[-1] != "/":
                line.append(above(line[-1]))
            recursive = {(each, "recursive") for each in line}
            if own.watches & (once | recursive | {(path, "persistent")}):
                own.told.append([what, path])
            own.watches -= once
            if what != "changed":
                listing = {(above(path), "children")}
                if own.watches & (listing | {(above(path), "persistent")}):
                    own.told.append(["children", above(path)])
                own.watches -= listing


def _bytes(data: Any) -> bytes:
    """Data as scenarios write it: a text, or so many zero bytes."""
    return bytes(data[1]) if isinstance(data, list) else data.encode()
