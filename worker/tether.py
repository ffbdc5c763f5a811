"""`python -m worker.tether SIGNAL PARENT COMMAND...`: become COMMAND, to be sent SIGNAL when PARENT dies.

A supervisor that is killed outright cannot end its children; on Linux the kernel can (PR_SET_PDEATHSIG, prctl(2)).
The setting outlives the exec, so it holds for programs that are not ours as well.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def command(argv: list[str], sent: signal.Signals) -> list[str]:
    """`argv`, tethered to the calling process. On systems other than Linux, `argv` as it is.

    To be spawned by the main thread: the kernel watches the thread, not the process.
    """
    if sys.platform != "linux":
        return argv
    return [sys.executable, "-m", "worker.tether", str(int(sent)), str(os.getpid()), *argv]


def main() -> None:
    sent, parent, *argv = sys.argv[1:]
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(sent))
    if os.getppid() != int(parent):
        sys.exit("the parent died before its child began")
    os.execvp(argv[0], argv)


if __name__ == "__main__":
    main()
