"""The service does what `openapi.yaml` says. `make contract` sends thousands of requests more."""

from __future__ import annotations

import pytest

from tests.service import contract


@pytest.mark.timeout(300)
def test_schemathesis_finds_no_difference_between_openapi_yaml_and_the_service(
    capfd: pytest.CaptureFixture[str],
) -> None:
    status = contract.main(["--cases", "4"])
    output = capfd.readouterr().out
    assert status == 0, output[output.find("= FAILURES") :]
