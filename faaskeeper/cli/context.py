"""The context of a command: a client, connected on first use, and the output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from faaskeeper.cli import output
from faaskeeper.cli.errors import Failed
from faaskeeper.config import Config
from faaskeeper.exceptions import SessionExpiredException

if TYPE_CHECKING:
    from pathlib import Path

    from faaskeeper.cli.interrupts import Caller
    from faaskeeper.cli.reader import Reader
    from faaskeeper.client import FaaSKeeperClient, SessionState
    from faaskeeper.node import Node
    from faaskeeper.watch import WatchedEvent

P = ParamSpec("P")
T = TypeVar("T")


class Context:
    """The context of one ``fk`` process.

    ``one_shot``: the process runs one command and exits with ``status``.
    """

    def __init__(
        self, config: Config, *, port: int = -1, verbose: bool = False, auth: Sequence[str] = ()
    ) -> None:
        self.config = config
        self.status = 0
        self.one_shot = True
        self.session_timeout: float | None = None
        """Seconds, for sessions opened from now on; None: the configuration's."""
        self.directory = "/"
        """The node to which relative paths of the shell's commands refer."""
        self._port = port
        self.verbose = verbose
        self.auth = auth
        self._client: FaaSKeeperClient | None = None
        self._reader: Reader | None = None
        self._caller: Caller | None = None

    def choose(self, config: Path | str | None) -> None:
        """Use the deployment of this configuration file or address, if one is given."""
        if config is not None:
            self.config = Config.load(config)

    def call(self, function: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """Call a method of the client. An interrupt stops the wait, not the call."""
        if self._reader is not None:  # there is no client, and nothing to wait for
            try:
                return function(*args, **named)
            finally:
                self._leave()  # others can have the directory while this prints, perhaps into a pager
        return self._calls.call(partial(function, *args, **named))

    @property
    def _calls(self) -> Caller:
        from faaskeeper.cli.interrupts import Caller

        if self._caller is None:
            self._caller = Caller()
        return self._caller

    @property
    def client(self) -> FaaSKeeperClient:
        """The client; opens a session if necessary."""
        if self._client is None:
            self.connect()
        if self._client is None:
            raise AssertionError("connected")
        return self._client

    def reads(self, watcher: Watcher | None = None) -> FaaSKeeperClient | Reader:
        """What to read with, once: that needs no session of a deployment at rest, unless it sets a watch."""
        if watcher is None and self.one_shot and self._client is None and self._reader is None:
            from faaskeeper.cli.reader import reader

            if not (self.verbose or self.config.verbose):  # a reader has no steps to show
                self._reader = reader(self.config, self.auth)
        return self._reader or self.client

    @property
    def connected(self) -> FaaSKeeperClient | None:
        """The client if it has a session; never opens one."""
        return self._client

    def connect(self) -> None:
        """Open a session unless one is alive."""
        from faaskeeper.client import FaaSKeeperClient, SessionState

        if self._client is not None and self._client.state is SessionState.LOST:
            self.close()
        if self._client is None:
            self._leave()
            self._client = self._calls.call(self._started, FaaSKeeperClient.stop)

    def _started(self) -> FaaSKeeperClient:
        from faaskeeper.client import FaaSKeeperClient

        client = FaaSKeeperClient(
            self.config, self._port, verbose=self.verbose, session_timeout=self.session_timeout
        )
        for credential in self.auth:
            client.add_auth("digest", credential)
        client.start()
        return client

    def _leave(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def close(self) -> None:
        """Close the session if one is open."""
        self._leave()
        client, self._client = self._client, None
        if client is not None:
            self.call(client.stop)

    # ---- printing ----------------------------------------------------------------------

    def print_line(self, text: str) -> None:
        """Print a line."""
        output.print_line(output.escaped(text, "\t"))

    def print_json(self, value: Any) -> None:
        """Print JSON on one line."""
        output.print_line(output.json_line(value))

    def say(self, as_json: bool, value: Any, text: str) -> None:
        """Print a result: as JSON, or as a line."""
        if as_json:
            self.print_json(value)
        else:
            self.print_line(text)

    def print_data(self, node: Node) -> None:
        """Print a node's data: UTF-8 text with a newline, other data byte for byte.

        At a terminal, escape control characters and bytes that are not text.
        """
        data = node.data
        if output.at_terminal():
            output.print_line(output.escaped_data(data, "\n\t"))
            return
        try:
            data.decode()
        except UnicodeDecodeError:
            output.raw(data)
        else:
            output.raw(data + b"\n")

    def print_stat(self, node: Node) -> None:
        """Print a stat, one field per line, as zkCli does."""
        for field, value in node.stat._asdict().items():
            if field in ("ctime", "mtime"):
                shown = when(value)
            elif field in ("czxid", "mzxid", "pzxid", "ephemeralOwner"):
                shown = f"0x{value:x}"
            else:
                shown = str(value)
            self.print_line(f"{field} = {shown}")


def when(ms: int) -> str:
    """A time as text, in the local time zone."""
    from datetime import datetime

    try:
        return datetime.fromtimestamp(ms / 1000).astimezone().isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return f"{ms} ms since 1970"  # outside of datetime's range


class Watcher:
    """Prints the events of a watch.

    Outside the shell, the command waits for the events, because the process exits with it. In the
    shell, events print as they arrive, unless the command has a timeout or sets ``waits``.
    """

    def __init__(
        self, context: Context, timeout: float | None, as_json: bool = False, waits: bool = False
    ) -> None:
        from queue import SimpleQueue

        self._context = context
        self._timeout = timeout
        self._as_json = as_json
        self._waits = waits or context.one_shot or timeout is not None
        self._come: SimpleQueue[WatchedEvent | None] = SimpleQueue()

    def __call__(self, event: WatchedEvent) -> None:
        """Callback of the client."""
        if self._waits:
            self._come.put(event)
            return
        try:
            self._print(event)
        except output.Unwritable:
            pass  # the next command reports it

    def wait(self, number: int = 1) -> None:
        """Wait for this many events if the command waits at all; 0: without a limit.

        Raises Failed on a timeout, and SessionExpiredException if no event can arrive any more.
        """
        if not self._waits:
            return
        from faaskeeper.client import SessionState

        client = self._context.client
        client.add_listener(self._state)
        try:
            if client.state is SessionState.LOST:
                raise SessionExpiredException()
            self._wait(number)
        finally:
            self._waits = False  # in the shell, later events print as they arrive
            client.remove_listener(self._state)

    def _wait(self, number: int) -> None:
        from queue import Empty

        from faaskeeper.cli.interrupts import POLL_S

        end = None if self._timeout is None else monotonic() + self._timeout
        seen = 0
        while not number or seen < number:
            left = POLL_S if end is None else max(0.0, end - monotonic())
            try:
                event = self._come.get(timeout=min(left, POLL_S))
            except Empty:
                if left:
                    continue
                if seen and not number:
                    return
                raise Failed(f"no event within {self._timeout:g} s", 8) from None
            if event is None:
                raise SessionExpiredException()
            self._print(event)
            seen += 1

    def _state(self, state: SessionState) -> None:
        from faaskeeper.client import SessionState

        if state is SessionState.LOST:
            self._come.put(None)

    def _print(self, event: WatchedEvent) -> None:
        if self._as_json:
            self._context.print_json(
                {"event": str(event.event_type), "path": event.path, "zxid": event.timestamp}
            )
        else:
            self._context.print_line(f"WatchedEvent type: {event.event_type} path: {event.path}")
