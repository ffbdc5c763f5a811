"""Which addresses a webhook may be: never one inside, unless the operator has named its network."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import AnyUrl, TypeAdapter, UrlConstraints, ValidationError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

LONGEST_URL = 2048
_URL = TypeAdapter(Annotated[AnyUrl, UrlConstraints(allowed_schemes=["http", "https"], host_required=True)])

# Of the Internet's addresses, those behind which others are hidden: relays and tunnels from IPv6 into IPv4 (RFC 3056,
# 4380, 7526), and what is for examples or protocols alone. Not every Python's `is_global` knows all of them.
_NOT_PUBLIC = [
    ipaddress.ip_network(text)
    for text in ("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
]
# All that is handed out of IPv6. What lies outside embeds IPv4 addresses (mapped, NAT64), is local, or a group.
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")


def is_public(address: Address) -> bool:
    """Whether an address is somebody's on the Internet."""
    if isinstance(address, ipaddress.IPv6Address) and (address not in _GLOBAL_UNICAST or address.scope_id):
        return False
    hidden = any(address in network for network in _NOT_PUBLIC if network.version == address.version)
    return address.is_global and not address.is_multicast and not hidden


@dataclass(frozen=True, slots=True)
class TargetRules:
    """What may be called. `networks` are the inside ones that the operator allows."""

    allow_http: bool = False
    networks: Sequence[Network] = ()

    def allows(self, address: Address) -> bool:
        """Whether a connection may be made."""
        named = any(address in network for network in self.networks if network.version == address.version)
        return named or is_public(address)

    def url(self, text: str) -> str:
        """The address in its one normal form, as far as it can be judged without asking the network.

        Raises:
            ValueError: saying what is wrong with it.
        """
        try:
            url = _URL.validate_python(text)
        except ValidationError as error:
            raise ValueError("must be an https URL") from error
        host = (url.host or "").strip("[]")
        if url.scheme != "https" and not self.allow_http:
            raise ValueError("must be an https URL: this server sends nothing in the clear")
        if url.username is not None or url.password is not None:
            raise ValueError("must not hold a user name or password")
        if url.port == 0 or not _is_name(host):
            raise ValueError("has no host that can be called")
        if not all(self.allows(address) for address in _literal(host)):
            raise ValueError("must not be an address inside a network")
        normal = str(url).partition("#")[0]
        if len(normal) > LONGEST_URL:
            raise ValueError(f"must be at most {LONGEST_URL} characters")
        return normal


def _literal(host: str) -> list[Address]:
    """The address that a host is without asking; empty for a name."""
    if host.rstrip(".") == "localhost" or host.rstrip(".").endswith(".localhost"):  # RFC 6761
        return [ipaddress.IPv4Address("127.0.0.1")]
    try:
        return [ipaddress.ip_address(host)]
    except ValueError:
        return []


def _is_name(host: str) -> bool:
    try:
        return bool(host.encode("idna"))
    except UnicodeError:
        return False
