"""Identities of a connection's client: its address, its certificate, the credentials that it has
shown.
"""

from __future__ import annotations

import asyncio
from typing import Any

from faaskeeper.core import acl as acls
from faaskeeper.core.acl import Credential, Identity
from faaskeeper.core.connection import Connection
from faaskeeper.gateway.jute import text
from faaskeeper.gateway.protocol import Auth


class AuthFailed(Exception):
    """A credential is refused, and why."""


class ClientIdentity:
    """What a client has proven.

    ``credentials`` go with its writes and are judged by the writer; its reads are judged by
    ``proven``.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.credentials: tuple[Credential, ...] = ()
        self.proven: tuple[Identity, ...] = ()

    def connected(self, host: str, transport: asyncio.BaseTransport) -> None:
        """Take in the client's address, or "", and the certificate that TLS has verified."""
        connection = self._connection
        if host and host != connection.peer and connection.vouch is not None:
            self.credentials = (connection.vouch(host, "ip"),)
        self.proven = (("ip", host),) if host else ()
        subject = _subject(transport)
        if subject and connection.vouch is not None:
            self.credentials = (*self.credentials, connection.vouch(subject))
            self.proven = (*self.proven, ("x509", subject))

    def authenticate(self, request: Auth) -> None:
        """Take in a credential; it counts for later requests. Raises AuthFailed."""
        if request.scheme == "ip":
            return  # the address is known
        if request.scheme != "digest":
            raise AuthFailed(f"authentication by the scheme {request.scheme!r} failed")
        credential = ("digest", text(request.shown))
        if credential in self.credentials:
            return
        credentials = (*self.credentials, credential)
        if acls.size_of(credentials) > acls.MAX_CREDENTIALS_BYTES:
            raise AuthFailed(f"its credentials have more than {acls.MAX_CREDENTIALS_BYTES} bytes")
        self.credentials = credentials
        shown = acls.identities([credential], self._connection.super_digest, by=id(self))
        self.proven = (*self.proven, *shown)


def _subject(transport: asyncio.BaseTransport) -> str:
    """The subject of the client's certificate, which was verified, as RFC 2253 writes it."""
    certificate: Any = transport.get_extra_info("peercert")
    if not certificate:
        return ""
    parts = [f"{_SHORT.get(key, key)}={value}" for rdn in certificate["subject"] for key, value in rdn]
    return ",".join(reversed(parts))


_SHORT = {
    "commonName": "CN",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "domainComponent": "DC",
    "userId": "UID",
    "streetAddress": "STREET",
}
