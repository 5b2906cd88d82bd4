"""Becomes the given command after asking the kernel to end it together with its launcher.

`python -I -S child.py LAUNCHER_PID COMMAND...`. A small program of its own rather than code between fork and exec,
because the launcher has threads, and nothing may run in a forked copy of a threaded process.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def die_with(launcher: int) -> None:
    """SIGKILL for this process, kept over exec, when the launcher's main thread ends. Linux only."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != launcher:
        raise SystemExit("the launcher ended before its child began")


def main() -> None:
    """Never returns: the process is the command afterwards."""
    die_with(int(sys.argv[1]))
    command = sys.argv[2:]
    try:
        os.execvp(command[0], command)
    except OSError as error:
        raise SystemExit(f"{command[0]}: {error.strerror}") from error


if __name__ == "__main__":
    main()
