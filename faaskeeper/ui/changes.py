"""Routes that write. Each first looks whether the session's rights allow it: else nothing is sent."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable
from functools import partial
from typing import Any

from anyio import fail_after, to_thread
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from faaskeeper.cli import acls
from faaskeeper.cli.errors import Failed
from faaskeeper.cli.reverting import reverted
from faaskeeper.client.batches import TransactionRequest
from faaskeeper.core import paths
from faaskeeper.core.znode import MAX_DATA_BYTES, Acl
from faaskeeper.exceptions import (
    BadVersionError,
    FaaSKeeperException,
    NoAuthException,
    NodeDoesntExistException,
    RolledBackException,
)
from faaskeeper.node import Node
from faaskeeper.ui.access import (
    Access,
    Invalid,
    access_of,
    body_in,
    bounded,
    error_of,
    json_in,
    number_in,
    path_in,
)
from faaskeeper.ui.nodes import node_of, stat_of

_MOST_STEPS = 1000
_ANSWER_S = 30.0
"""How long a page waits for a change. A client waits for ever: it sends it again."""


async def _answered(change: Callable[..., Response], *arguments: Any) -> Response:
    """The answer to a change, made by another thread. Raises Failed if there is none in time."""
    try:
        with fail_after(_ANSWER_S):
            return await to_thread.run_sync(partial(change, *arguments), abandon_on_cancel=True)
    except TimeoutError:
        raise Failed(
            f"no answer within {_ANSWER_S:g} s. The change may still be made: look before you try again", 8
        ) from None


async def put(request: Request) -> Response:
    """Route: replace a node's data, if it still has the version that was edited."""
    access, path, version = access_of(request), path_in(request), number_in(request, "version")
    if version < 0:
        raise Invalid("give the version that was edited")
    data = await body_in(request, MAX_DATA_BYTES)
    return await _answered(_put, access, path, data, version)


def _put(access: Access, path: str, data: bytes, version: int) -> Response:
    access.require(path, "write")
    try:
        node = access.client.set_data(path, data, version)
    except BadVersionError as error:
        answer = error_of(error)
        try:
            theirs: Any = node_of(access.client.get_data(path))
        except (NodeDoesntExistException, NoAuthException):
            theirs = None
        return JSONResponse({**_json(answer), "theirs": theirs}, answer.status_code)
    return JSONResponse({"path": path, "stat": stat_of(node.stat)})


def _json(answer: JSONResponse) -> dict[str, Any]:
    import json

    found: dict[str, Any] = json.loads(bytes(answer.body))
    return found


class Step:
    """One change that a page asks for, validated."""

    def __init__(self, given: Any) -> None:
        if not isinstance(given, dict):
            raise Invalid("a change must be an object")
        self.kind = str(given.get("op", ""))
        self.path = str(given.get("path", ""))
        self.sequential = given.get("sequential") is True
        self.ephemeral = given.get("ephemeral") is True
        self.container = given.get("container") is True
        self.version = _whole(given, "version", -1)
        self.ttl = _whole(given, "ttl", 0) or None
        text = given.get("acl")
        self.acl: list[Acl] | None = acls.parse(text) if isinstance(text, str) and text else None
        try:
            self.data = b64decode(given.get("data") or "", validate=True)
        except (ValueError, TypeError):
            raise Invalid("data must be in base64") from None
        if self.kind not in ("create", "set", "delete", "check"):
            raise Invalid(f"{self.kind[:20]!r} is not a change: create, set, delete or check")
        wrong = paths.invalid(f"{self.path}0" if self.sequential else self.path)
        if wrong is not None:
            raise Invalid(wrong)

    def add_to(self, transaction: TransactionRequest) -> None:
        """Add it to a transaction. Raises MalformedInputException."""
        if self.kind == "create":
            transaction.create(
                self.path, self.data, self.ephemeral, self.sequential, acl=self.acl, ttl=self.ttl,
                container=self.container,
            )  # fmt: skip
        elif self.kind == "set":
            transaction.set_data(self.path, self.data, self.version)
        elif self.kind == "delete":
            transaction.delete(self.path, self.version)
        else:
            transaction.check(self.path, self.version)

    @property
    def right(self) -> tuple[str, str]:
        """The node whose ACL decides, and the right."""
        if self.kind in ("create", "delete"):
            return paths.parent(self.path), self.kind
        return self.path, "write" if self.kind == "set" else "read"


def _whole(given: dict[str, Any], name: str, default: int) -> int:
    value = given.get(name)
    if value is None or value == "":
        return default
    if isinstance(value, bool) or not isinstance(value, int):
        raise Invalid(f"{name} must be a whole number")
    return bounded(value, name)


async def create(request: Request) -> Response:
    """Route: create a node."""
    step = Step({**await json_in(request), "op": "create"})
    return await _answered(_create, access_of(request), step)


def _create(access: Access, step: Step) -> Response:
    access.require(*step.right)
    node = access.client.create(
        step.path, step.data, step.ephemeral, step.sequential, acl=step.acl, ttl=step.ttl,
        container=step.container,
    )  # fmt: skip
    return JSONResponse({"path": node.path, "stat": stat_of(node.stat)})


async def delete(request: Request) -> Response:
    """Route: delete a node, if it still has this version."""
    access, path = access_of(request), path_in(request)
    return await _answered(_delete, access, path, number_in(request, "version"))


def _delete(access: Access, path: str, version: int) -> Response:
    access.require(paths.parent(path), "delete")
    access.client.delete(path, version)
    return JSONResponse({"path": path})


async def set_acl(request: Request) -> Response:
    """Route: replace a node's ACL, if it still has this version."""
    access, path, version = access_of(request), path_in(request), number_in(request, "version")
    if version < 0:
        raise Invalid("give the version of the ACL that was shown")
    text = (await json_in(request)).get("acl")
    if not isinstance(text, str):
        raise Invalid("give the ACL as text")
    return await _answered(_set_acl, access, path, acls.parse(text), version)


def _set_acl(access: Access, path: str, acl: list[Acl], version: int) -> Response:
    access.require(path, "admin")
    return JSONResponse({"path": path, "stat": stat_of(access.client.set_acls(path, acl, version).stat)})


# ---- transactions ----------------------------------------------------------------------------------


async def _steps(request: Request) -> list[Step]:
    given = (await json_in(request)).get("steps")
    if not isinstance(given, list) or not 0 < len(given) <= _MOST_STEPS:
        raise Invalid(f"a transaction has 1 to {_MOST_STEPS} changes")
    return [Step(each) for each in given]


async def preview(request: Request) -> Response:
    """Route: what a transaction would do as things are now; nothing is sent to the writer."""
    steps = await _steps(request)
    return JSONResponse({"steps": await run_in_threadpool(_previews, access_of(request), steps)})


def _previews(access: Access, steps: list[Step]) -> list[dict[str, Any]]:
    made: dict[str, int | None] = {}
    """Versions of nodes after the steps before; None: deleted."""
    return [_preview(access, step, made) for step in steps]


def _preview(access: Access, step: Step, made: dict[str, int | None]) -> dict[str, Any]:
    now: Node | None = None
    wrong = ""
    try:
        now = access.client.get_data(step.path)
    except NodeDoesntExistException:
        pass
    except FaaSKeeperException as error:
        wrong = str(error)
    there = made.get(step.path, None if now is None else now.stat.version)
    wrong = wrong or _wrong(access, step, made, there)
    if not wrong and step.kind == "delete":
        made[step.path] = None
    elif not wrong and step.kind != "check":
        made[step.path] = 0 if there is None else there + 1
    shown = None if now is None else node_of(now)
    return {"op": step.kind, "path": step.path, "now": shown, "problem": wrong}


def _wrong(access: Access, step: Step, made: dict[str, int | None], there: int | None) -> str:
    """Why a step would fail, as far as can be told now; "": it would not."""
    above = paths.parent(step.path)
    if step.kind == "create":
        if there is not None and not step.sequential:
            return "the node exists"
        if above in made:
            return "its parent would be deleted" if made[above] is None else ""
    elif there is None:
        return "the node does not exist"
    elif step.version not in (-1, there):
        return f"the version is {there}, not {step.version}"
    place, right = step.right
    if place in made:
        return ""  # made by this transaction, with an ACL of its own
    try:
        return "" if access.rights_on(place)[right] else f"the ACL of {place} does not permit it"
    except NodeDoesntExistException:
        return f"{place} does not exist"


async def commit(request: Request) -> Response:
    """Route: all of some changes, or none."""
    steps = await _steps(request)
    return await _answered(_commit, access_of(request), steps)


def _commit(access: Access, steps: list[Step]) -> Response:
    created = {step.path for step in steps if step.kind == "create"}
    for number, step in enumerate(steps, 1):
        place, right = step.right
        if place not in created and not access.rights_on(place)[right]:
            raise Invalid(f"change {number}: the ACL of {place} does not permit it; nothing was sent")
    transaction = access.client.transaction()
    for step in steps:
        step.add_to(transaction)
    results = transaction.commit()
    for number, (step, result) in enumerate(zip(steps, results, strict=True), 1):
        if isinstance(result, FaaSKeeperException) and not isinstance(result, RolledBackException):
            answer = error_of(result)
            found = _json(answer)
            text = f"change {number}, {step.kind} {step.path}: {found['error']}; nothing was changed"
            return JSONResponse({**found, "error": text, "step": number}, answer.status_code)
    return JSONResponse({"paths": [each.path for each in results if isinstance(each, Node)]})


# ---- the past, sessions ----------------------------------------------------------------------------


async def restore(request: Request) -> Response:
    """Route: give a node what it had at a moment, if it still is as it was shown."""
    given = await json_in(request)
    path, at, version = str(given.get("path", "")), _whole(given, "at", -1), given.get("version")
    wrong = paths.invalid(path)
    if wrong is not None or at < 0 or not (version is None or isinstance(version, int)):
        raise Invalid(wrong or "give a transaction, and the version that was shown")
    return await _answered(_restore, access_of(request), path, at, version)


def _restore(access: Access, path: str, at: int, version: int | None) -> Response:
    client = access.client
    then, now = _or_none(access, path, at), _or_none(access, path, None)
    if (None if now is None else now.stat.version) != version:
        raise BadVersionError(-1 if version is None else version, path)
    if then is None and now is None:
        raise NodeDoesntExistException(path)
    if then is not None and now is not None:
        access.require(path, "write")
    else:
        access.require(paths.parent(path), "delete" if then is None else "create")
    return JSONResponse({"path": path, "did": reverted(client, path, at, then, now)})


def _or_none(access: Access, path: str, at: int | None) -> Node | None:
    try:
        return access.client.get_data(path, at=at)
    except NodeDoesntExistException:
        return None


async def end_session(request: Request) -> Response:
    """Route: end a session, whose id must be given twice."""
    given = await json_in(request)
    session = given.get("session")
    if not isinstance(session, str) or given.get("again") != session:
        raise Invalid("give the session's id twice")
    return await _answered(_end, access_of(request), session)


def _end(access: Access, session: str) -> Response:
    return JSONResponse({"session": session, "ended": access.end(session)})
