"""Which engine the mesh runs on: Triton where it can run, else the same engine inside the inference service."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import dataclass

from deploy.local.processes import ROOT, Engine

CHECK_SECONDS = 120.0


class EngineError(Exception):
    """The engine that was asked for cannot run here."""


@dataclass(frozen=True)
class EngineChoice:
    """notice: one line about why it is not Triton; empty when there is nothing to say."""

    engine: Engine
    notice: str = ""


def choose_engine(wanted: str) -> EngineChoice:
    """`wanted` is `triton`, `inprocess`, or empty for the better one that runs. Raises EngineError."""
    if wanted == "inprocess":
        return EngineChoice("inprocess")
    if wanted not in ("", "triton"):
        raise EngineError(f"INFERENCE_ENGINE is {wanted!r}; it may be triton or inprocess")
    obstacle = triton_obstacle()
    if not obstacle:
        return EngineChoice("triton")
    if wanted == "triton":
        raise EngineError(f"Triton cannot run here: {obstacle}")
    return EngineChoice("inprocess", f"Triton cannot run here ({obstacle}); the engine runs in process")


def triton_obstacle() -> str:
    """What keeps Triton from running on this machine, in one line; empty when nothing does."""
    if importlib.util.find_spec("pytriton") is None:
        return "the nvidia-pytriton package is not installed"
    if importlib.util.find_spec("deploy.local.triton") is None:
        return "its launcher is missing"
    command = [sys.executable, "-m", "deploy.local.triton", "--check"]
    try:
        answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=CHECK_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"its check took longer than {CHECK_SECONDS:.0f} s"
    if answer.returncode == 0:
        return ""
    lines = (answer.stdout + answer.stderr).strip().splitlines()
    return lines[-1].strip() if lines else f"its check ended with status {answer.returncode}"
