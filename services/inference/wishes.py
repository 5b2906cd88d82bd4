"""Which models operators want out of memory: a small file, so that the wish outlives restarts."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path


def read_unwanted(path: Path | None) -> frozenset[str]:
    """The models that are to stay unloaded. An unreadable file wishes nothing: a model too many is the lesser harm."""
    if path is None:
        return frozenset()
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return frozenset()
    return frozenset(name for name in names if isinstance(name, str)) if isinstance(names, list) else frozenset()


class Wishes:
    """The wishes in memory and, where there is a path, in its file. Any thread may wish."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self.unwanted = read_unwanted(path)

    def unload(self, model_id: str) -> None:
        """From now on the model stays unloaded. Blocks while the file is written; OSError when it cannot be."""
        with self._lock:
            self._replace(self.unwanted | {model_id})

    def load(self, model_id: str) -> None:
        """From now on the model is loaded as any other. Blocks as `unload` does."""
        with self._lock:
            self._replace(self.unwanted - {model_id})

    def _replace(self, unwanted: frozenset[str]) -> None:
        if unwanted != self.unwanted and self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            new = self._path.with_suffix(".new")
            new.write_text(json.dumps(sorted(unwanted)), encoding="utf-8")
            os.replace(new, self._path)
        self.unwanted = unwanted
