"""Which addresses a webhook may call: public ones, and those in networks that the operator allows."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import AnyUrl, TypeAdapter, UrlConstraints, ValidationError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_URL_LENGTH = 2048
_URL = TypeAdapter(Annotated[AnyUrl, UrlConstraints(allowed_schemes=["http", "https"], host_required=True)])

# Relays and tunnels from IPv6 into IPv4 (RFC 3056, 4380, 7526), which may lead to private addresses, and ranges for
# documentation or protocols. Some Python versions' `is_global` does not know all of them.
_NOT_PUBLIC = [
    ipaddress.ip_network(text)
    for text in ("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
]
# All of IPv6 that is allocated. Other addresses embed IPv4 ones (mapped, NAT64), are local, or multicast.
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")


def is_public(address: Address) -> bool:
    """Whether an address is a public unicast address."""
    if isinstance(address, ipaddress.IPv6Address) and (address not in _GLOBAL_UNICAST or address.scope_id):
        return False
    reserved = any(address in network for network in _NOT_PUBLIC if network.version == address.version)
    return address.is_global and not address.is_multicast and not reserved


@dataclass(frozen=True, slots=True)
class TargetRules:
    """What may be called. `networks` are private networks that the operator allows."""

    allow_http: bool = False
    networks: Sequence[Network] = ()

    def allows(self, address: Address) -> bool:
        """Whether a connection to the address may be made."""
        listed = any(address in network for network in self.networks if network.version == address.version)
        return listed or is_public(address)

    def url(self, text: str) -> str:
        """The normalised URL. Only what the URL itself shows is checked; no name is resolved.

        Raises:
            ValueError: with the reason.
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
        if len(normal) > MAX_URL_LENGTH:
            raise ValueError(f"must be at most {MAX_URL_LENGTH} characters")
        return normal


def _literal(host: str) -> list[Address]:
    """The address that a host stands for without name resolution; empty for other names."""
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
