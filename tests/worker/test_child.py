"""Ending a model process, whatever it has left behind."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import psutil
import pytest

from testkit.processes import eventually
from worker.child import ModelProcess

# A model process whose own child holds the pipe, in its group or, as a daemon does, in a session of its own.
_PARENT = """
import subprocess, sys, time
held = int(sys.argv[1])
child = subprocess.Popen(["sleep", "60"], pass_fds=[held], start_new_session={apart})
open({file!r}, "w").write(str(child.pid))
time.sleep(60)
"""


@pytest.mark.parametrize("apart", [False, True], ids=["in its group", "in a session of its own"])
def test_killing_a_model_process_does_not_wait_for_those_that_hold_its_pipe(tmp_path: Path, apart: bool) -> None:
    file = f"{tmp_path}/pid"
    process = ModelProcess([sys.executable, "-c", _PARENT.format(file=file, apart=apart)])
    process.ensure_started()
    grandchild = psutil.Process(eventually(lambda: _number(file), 20))
    start = time.monotonic()
    process.kill()
    assert time.monotonic() - start < 5
    if apart:
        grandchild.kill()
    else:
        eventually(lambda: not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE, 5)


def _number(file: str) -> int:
    try:
        return int(Path(file).read_text() or 0)
    except FileNotFoundError:
        return 0
