"""A vendor's fake as a process: `python -m tests.router.fakes.run VENDOR [--port N] [--size small] [--latency MS]`.

It prints one line of JSON with what a catalog needs to know (endpoint, key, further secrets, settings) and serves until
it is killed. `POST /_stub/release?prompt=stall` finishes the orders for that prompt, and calls back whoever asked for
that; addresses on loopback are called without TLS, although the fake takes only https as the vendor does.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
from collections.abc import Mapping
from urllib.parse import urlsplit

import aiohttp

from tests.router.fakes import firefly
from tests.router.fakes.vendor import FakeConfig, FakeJob, VendorFake
from tests.router.providers.harness import FAKES, HARNESSES
from tests.router.providers.harness_base import VendorHarness
from tests.router.providers.harness_replicate import SECRET

PATHS: Mapping[str, str] = {"modelslab": "/api/v6", "replicate": "/v1"}
"""What an endpoint has after the origin."""
SECRETS: Mapping[str, Mapping[str, str]] = {
    "firefly": {"client_secret": firefly.CLIENT_SECRET},
    "replicate": {"webhook": "whsec_" + base64.b64encode(SECRET).decode()},
}
"""What goes into an account's `extra_env`."""
SETTINGS: Mapping[str, Mapping[str, str]] = {
    "fal": {"jwks": "/jwks.json", "platform": "/platform"},
    "firefly": {"ims": ""},
}
"""An account's settings, as what follows the origin."""


def told(vendor: str, fake: VendorFake) -> Mapping[str, object]:
    """What is printed."""
    settings = {name: fake.origin + path for name, path in SETTINGS.get(vendor, {}).items()}
    endpoint = fake.origin + PATHS.get(vendor, "")
    return {
        "origin": fake.origin,
        "endpoint": endpoint,
        "key": fake.key,
        "secrets": SECRETS.get(vendor, {}),
        "settings": settings,
    }


async def call_back(harness: VendorHarness, job: FakeJob) -> None:
    """Tell whoever ordered that the order has ended, signed as the vendor signs."""
    address = job.call_back or str(job.fields.get("webhook_url", ""))
    if not address:
        return
    if urlsplit(address).hostname == "127.0.0.1":
        address = address.replace("https://", "http://", 1)
    genuine, _ = await harness.call_backs(job.id)
    async with aiohttp.ClientSession() as session:
        answer = await session.post(address, data=genuine.body, headers=dict(genuine.headers))
    print(json.dumps({"called_back": job.id, "status": answer.status}), flush=True)  # noqa: T201 - people read it


async def _serve(vendor: str, config: FakeConfig) -> None:
    harness = HARNESSES[vendor]()
    assert isinstance(harness, VendorHarness)
    fake = harness.fake = FAKES[vendor](config)
    fake.on_released = lambda job: call_back(harness, job)
    await fake.start()
    print(json.dumps(told(vendor, fake)), flush=True)  # noqa: T201 - whoever started it reads it
    try:
        await asyncio.Event().wait()
    finally:
        await fake.stop()


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description="A vendor's fake.")
    parser.add_argument("vendor", choices=sorted(FAKES))
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--size", choices=["tiny", "small", "large"], default="tiny")
    parser.add_argument("--latency", type=float, default=0.0, metavar="MS")
    options = parser.parse_args()
    asyncio.run(_serve(options.vendor, FakeConfig(options.size, options.latency / 1000, options.port)))


if __name__ == "__main__":
    main()
