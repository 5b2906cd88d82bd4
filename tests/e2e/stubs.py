"""OpenAI-compatible stubs in processes of their own, and the catalog that sends jobs to them."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from tests.e2e.local_mesh import ROOT

KEY_ENV = "IMAGEMESH_TEST_STUB_KEY"
KEY = "sk-stub"
MODEL = "picture"


@dataclass(frozen=True)
class Stub:
    """A running stub; base_url ends with /v1."""

    name: str
    base_url: str
    process: asyncio.subprocess.Process

    async def posts(self) -> dict[str, Any]:
        """How often each prompt and each client request id was POSTed."""
        url = self.base_url.removesuffix("/v1") + "/_stub/posts"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            document: dict[str, Any] = await answer.json()
            return document


@asynccontextmanager
async def stubs(names: Sequence[str], size: str = "tiny", latency_ms: float = 0.0) -> AsyncIterator[list[Stub]]:
    """One process for each name."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(_stub(name, size, latency_ms)) for name in names]


@asynccontextmanager
async def _stub(name: str, size: str, latency_ms: float) -> AsyncIterator[Stub]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.router.fakes.openai", "--size", size, "--latency", str(latency_ms), "--key", KEY,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            line = await process.stdout.readline()
        yield Stub(name, json.loads(line)["base_url"], process)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def write_catalog(path: Path, running: Sequence[Stub], size: str = "64x64") -> Path:
    """A catalog of one model that every stub serves, in the order given, at a cent a picture."""
    route = {
        "provider_model": "stub-model",
        "timeout_s": 60,
        "capabilities": {
            "operations": ["TEXT_TO_IMAGE", "EDIT"],
            "max_images": 1,
            "min_edge": 64,
            "max_edge": 2048,
            "edge_step": 8,
            "default_size": size,
            "count_per_call": 4,
            "seed": True,
            "formats": ["png"],
        },
        "price": {"unit": "IMAGE", "amounts": {"*": "0.01"}, "source": "a stub", "date": "2026-11-20"},
    }
    providers = [
        {
            "id": stub.name,
            "title": stub.name,
            "kind": "openai",
            "endpoint": stub.base_url,
            "variant": "compatible",
            "accounts": [{"name": "default", "key_env": KEY_ENV, "max_concurrency": 128}],
        }
        for stub in running
    ]
    model = {
        "id": MODEL,
        "title": "Stub",
        "quality_rank": 1,
        "license": "none",
        "routes": [{"provider": stub.name, **route} for stub in running],
    }
    path.write_text(yaml.safe_dump({"providers": providers, "models": [model]}), encoding="utf-8")
    return path
