"""The LiteLLM proxy as the peer of a benchmark: installed in a place of its own, one worker, one process."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from tests.conftest import free_port
from tests.e2e.local_mesh import ROOT
from tests.e2e.stubs import KEY, Stub

VERSION = "1.106.2"
PACKAGE = f"litellm[proxy]=={VERSION}"
FOLDER = ROOT / ".cache" / "litellm" / VERSION
MASTER_KEY = "sk-benchmark"
INSTALL_S = 300.0
START_S = 120.0
QUIET = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_LOG": "ERROR",
    "NO_DOCS": "True",
}
"""What its documentation advises for production, and nothing fetched from outside."""


class NotInstalledError(Exception):
    """It could not be installed here; the text says why."""


@dataclass(frozen=True)
class Proxy:
    """A running proxy; base_url ends with /v1."""

    base_url: str
    pid: int


async def install() -> Path:
    """The folder of a virtual environment that has it.

    Raises:
        NotInstalledError: no package, or not in time.
    """
    ready = FOLDER / "ready"
    if not ready.exists():
        shutil.rmtree(FOLDER, ignore_errors=True)
        FOLDER.mkdir(parents=True)
        python = str(FOLDER / "venv" / "bin" / "python")
        uv = shutil.which("uv") or _local_uv()
        if uv:
            await _run(uv, "venv", "--quiet", "--python", sys.executable, str(FOLDER / "venv"))
            await _run(uv, "pip", "install", "--quiet", "--python", python, PACKAGE)
        else:
            await _run(sys.executable, "-m", "venv", str(FOLDER / "venv"))
            await _run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", PACKAGE)
        ready.touch()
    return FOLDER / "venv"


def _local_uv() -> str:
    found = ROOT / ".cache" / "uv" / "bin" / "uv"
    return str(found) if found.exists() else ""


async def _run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(INSTALL_S):
            _, said = await process.communicate()
    except TimeoutError:
        await _end(process)
        raise NotInstalledError(f"not within {INSTALL_S:g} s") from None
    if process.returncode:
        raise NotInstalledError(said.decode(errors="replace").strip()[-300:])


@asynccontextmanager
async def proxy(environment: Path, folder: Path, running: Sequence[Stub]) -> AsyncIterator[Proxy]:
    """The proxy, up, with one model for each stub, named as the stub is; its process is ended at the end."""
    folder.mkdir(parents=True)
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(_config(running)), encoding="utf-8")
    port = free_port()
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            str(environment / "bin" / "litellm"),
            *("--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"),
            cwd=folder,
            env={"PATH": os.environ["PATH"], "HOME": str(folder), **QUIET},
            stdout=log,
            stderr=log,
        )
    try:
        await _until_up(f"http://127.0.0.1:{port}/health/liveliness", process)
        yield Proxy(f"http://127.0.0.1:{port}/v1", process.pid)
    finally:
        await _end(process)


def _config(running: Sequence[Stub]) -> dict[str, Any]:
    models = [
        {
            "model_name": stub.name,
            "litellm_params": {
                "model": "openai/stub-model",
                "api_base": stub.base_url,
                "api_key": KEY,
                "headers": {"X-Client-Request-Id": "litellm"},  # the stub refuses calls without
            },
        }
        for stub in running
    ]
    return {
        "model_list": models,
        "general_settings": {"master_key": MASTER_KEY},
        "litellm_settings": {"telemetry": False, "num_retries": 0, "request_timeout": 120},
    }


async def _until_up(url: str, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(START_S), aiohttp.ClientSession() as http:
        while process.returncode is None:
            try:
                async with http.get(url, timeout=aiohttp.ClientTimeout(total=2)) as answer:
                    if answer.status == 200:
                        return
            except (aiohttp.ClientError, TimeoutError):
                pass
            await asyncio.sleep(0.2)
    raise RuntimeError(f"the LiteLLM proxy ended with {process.returncode}")


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(10):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
