"""Reads a deployment at rest, without a session."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from faaskeeper.core.errors import DriverError
from faaskeeper.exceptions import ProviderException
from faaskeeper.session.calls import Calls, stat_of
from faaskeeper.session.commands import ReadBlob, ReadMark, ReadRecord, ReadRecords, Steps
from faaskeeper.session.rules import Rules

if TYPE_CHECKING:
    from faaskeeper.config import Config
    from faaskeeper.core.atrest import AtRest
    from faaskeeper.core.znode import Acl, Stat
    from faaskeeper.node import Node
    from faaskeeper.session.commands import Command
    from faaskeeper.watch import WatchCallbackType


def reader(config: Config, credentials: Sequence[str] = ()) -> Reader | None:
    """A reader of a deployment; None if it is not known to be at rest: open a session.

    ``credentials``: of the scheme ``digest``. Raises ProviderException.
    """
    from faaskeeper import registry

    reference = config.provider_spec.at_rest
    if not reference:
        return None
    try:
        found: AtRest | None = registry.load(reference)(config)
    except DriverError as error:
        raise ProviderException(str(error)) from error
    return None if found is None else Reader(found, credentials)


class Reader:
    """Reads as :class:`~faaskeeper.client.client.FaaSKeeperClient` does, in the caller's thread.

    It cannot watch: nothing changes until :meth:`close`. Reads raise what the client's raise.
    """

    def __init__(self, stores: AtRest, credentials: Sequence[str] = ()) -> None:
        self._stores = stores
        rules = Rules(stores.applied, lambda callback, event: None)
        rules.note_applied(stores.applied)
        self._calls = Calls("/", self._stat)
        try:
            for each in credentials:
                self._calls.identities.add("digest", each)
        except BaseException:
            stores.close()
            raise
        self._calls.begin(rules, stores)

    def close(self) -> None:
        """Let others have the deployment."""
        self._stores.close()

    def _stat(self, path: str) -> Stat:
        return stat_of(path, self.exists(path))

    def get_data(self, path: str, watch: WatchCallbackType | None = None) -> Node:
        """A node with its data."""
        return cast("Node", self._run(self._calls.get_data(path, watch)))

    def exists(self, path: str, watch: WatchCallbackType | None = None) -> Node | None:
        """The node without its data, or None."""
        return cast("Node | None", self._run(self._calls.exists(path, watch)))

    def get_children(
        self, path: str, include_data: bool = False, watch: WatchCallbackType | None = None
    ) -> list[Node]:
        """The children of a node, sorted by name; ``include_data`` reads each of them too."""
        return cast("list[Node]", self._run(self._calls.get_children(path, include_data, watch)))

    def all_children_number(self, path: str) -> int:
        """The number of nodes below a node, at any depth."""
        return cast(int, self._run(self._calls.all_children_number(path)))

    def get_acls(self, path: str) -> tuple[list[Acl], Stat]:
        """A node's ACL and Stat."""
        return cast("tuple[list[Acl], Stat]", self._run(self._calls.get_acls(path)))

    def _run(self, steps: Steps) -> Any:
        answer: Any = None
        while True:
            try:
                command = steps.send(answer)
            except StopIteration as done:
                return done.value
            try:
                answer = self._perform(command)
            except DriverError as error:
                raise ProviderException(str(error)) from error

    def _perform(self, command: Command) -> Any:
        stores = self._stores
        if isinstance(command, ReadRecord):
            return stores.records.get(command.path)
        if isinstance(command, ReadRecords):
            return stores.records.get_many(command.paths)
        if isinstance(command, ReadMark):
            return stores.applied
        if isinstance(command, ReadBlob):
            from faaskeeper.core.blobs import read_blob

            return read_blob(stores.blobs, command.name, command.length)
        raise AssertionError(f"nothing changes at rest, but {command} waits for a change")
