"""Headers in which clients weigh what they accept (RFC 9110, section 12.4.2)."""

from __future__ import annotations

from collections.abc import Mapping


def weights(header: str) -> Mapping[str, float]:
    """Each value in lower case with its weight from 0 to 1; a weight that is no number counts as 0."""
    return dict(_weighed(part) for part in header.split(",") if part.strip())


def accepts_gzip(header: str) -> bool:
    """Whether an Accept-Encoding header accepts gzip (section 12.5.3)."""
    weight = weights(header)
    return max((weight[name] for name in ("gzip", "x-gzip") if name in weight), default=weight.get("*", 0.0)) > 0


def _weighed(part: str) -> tuple[str, float]:
    value, *parameters = (piece.strip().lower() for piece in part.split(";"))
    for parameter in parameters:
        name, _, weight = parameter.partition("=")
        if name.strip() == "q":
            try:
                return value, min(max(float(weight), 0.0), 1.0)
            except ValueError:
                return value, 0.0
    return value, 1.0
