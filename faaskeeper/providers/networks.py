"""The networks in which functions answer clients by TCP.

A client names its own address, so without a limit it could have the functions connect to any
service that they reach and it does not. Only literal addresses count: a name may mean another host
where it is resolved (``docs/architecture/security.md``, *Where functions connect to*).
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Union

Address = Union[IPv4Address, IPv6Address]
Network = Union[IPv4Network, IPv6Network]

PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
"""Private networks (RFC 1918, RFC 4193), and the shared space of providers (RFC 6598)."""
LOOPBACK = ("127.0.0.0/8", "::1/128")
_METADATA = tuple(map(ip_network, ("fd00:ec2::/32", "fd20:ce::/32")))
"""Where machines of AWS and Google Cloud find their credentials by IPv6; by IPv4 such addresses are
link-local."""
_THIS = IPv4Network("0.0.0.0/8")
_TRANSLATED = IPv6Network("64:ff9b::/96")
"""Addresses that a NAT64 gateway translates to IPv4 (RFC 6052)."""


class Networks:
    """Networks in CIDR notation. Raises ValueError that names what is none."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = tuple(texts)
        self._networks = tuple(map(_network, self.texts))

    def __bool__(self) -> bool:
        return bool(self.texts)

    def refusal(self, host: str) -> str:
        """Why functions do not connect to a host, or "" if they do."""
        try:
            address = _carried(ip_address(host))
        except ValueError:
            return f"{host!r} is not an IP address"
        never = _never(address)
        if never:
            return f"{host} is {never}"
        within = [each for each in self._networks if address in each]
        if address.is_loopback:
            within = [each for each in within if each.is_loopback]
        if within:
            return ""
        return f"{host} is in none of the networks {', '.join(self.texts) or '(there are none)'}"


def _network(text: str) -> Network:
    try:
        return ip_network(text.strip())
    except ValueError as error:
        raise ValueError(f"{text!r} is not a network in CIDR notation: {error}") from None


def _carried(address: Address) -> Address:
    """The IPv4 address that one of IPv6 leads to, if there is one; otherwise the address."""
    if not isinstance(address, IPv6Address):
        return address
    if address in _TRANSLATED:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1] or address


def _never(address: Address) -> str:
    """What forbids an address in every configuration, or ""."""
    if address.is_link_local:
        return "link-local: metadata servers are there"
    if any(address in each for each in _METADATA):
        return "in a network of metadata servers"
    if address.is_multicast:
        return "a multicast address"
    if address.is_unspecified or address in _THIS:
        return "no address of a host"
    if isinstance(address, IPv6Address) and address.scope_id:
        return "an address of one link"
    if address.is_reserved and not address.is_loopback:
        return "a reserved address"
    return ""
