"""The folder where a local mesh keeps everything: data, secrets, logs, and what the command reads to find it.

endpoints.json     where everything listens; written when the mesh is up, removed when it stops
development.key    the first API key, written by the router
mesh.token         what the services show one another; made anew at each start
signing.key        signs URLs; kept, so that signed URLs outlive a restart
data/              SQLite files, objects, JetStream        logs/       one file per process
telemetry/         spans, one file per process             run/        lock and state of the launcher
tools/             nats-server, when it had to be installed
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROBE_SECONDS = 0.02


@dataclass(frozen=True)
class Home:
    """Paths under one mesh's folder."""

    root: Path

    @property
    def endpoints(self) -> Path:
        """What clients on this machine read, as JSON."""
        return self.root / "endpoints.json"

    @property
    def development_key(self) -> Path:
        """The development API key, in plain text, readable by its owner alone."""
        return self.root / "development.key"

    @property
    def mesh_token(self) -> Path:
        """The token of internal calls."""
        return self.root / "mesh.token"

    @property
    def signing_key(self) -> Path:
        """The key that signs URLs."""
        return self.root / "signing.key"

    @property
    def data(self) -> Path:
        """SQLite files, objects and JetStream's store."""
        return self.root / "data"

    @property
    def triton_work(self) -> Path:
        """Triton's backend and model repository, made anew at each start."""
        return self.data / "triton"

    @property
    def telemetry(self) -> Path:
        """Span files, one per process."""
        return self.root / "telemetry"

    @property
    def logs(self) -> Path:
        """Log files, one per process."""
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """The launcher's lock and state."""
        return self.root / "run"

    @property
    def tools(self) -> Path:
        """Binaries that were installed for this mesh."""
        return self.root / "tools"

    def database_url(self, name: str) -> str:
        """The SQLAlchemy URL of one service's SQLite file."""
        return f"sqlite:///{self.data / (name + '.sqlite')}"


def open_home(root: Path) -> Home:
    """Makes the folders that are missing, closed to other users."""
    home = Home(root.expanduser().absolute())
    home.root.mkdir(parents=True, exist_ok=True)
    home.root.chmod(0o700)
    for folder in (home.data, home.telemetry, home.logs, home.run, home.tools):
        folder.mkdir(mode=0o700, exist_ok=True)
    return home


def write_private(path: Path, text: str) -> None:
    """Writes a whole file at once, mode 0600; readers see the old text or the new, never half."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    draft.replace(path)


def write_json(path: Path, document: Mapping[str, object]) -> None:
    """`write_private` for a JSON document."""
    write_private(path, json.dumps(document, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any] | None:
    """The document, or None when the file is missing or not JSON."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def new_secret() -> str:
    """32 random bytes in lower-case hex."""
    return secrets.token_hex(32)


def kept_secret(path: Path) -> str:
    """The secret in the file, made on first use."""
    if not path.exists():
        write_private(path, new_secret() + "\n")
    return path.read_text(encoding="utf-8").strip()


class HomeLock:
    """Held by the one launcher of a home. The kernel frees it when that process dies, however it dies."""

    def __init__(self, home: Home) -> None:
        self._path = home.run / "lock"
        self._descriptor: int | None = None

    def take(self, patience: float = 0.0) -> bool:
        """True when this process holds the lock now; False when another launcher runs.

        patience: seconds to try again, because whoever asks for the holder has the lock for a moment.
        """
        end = time.monotonic() + patience
        while not self._try():
            if time.monotonic() >= end:
                return False
            time.sleep(PROBE_SECONDS)
        return True

    def _try(self) -> bool:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Frees the lock; harmless when it is not held."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None

    def holder(self) -> int | None:
        """The process id of the launcher that runs now, or None."""
        if self._descriptor is not None:
            return os.getpid()
        if self.take():
            self.release()
            return None
        text = self._path.read_text(encoding="ascii").strip()
        return int(text) if text.isdigit() else None
