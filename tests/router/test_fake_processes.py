"""A vendor's fake as a process: it says what a catalog needs, finishes what stalls when told, and calls back."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from pydantic import SecretStr

from services.router.providers import ADAPTERS, Connections
from services.router.providers.base import Account, Provider, ProviderCall
from services.router.providers.http import PooledHttpClient
from services.router.providers.webhooks import CallBack
from tests.e2e.local_mesh import ROOT
from tests.router.providers.harness_base import Heard


@asynccontextmanager
async def running(vendor: str) -> AsyncIterator[Mapping[str, Any]]:
    """What the process says of itself."""
    command = (sys.executable, "-m", "tests.router.fakes.run", vendor)
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            yield json.loads(await process.stdout.readline())
    finally:
        process.kill()
        await process.wait()


def opened(vendor: str, told: Mapping[str, Any], http: PooledHttpClient) -> Provider:
    secrets = {name: SecretStr(value) for name, value in told["secrets"].items()}
    account = Account(vendor, told["endpoint"], SecretStr(told["key"]), secrets=secrets, settings=told["settings"])
    return ADAPTERS[vendor].open(account, Connections(http, None))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("vendor", "model"),
    [
        ("bfl", "flux-2-pro"),
        ("fal", "fal-ai/flux/dev"),
        ("ideogram", "ideogram-4-5"),
        ("modelslab", "flux"),
        ("replicate", "black-forest-labs/flux-schnell"),
    ],
)
async def test_what_was_released_is_drawn_and_called_back_in_a_way_that_is_believed(vendor: str, model: str) -> None:
    came: asyncio.Future[CallBack] = asyncio.get_running_loop().create_future()

    async def take(request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        came.set_result(CallBack(headers, await request.read(), dict(request.query)))
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/hooks", take)
    runner, http = web.AppRunner(app), PooledHttpClient()
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    address = f"https://127.0.0.1:{runner.addresses[0][1]}/hooks?t=secret"
    try:
        async with running(vendor) as told:
            provider, heard = opened(vendor, told, http), Heard()
            call = ProviderCall("att_1", "acme", model, "stall", timeout=50.0, callback_url=address)
            drawing = asyncio.create_task(provider.submit(call, heard))
            await heard.taken.wait()
            async with aiohttp.ClientSession() as session:
                await session.post(f"{told['origin']}/_stub/release?prompt=stall")
            assert await provider.verify(await came) in heard.ids[0]
            assert (await drawing).images
    finally:
        await http.close()
        await runner.cleanup()
