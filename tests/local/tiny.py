"""A process for supervisor tests: writes its pid, then does what its manner says.

run            ends with 0 on SIGTERM      deaf     ignores SIGTERM       crash    ends with 7 at once
crash-once F   the first time (no file F)  parent   has a deaf child of its own
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def announce(ready: Path, *more: int) -> None:
    draft = ready.with_suffix(".draft")
    draft.write_text(" ".join(str(pid) for pid in (os.getpid(), *more)))
    draft.rename(ready)


def main() -> None:
    ready, manner = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "run"
    more: tuple[int, ...] = ()
    if manner == "crash":
        sys.stdout.write("this is why\n")
        sys.stdout.flush()
        raise SystemExit(7)
    if manner == "crash-once" and not Path(sys.argv[3]).exists():
        Path(sys.argv[3]).touch()
        announce(ready)
        raise SystemExit(7)
    if manner == "write":
        Path(sys.argv[3]).write_text(sys.argv[4])
    if manner == "silent":
        ready = ready.with_name("never-told")
    if manner == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if manner == "parent":
        beside = ready.with_name(ready.name + "-child")
        child = subprocess.Popen([sys.executable, "-S", __file__, str(beside), "deaf"])
        while not beside.exists():
            time.sleep(0.01)
        more = (child.pid,)
    announce(ready, *more)
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
