"""A whole mesh of real processes for tests, crash tests and benchmarks: start it, look into it, kill parts of it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from imagemesh.aio import AsyncClient

from tests.e2e.truth import Rows, SqliteTruth, Truth

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 240.0


class LocalMesh:
    """The processes under one home. Made by `local_mesh`."""

    def __init__(self, home: Path, launcher: asyncio.subprocess.Process, truth: Truth) -> None:
        self.home = home
        self._truth = truth
        self.endpoints: dict[str, Any] = {}
        self._launcher = launcher

    @property
    def api_key(self) -> str:
        return (self.home / "development.key").read_text(encoding="utf-8").strip()

    def client(self) -> AsyncClient:
        return AsyncClient(self.endpoints["router"], self.api_key)

    def processes(self) -> dict[str, dict[str, Any]]:
        """The launcher's own view: name, state, pid and restarts of each process."""
        try:
            state = json.loads((self.home / "run" / "state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return {process["name"]: process for process in state["processes"]}

    async def ready(self, name: str, restarts: int = 0) -> int:
        """The pid of the process once it is ready and was restarted at least so often."""
        async with asyncio.timeout(120):
            while True:
                process = self.processes().get(name, {})
                if process.get("state") == "ready" and process["restarts"] >= restarts:
                    return int(process["pid"])
                await asyncio.sleep(0.05)

    async def kill(self, name: str) -> int:
        """SIGKILL for the process and its children; returns how often it had been restarted before."""
        process = self.processes()[name]
        kill_tree(int(process["pid"]))
        return int(process["restarts"])

    async def terminate(self, name: str) -> int:
        """SIGTERM for the process, as at a rolling update; returns how often it had been restarted before."""
        process = self.processes()[name]
        os.kill(int(process["pid"]), signal.SIGTERM)
        return int(process["restarts"])

    def rows(self, service: str, query: str) -> Rows:
        """Reads what a service has stored straight from its database."""
        return self._truth.rows(service, query)

    async def until_up(self) -> None:
        assert self._launcher.stdout is not None
        seen: list[str] = []
        async with asyncio.timeout(START_SECONDS):
            async for line in self._launcher.stdout:
                seen.append(line.decode())
                event = json.loads(line)
                if event["kind"] == "up":
                    self.endpoints = event["details"]["endpoints"]
                    return
        raise RuntimeError("the mesh did not come up:\n" + "".join(seen[-5:]))

    async def stop(self) -> None:
        if self._launcher.returncode is None:
            self._launcher.terminate()
            async with asyncio.timeout(90):
                await self._launcher.communicate()


def kill_tree(pid: int) -> None:
    """SIGKILL for a process group leader started by the launcher, or for the process alone."""
    try:
        os.killpg(os.getpgid(pid), signal.SIGKILL)
    except ProcessLookupError:
        return


@asynccontextmanager
async def local_mesh(
    home: Path, environment: Mapping[str, str], truth: Truth | None = None
) -> AsyncIterator[LocalMesh]:
    """A mesh that is up; `environment` is added to this process's own (`IMAGEMESH_CATALOG`, …).

    truth: where its services keep what they own; the embedded files when None.
    """
    launcher = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.e2e.up", str(home),
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1024 * 1024,
    )  # fmt: skip
    mesh = LocalMesh(home, launcher, truth or SqliteTruth(home))
    try:
        await mesh.until_up()
        yield mesh
    finally:
        await mesh.stop()
