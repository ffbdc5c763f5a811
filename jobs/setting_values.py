"""Values of settings that are more than a word or a number."""

from __future__ import annotations

import base64
import ipaddress
import re
from urllib.parse import urlsplit

_API_KEY = re.compile(r"(?P<name>[A-Za-z0-9._-]{1,64}):(?P<digest>[0-9A-Fa-f]{64})")
_HOST = re.compile(r"(?:\*\.)?[a-z0-9]([a-z0-9._-]*[a-z0-9])?", re.IGNORECASE)


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
    """Check a webhook secret.

    Raises:
        ValueError: its message does not contain the secret.
    """
    try:
        size = len(base64.b64decode(secret.removeprefix("whsec_"), validate=True))
    except ValueError:
        size = 0
    if not secret.startswith("whsec_") or not 24 <= size <= 64:
        raise ValueError("is not whsec_ and base64 of 24 to 64 bytes: echo whsec_$(openssl rand -base64 32)")


def is_loopback(host: str) -> bool:
    """Whether a server that listens there can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def parse_hosts(text: str) -> list[str]:
    """Parse `example.org, *.example.org`; also `*` alone.

    Raises:
        ValueError: for what is no host name, such as a URL or a name with a port.
    """
    hosts = [part.strip().strip("[]").lower() for part in text.split(",") if part.strip()]
    for host in hosts:
        if host != "*" and not (_HOST.fullmatch(host) or _is_ipv6(host)):
            raise ValueError(f"{host!r} is no host name: neither scheme nor port belongs to it")
    return hosts


def parse_origins(text: str) -> list[str]:
    """Parse `https://example.org, http://localhost:3000`; also `*` alone.

    Raises:
        ValueError: for what is no origin.
    """
    origins = [part.strip().rstrip("/").lower() for part in text.split(",") if part.strip()]
    for origin in origins:
        parts = urlsplit(origin)
        if origin != "*" and (not parts.netloc or origin != f"{parts.scheme}://{parts.netloc}"):
            raise ValueError(
                f"{origin!r} is no origin: a scheme, a host and perhaps a port, such as https://example.org"
            )
    return origins


def parse_public_url(text: str) -> str:
    """An absolute http or https URL, without a slash at its end.

    Raises:
        ValueError
    """
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise ValueError("must be an http or https URL of a host and perhaps a path, such as https://example.org/pano")
    return text.rstrip("/")


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True
