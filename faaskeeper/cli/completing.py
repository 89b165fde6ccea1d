"""Completion of paths: in fk's own shell, and in bash, zsh and fish."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from faaskeeper.core import paths
from faaskeeper.exceptions import FaaSKeeperException, NodeDoesntExistException

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from faaskeeper.client import FaaSKeeperClient
    from faaskeeper.config import Config

MOST = 200
"""Completions that are offered: nobody reads more."""
LIMIT_S = 2.0
"""How long a person at a prompt waits for them at most."""
_TIMEOUT_S = 4.0
"""The time-out of the session, in case its end cannot be waited for: the shortest there is."""


def children(client: FaaSKeeperClient, path: str, begun: str) -> Iterator[str]:
    """The names of children that begin like this, sorted if they are few. Raises its errors at once."""
    found = (paths.name(each.path) for each in client.iter_children(path))
    return iter(sorted(islice((name for name in found if name.startswith(begun)), MOST)))


def paths_of(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """The paths that complete a word on the command line of another shell; none after LIMIT_S.

    Each has a session of its own, which is closed before the answer.
    """
    from click.shell_completion import CompletionItem

    if not incomplete.startswith("/"):
        return [] if incomplete else [CompletionItem("/")]
    above, begun = paths.parent(incomplete), paths.name(incomplete)
    found: list[str] = []
    done = threading.Event()

    def look() -> None:
        try:
            with _client(ctx) as client:
                found.extend(paths.child(above, name) for name in children(client, above, begun))
        except (FaaSKeeperException, OSError, ImportError, ValueError):
            pass  # a prompt has no place for an error
        finally:
            done.set()

    threading.Thread(target=look, daemon=True, name="fk-completion").start()
    if not done.wait(LIMIT_S):
        return []
    return [CompletionItem(each) for each in found]


def _client(ctx: click.Context) -> FaaSKeeperClient:
    """A client of the deployment that the options before the command select."""
    from faaskeeper.client import FaaSKeeperClient
    from faaskeeper.config import Config

    given = ctx.find_root().params
    config: Path | None = given.get("config")
    chosen = Config.local(given.get("directory") or "") if config is None else Config.load(config)
    if chosen.provider_name == "local" and not _exists(chosen):
        raise NodeDoesntExistException("/")  # a look must not make a service
    client = FaaSKeeperClient(chosen, given.get("port") or -1, session_timeout=_TIMEOUT_S)
    for credential in given.get("auth") or ():
        client.add_auth("digest", credential)
    return client


def _exists(config: Config) -> bool:
    from faaskeeper.providers.local.directories import directory_of

    return os.path.exists(f"{directory_of(config)}/log.db")
