"""How the values of some settings are read."""

from __future__ import annotations

import base64
import ipaddress
import re

_API_KEY = re.compile(r"(?P<name>[A-Za-z0-9._-]{1,64}):(?P<digest>[0-9A-Fa-f]{64})")


def parse_api_keys(text: str) -> dict[str, str]:
    """Parse `name:sha256,name:sha256` into names by digest.

    Raises:
        ValueError: its message does not contain the text, which may hold a key by mistake.
    """
    owners = {}
    for number, item in enumerate(filter(None, (part.strip() for part in text.split(","))), start=1):
        found = _API_KEY.fullmatch(item)
        if not found:
            raise ValueError(
                f"entry {number} is not name:sha256: a name of letters, digits, . _ -, and 64 hexadecimal digits"
            )
        owners[found["digest"].lower()] = found["name"]
    return owners


def parse_networks(text: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """Parse `10.1.0.0/16,fd00::/8`.

    Raises:
        ValueError
    """
    return [ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip()]


def check_secret(secret: str) -> None:
    """Raises ValueError with a message that does not contain the secret."""
    try:
        size = len(base64.b64decode(secret.removeprefix("whsec_"), validate=True))
    except ValueError:
        size = 0
    if not secret.startswith("whsec_") or not 24 <= size <= 64:
        raise ValueError("is not whsec_ and base64 of 24 to 64 bytes: echo whsec_$(openssl rand -base64 32)")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
