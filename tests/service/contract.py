"""`python -m tests.service.contract [--cases N]`: schemathesis checks the running service against `openapi.yaml`.

All of its checks run, on examples, boundary values, random requests and sequences of requests. The service is the real
one, but its workers have no model, so that thousands of jobs end in a minute.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from testkit.fake_model import STEP_SECONDS
from testkit.processes import ROOT, Stack, running_stack

SETTINGS = {
    "PANORAMAS_MAX_WAIT": "1",
    "PANORAMAS_MAX_QUEUED": "1000000",
    "PANORAMAS_MAX_STEPS": "5",
    # Without a secret every webhook_url is refused. No process sends the calls.
    "PANORAMAS_WEBHOOK_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo=",
    STEP_SECONDS: "0.001",
}


KEY = "alice"
# As behind a proxy that leaves the prefix in the path.
GUARDED = {
    "PANORAMAS_PUBLIC_URL": "https://paint.example.org/pano",
    "PANORAMAS_API_KEYS": f"ann:{hashlib.sha256(KEY.encode()).hexdigest()}",
}


def command(stack: Stack, *options: str, guarded: bool = False) -> list[str]:
    """The schemathesis command for `stack`."""
    program = str(Path(sys.executable).with_name("schemathesis"))
    configuration = str(ROOT / "tests" / "service" / "schemathesis.toml")
    url = f"{stack.url}/pano" if guarded else stack.url
    options = (*options, "--header", f"X-API-Key: {KEY}") if guarded else options
    return [program, "--config-file", configuration, "run", str(ROOT / "openapi.yaml"), "--url", url, *options]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run schemathesis; returns its exit status, 0 if nothing failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.service.contract", description=__doc__)
    parser.add_argument("--cases", type=int, default=100, help="random requests for each operation, at most")
    parser.add_argument("--seed", type=int, default=20260)
    parser.add_argument("--guarded", action="store_true", help="with API keys, and under a prefix")
    parser.add_argument("options", nargs="*", help="further options of `schemathesis run`, after --")
    chosen = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory() as folder,
        running_stack(Path(folder), "demo", workers=0, **SETTINGS, **(GUARDED if chosen.guarded else {})) as stack,
    ):
        stack.start_worker("testkit.faulty_worker")
        options = ["--max-examples", str(chosen.cases), "--seed", str(chosen.seed), *chosen.options]
        hooks = {"SCHEMATHESIS_HOOKS": "tests.service.schemathesis_hooks", "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            command(stack, *options, guarded=chosen.guarded), cwd=folder, env={**os.environ, **hooks}
        ).returncode


if __name__ == "__main__":
    sys.exit(main())
