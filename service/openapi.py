"""`python -m service.openapi` prints the API's description; `openapi.yaml` is its checked-in copy."""

from __future__ import annotations

import sys

import yaml

from jobs.settings import Settings
from service.app import create_app


def render() -> str:
    """The description as YAML. It depends on no setting."""
    return yaml.safe_dump(
        create_app(Settings(), "redis://unused").openapi(), sort_keys=False, allow_unicode=True, width=110
    )


if __name__ == "__main__":
    sys.stdout.write(render())
