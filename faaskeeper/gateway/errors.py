"""Errors of a server."""

from __future__ import annotations


class ServerError(Exception):
    """The server cannot serve its deployment; the message says why."""


class SessionExpired(Exception):
    """The session has ended, never existed, or has another password."""


class SessionBusy(Exception):
    """The session cannot be taken over at the moment; the client may try again."""
