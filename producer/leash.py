"""Runs a program that dies with its parent: `python leash.py PARENT_PID PROGRAM ARGUMENT...`.

The kernel is asked to send SIGKILL when the parent ends, however it ends, and then this process
becomes the program. Started by its path, and without the site packages, it costs milliseconds;
unlike a function that runs between fork and exec it is safe beside threads. Linux only.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Tie this process to its parent and become the program.

    Raises:
        SystemExit: the parent was gone before it could be watched.
    """
    parent, program = int(arguments[0]), arguments[1:]
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise SystemExit(1)
    os.execv(program[0], program)  # noqa: S606 - no shell is what we want


if __name__ == "__main__":
    main(sys.argv[1:])
