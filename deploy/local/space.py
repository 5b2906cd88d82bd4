"""Keeps a folder of files that processes leave behind under a bound."""

from __future__ import annotations

from pathlib import Path

TELEMETRY_BYTES = 512 * 1024 * 1024


def keep_under(folder: Path, bound: int = TELEMETRY_BYTES) -> int:
    """Removes the oldest files until all together are at most `bound` bytes. Returns how many went."""
    files = sorted((path for path in folder.iterdir() if path.is_file()), key=lambda path: path.stat().st_mtime)
    total = sum(path.stat().st_size for path in files)
    removed = 0
    for path in files:
        if total <= bound:
            break
        total -= path.stat().st_size
        path.unlink()
        removed += 1
    return removed
