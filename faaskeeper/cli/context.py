"""What commands work on: a client, opened when first needed, and where to print."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import click

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config, ConfigurationException
from faaskeeper.exceptions import (
    BadVersionError,
    FaaSKeeperException,
    InvalidACLException,
    MalformedInputException,
    NoAuthException,
    NoChildrenForEphemeralsException,
    NodeDoesntExistException,
    NodeExistsException,
    NotEmptyException,
    SequenceUsedUpException,
    TimeoutException,
    TooLargeException,
)
from faaskeeper.node import Node
from faaskeeper.watch import WatchedEvent

STATUSES: tuple[tuple[type[FaaSKeeperException], int], ...] = (
    (NodeDoesntExistException, 3),
    (NodeExistsException, 4),
    (NotEmptyException, 5),
    (BadVersionError, 6),
    (MalformedInputException, 2),
    (ConfigurationException, 2),
    (InvalidACLException, 2),
    (NoAuthException, 9),
    (TooLargeException, 7),
    (SequenceUsedUpException, 7),
    (NoChildrenForEphemeralsException, 7),
    (TimeoutException, 8),
    (FaaSKeeperException, 1),
)
"""Exit statuses by error; the first that fits. 2 is also click's, for a wrong command line."""


def status_of(error: FaaSKeeperException) -> int:
    """The exit status of an error."""
    return next(status for kind, status in STATUSES if isinstance(error, kind))


class Context:
    """Of one ``fk`` process. ``one_shot``: it runs one command, whose ``status`` it ends with."""

    def __init__(
        self, config: Config, *, port: int = -1, verbose: bool = False, auth: Sequence[str] = ()
    ) -> None:
        self.config = config
        self.status = 0
        self.one_shot = True
        self._port = port
        self.verbose = verbose
        self._auth = auth
        self._client: FaaSKeeperClient | None = None

    @property
    def client(self) -> FaaSKeeperClient:
        """The client, with an open session."""
        if self._client is None or self._client.session_id is None:
            self.connect()
        if self._client is None:
            raise AssertionError("connected")
        return self._client

    @property
    def connected(self) -> FaaSKeeperClient | None:
        """The client, if it has a session; does not open one."""
        if self._client is None or self._client.session_id is None:
            return None
        return self._client

    def connect(self) -> None:
        """Open a session, unless there is one."""
        if self._client is None:
            self._client = FaaSKeeperClient(self.config, self._port, verbose=self.verbose)
            for credential in self._auth:
                self._client.add_auth("digest", credential)
        if self._client.session_id is None:
            self._client.start()

    def close(self) -> None:
        """Close the session, if there is one."""
        client, self._client = self._client, None
        if client is not None:
            client.stop()

    # ---- printing ----------------------------------------------------------------------

    def say(self, text: str) -> None:
        """Print a line."""
        click.echo(text)

    def print_json(self, value: Any) -> None:
        """Print JSON on one line."""
        click.echo(json.dumps(value, ensure_ascii=False))

    def print_data(self, node: Node) -> None:
        """Print a node's data: as text, or byte for byte when it is none and goes to a file or pipe."""
        data = node.data
        try:
            click.echo(data.decode())
        except UnicodeDecodeError:
            if sys.stdout.isatty():
                click.echo(data.decode(errors="backslashreplace"))
            else:
                click.echo(data, nl=False)

    def print_stat(self, node: Node) -> None:
        """Print a Stat, a field a line, as zkCli does."""
        for field, value in node.stat._asdict().items():
            if field in ("ctime", "mtime"):
                from datetime import datetime

                shown = datetime.fromtimestamp(value / 1000).astimezone().isoformat(timespec="milliseconds")
            elif field in ("czxid", "mzxid", "pzxid", "ephemeralOwner"):
                shown = f"0x{value:x}"
            else:
                shown = str(value)
            click.echo(f"{field} = {shown}")

    def watched(self, event: WatchedEvent) -> None:
        """Print an event of a watch."""
        click.echo(f"WatchedEvent type: {event.event_type} path: {event.path}")
