"""Finds processes that a launcher started and did not get to stop.

Every child carries the mark of its home in its environment, and so do its own children. On Linux the marks are read
from /proc; elsewhere there is nothing to read and nothing is found.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

MARK = "IMAGEMESH_LAUNCHED_FROM"
GONE_SECONDS = 5.0
POLL_SECONDS = 0.02


def mark(home: Path) -> dict[str, str]:
    """The environment entry that says which home a process belongs to."""
    return {MARK: str(home)}


def find_strays(home: Path) -> list[int]:
    """Ids of the running processes with the home's mark, this process and its ancestors left out."""
    wanted = f"{MARK}={home}".encode()
    ours = _ancestors()
    return [pid for pid in _processes() if pid not in ours and wanted in _environment(pid)]


def kill_strays(home: Path) -> int:
    """SIGKILL until none is left or five seconds are over. Returns how many were found.

    Call it only while holding the home's lock: with it, no marked process can belong to a running launcher.
    """
    killed: set[int] = set()
    end = time.monotonic() + GONE_SECONDS
    while strays := find_strays(home):
        for pid in strays:
            kill(pid)
        killed.update(strays)
        if time.monotonic() > end:
            break
        time.sleep(POLL_SECONDS)
    return len(killed)


def kill(pid: int) -> None:
    """SIGKILL, whether or not the process is still there."""
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def kill_group(leader: int) -> None:
    """SIGKILL for a whole process group, whether or not anything is left of it."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _processes() -> list[int]:
    try:
        return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
    except OSError:
        return []


def _environment(pid: int) -> list[bytes]:
    """Empty for zombies and for processes of other users."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _ancestors() -> set[int]:
    chain = {os.getpid()}
    pid = os.getppid()
    while pid > 1 and pid not in chain:
        chain.add(pid)
        pid = _parent(pid)
    return chain


def _parent(pid: int) -> int:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[1])
