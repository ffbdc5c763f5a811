"""`python -m service.openapi` prints the API's description; `openapi.yaml` is its checked-in copy."""

from __future__ import annotations

import sys

import yaml

from jobs.settings import Settings
from service.app import create_app


class _Plain(yaml.SafeDumper):
    """Writes what occurs twice out twice: not every reader knows YAML's aliases."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def render() -> str:
    """The description as YAML. It depends on no setting."""
    description = create_app(Settings(), "redis://unused").openapi()
    return yaml.dump(description, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=110)


if __name__ == "__main__":
    sys.stdout.write(render())
