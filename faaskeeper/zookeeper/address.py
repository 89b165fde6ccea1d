"""Addresses of ZooKeeper servers: ``zk://host:port[,host:port...][/chroot]``, by TLS ``zks://``.

``zks://`` takes ``?ca=FILE``, the authorities that may vouch for the servers (default: the
system's), and ``&certificate=FILE``, the client's own certificate with its key, in PEM. Addresses
have no place for passwords: they are printed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from faaskeeper.core import paths
from faaskeeper.core.tuples import NamedTuple

SCHEMES = ("zk://", "zks://")
PROVIDER = "zookeeper"
"""The provider's name, and its section in a configuration."""
_PORTS = {"zk://": 2181, "zks://": 2281}
_HOST = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^\s:@\[\]/,?]+)(?::([0-9]{1,5}))?")
_OPTIONS = ("ca", "certificate")


class Address(NamedTuple):
    """Servers of one ensemble, and the znode below which a client works (``/``: everywhere)."""

    servers: tuple[tuple[str, int], ...]
    chroot: str = "/"
    tls: bool = False
    ca: str = ""
    certificate: str = ""

    def __str__(self) -> str:
        scheme = "zks://" if self.tls else "zk://"
        hosts = (f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.servers)
        return f"{scheme}{','.join(hosts)}{'' if self.chroot == '/' else self.chroot}"


def is_address(text: str) -> bool:
    """Whether a text is meant as an address, and not as the name of a file."""
    return text.startswith(SCHEMES)


def parse(text: str) -> Address:
    """The address in a text. Raises ValueError that says what is wrong and shows no password."""
    scheme = next(each for each in SCHEMES if text.startswith(each))
    rest, _, query = text[len(scheme) :].partition("?") if scheme == "zks://" else (text[5:], "", "")
    hosts, slash, path = rest.partition("/")
    if "@" in hosts:
        raise ValueError(f"a {scheme} address has no password in it: use --auth, $FK_AUTH or add_auth()")
    servers = tuple(_server(each, _PORTS[scheme]) for each in hosts.split(","))
    chroot = (slash + path).rstrip("/") or "/"
    wrong = paths.invalid(chroot)
    if wrong is not None:
        raise ValueError(f"the chroot of a {scheme} address is a znode's path: {wrong}")
    return Address(servers, chroot, scheme == "zks://", **_options(query))


def _server(text: str, usual: int) -> tuple[str, int]:
    found = _HOST.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not HOST or HOST:PORT")
    port = usual if found[2] is None else int(found[2])
    if not 0 < port < 65536:
        raise ValueError(f"the port of {text!r} is not from 1 to 65535")
    return found[1].strip("[]"), port


def _options(query: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for each in query.split("&") if query else ():
        name, _, value = each.partition("=")
        if name not in _OPTIONS or not value:
            raise ValueError(f"{each!r} is not one of ca=FILE, certificate=FILE")
        options[name] = value
    return options


def configuration(text: str) -> dict[str, Any]:
    """The configuration that an address stands for. Raises ValueError."""
    address = parse(text)
    section: dict[str, Any] = {"address": text}
    return {"cloud-provider": PROVIDER, "deployment-name": str(address), PROVIDER: section}


def of(section: Mapping[str, Any]) -> Address:
    """The address in a configuration's section. Raises ValueError."""
    text = section.get("address")
    if not isinstance(text, str) or not is_address(text) or set(section) != {"address"}:
        raise ValueError(f"the section {PROVIDER!r} must have one key, 'address': 'zk://HOST:PORT'")
    return parse(text)
