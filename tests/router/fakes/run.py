"""A vendor's fake as a process: `python -m tests.router.fakes.run VENDOR [--port N] [--size small] [--latency MS]`.

It prints one line of JSON with its origin and serves until it is killed.
"""

from __future__ import annotations

import argparse
import asyncio
import json

from tests.router.fakes.vendor import FakeConfig, VendorFake
from tests.router.providers.harness import FAKES


async def _serve(fake: VendorFake) -> None:
    await fake.start()
    print(json.dumps({"origin": fake.origin, "key": fake.key}), flush=True)  # noqa: T201 - whoever started it reads it
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
    config = FakeConfig(options.size, options.latency / 1000, options.port)
    asyncio.run(_serve(FAKES[options.vendor](config)))


if __name__ == "__main__":
    main()
