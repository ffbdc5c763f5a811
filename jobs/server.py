"""Which Redis-protocol servers are supported: Redis from 7.0, Valkey from 8. The scripts need functions of these."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

OLDEST = {"Redis": (7, 0), "Valkey": (8, 0)}


class UnsupportedServer(RedisError):
    """The server answers, and is too old for the transitions of jobs. The text is one sentence for the operator."""


def check_info(info: Mapping[str, Any]) -> None:
    """Check the answer of `INFO server`.

    Raises:
        UnsupportedServer
    """
    name = "Valkey" if "valkey_version" in info else "Redis"
    version = str(info.get(f"{name.lower()}_version", "0"))
    parts = tuple(int(part) if part.isdigit() else 0 for part in version.split(".")[:2])
    if parts < OLDEST[name]:
        supported = " or ".join(f"{kind} {major}.{minor}" for kind, (major, minor) in OLDEST.items())
        raise UnsupportedServer(
            f"the server at PANORAMAS_REDIS_URL is {name} {version}; needed is {supported} or newer"
        )


def check_server(redis_url: str) -> None:
    """Check the server before anything is started on it. One that does not answer passes: it may come later.

    Raises:
        UnsupportedServer
    """
    try:
        with Redis.from_url(redis_url, decode_responses=True, socket_timeout=5, socket_connect_timeout=2) as redis:
            info: Mapping[str, Any] = redis.info("server")
    except RedisError:
        return
    check_info(info)
