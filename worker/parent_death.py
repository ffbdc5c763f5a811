"""`python -m worker.parent_death SIGNAL PARENT COMMAND...`: become COMMAND, which gets SIGNAL when PARENT dies.

A supervisor that is killed with SIGKILL cannot end its children. On Linux the kernel can (PR_SET_PDEATHSIG, prctl(2)).
The setting survives exec, so it works for programs that are not ours as well.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def command(argv: list[str], sent: signal.Signals) -> list[str]:
    """The command line that runs `argv` so that it gets the signal when this process dies; on other systems, `argv`.

    Start it from the main thread: the kernel watches the thread that started the child, not the process.
    """
    if sys.platform != "linux":
        return argv
    return [sys.executable, "-m", "worker.parent_death", str(int(sent)), str(os.getpid()), *argv]


def main() -> None:
    sent, parent, *argv = sys.argv[1:]
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(sent))
    if os.getppid() != int(parent):
        sys.exit("the parent died before this child started")
    os.execvp(argv[0], argv)


if __name__ == "__main__":
    main()
