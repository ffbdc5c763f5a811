"""`python -m service.openapi` prints the OpenAPI document. `openapi.yaml` is its checked-in copy."""

from __future__ import annotations

import sys

import yaml

from jobs.settings import Settings
from service.app import create_app


class _NoAliases(yaml.SafeDumper):
    """Writes repeated values in full, because not every reader supports YAML aliases."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def render() -> str:
    """The document as YAML. It depends on no setting."""
    document = create_app(Settings(), "redis://unused").openapi()
    return yaml.dump(document, Dumper=_NoAliases, sort_keys=False, allow_unicode=True, width=110)


if __name__ == "__main__":
    sys.stdout.write(render())
