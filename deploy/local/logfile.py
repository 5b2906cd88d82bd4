"""One process's log: written by the process itself, kept under a cap by the launcher."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

CAP_BYTES = 8 * 1024 * 1024
TAIL_BYTES = 16 * 1024


class LogFile:
    """A file that a child appends to. Beyond the cap it moves to `<name>.log.1`, which holds the part before."""

    def __init__(self, folder: Path, name: str, cap: int = CAP_BYTES) -> None:
        self.path = folder / f"{name}.log"
        self._cap = cap
        self._begin = 0

    def open(self) -> int:
        """A descriptor in append mode, so that cutting the file under the writer is safe. The caller closes it."""
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._begin = os.fstat(descriptor).st_size
        return descriptor

    def trim(self) -> bool:
        """Moves the content aside when it passed the cap. Lines written in that moment may be lost."""
        try:
            if self.path.stat().st_size <= self._cap:
                return False
        except FileNotFoundError:
            return False
        older = self.path.with_name(self.path.name + ".1")
        shutil.copyfile(self.path, older)
        older.chmod(0o600)
        os.truncate(self.path, 0)
        self._begin = 0
        return True

    def tail(self, lines: int = 12) -> str:
        """The last lines since the last `open`, for an error message."""
        try:
            with self.path.open("rb") as file:
                file.seek(max(self._begin, self.path.stat().st_size - TAIL_BYTES))
                text = file.read().decode("utf-8", errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])
