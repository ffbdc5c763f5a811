"""What `openapi.yaml` says is what the service does; `make contract` asks it thousands of times more."""

from __future__ import annotations

import pytest

from tests.service import contract


@pytest.mark.timeout(300)
def test_schemathesis_finds_no_difference_between_the_description_and_the_service(
    capfd: pytest.CaptureFixture[str],
) -> None:
    status = contract.main(["--cases", "4"])
    output = capfd.readouterr().out
    assert status == 0, output[output.find("= FAILURES") :]
