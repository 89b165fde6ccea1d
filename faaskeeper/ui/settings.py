"""How the page is reached, and who may see it."""

from __future__ import annotations

from hashlib import sha256
from ipaddress import ip_address
from typing import NamedTuple

from faaskeeper.config import Config


class Settings(NamedTuple):
    """What ``fk ui`` was told.

    ``hosts``: names by which browsers reach the page, without ports. ``https``: they reach it by
    TLS, of this process (``tls``: files of the certificate and its key) or of a proxy. ``token``:
    the secret to log in with ("": none). ``gate``: the znode that must be readable with somebody's
    digest credentials to log in ("": no such login). ``read_only``: no route writes to the
    deployment. ``servers``: addresses of ``fk serve`` to ask for what they count. ``page``: tells pages
    of other deployments, or with other options, apart: a browser may have one of before at this address.
    """

    listen: tuple[str, int]
    hosts: tuple[str, ...]
    https: bool = False
    tls: tuple[str, str] | None = None
    token: str = ""
    gate: str = ""
    read_only: bool = False
    servers: tuple[tuple[str, int], ...] = ()
    page: str = ""

    @property
    def proxied(self) -> bool:
        """Whether a proxy speaks TLS for it: then it says who asks."""
        return self.https and self.tls is None

    @property
    def login(self) -> str:
        """How to log in: "token", "digest", or "" for not at all."""
        return "token" if self.token else "digest" if self.gate else ""


def loopback(host: str) -> bool:
    """Whether only this machine reaches an address, as it is written."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def page_of(config: Config, settings: Settings) -> str:
    """A name for the page of a deployment and these options; nothing can be read from it."""
    where = config.provider_name, config.deployment_name, config.deployment_region, config.directory
    return sha256(repr((where, settings.read_only, settings.login)).encode()).hexdigest()[:16]


LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""Names of this machine, for browsers on it."""
