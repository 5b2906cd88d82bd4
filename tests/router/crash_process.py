"""A worker's process that stops for ever at a moment of an order, so that a test can kill it there.

    python -m tests.router.crash_process DATABASE_URL FOLDER HARNESS ORIGIN MOMENT

It claims the one job that waits and walks it: real stores, pipeline and adapter, a fake vendor at ORIGIN. Moments:

    before_post   the attempt's row is written, and no byte was sent
    accepted      the vendor has taken the order on, and its id is not stored
    stored        the vendor's id is stored
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from mesh.db import DatabaseConfig, open_database
from services.router.attempt_store import AttemptStore
from services.router.catalog import Catalog
from services.router.job_store import JobStore
from services.router.ledger_store import LedgerStore
from services.router.providers.base import Listener, Provider, ProviderCall, ProviderResult
from services.router.providers.wrappers import Wrapper
from services.router.queue_store import QueueStore
from tests.router import catalogs
from tests.router.providers.harness import HARNESSES
from tests.router.providers.harness_base import VendorHarness
from tests.router.rig import Rig
from tests.router.stores import Stores


def catalog_of(folder: Path, harness: VendorHarness, provider: Provider) -> Catalog:
    """Model `m` at the harness' vendor, then at `two`, who can draw the same."""
    width, height = harness.size
    able: dict[str, Any] = {"sizes": [f"{width}x{height}"], "default_size": f"{width}x{height}", "formats": ["png"]}
    model = harness.models.get("TEXT_TO_IMAGE", harness.model)
    routes = [
        catalogs.route("one", "0.02", capabilities=able, provider_model=model, timeout_s=20),
        catalogs.route("two", "0.03", capabilities=able, timeout_s=20),
    ]
    providers = [catalogs.provider("one"), catalogs.provider("two")]
    return catalogs.load(folder, catalogs.document(providers, [catalogs.model("m", *routes)]))


def rig_of(url: str, folder: Path, harness: VendorHarness) -> Rig:
    """A rig in which `one` is the harness' vendor."""
    database = open_database(DatabaseConfig(url))
    made = (JobStore(database), QueueStore(database), AttemptStore(database), LedgerStore(database))
    provider = harness.open()
    rig = Rig(Stores(database, *made), folder)
    rig.providers["one"] = provider
    rig.use(catalog_of(folder, harness, provider))
    return rig


class Stops(Wrapper):
    """Says where it is, and stops there."""

    def __init__(self, inner: Provider, moment: str) -> None:
        super().__init__(inner)
        self._moment = moment

    async def submit(self, call: ProviderCall, listener: Listener) -> ProviderResult:
        if self._moment == "before_post":
            await stop()
        return await self._inner.submit(call, _Stopping(listener, self._moment))


class _Stopping:
    """A listener that stops before or after it stores the id."""

    def __init__(self, inner: Listener, moment: str) -> None:
        self._inner = inner
        self._moment = moment
        self.chosen, self.progress, self.preview = inner.chosen, inner.progress, inner.preview
        self.woken = inner.woken

    async def accepted(self, provider_request_id: str) -> None:
        if self._moment == "accepted":
            await stop()
        await self._inner.accepted(provider_request_id)
        await stop()


async def stop() -> None:
    """Tell the test, and wait to be killed."""
    print("here", flush=True)  # noqa: T201 - the test reads it
    await asyncio.Event().wait()


async def main() -> None:
    """See the module."""
    url, folder, name, origin, moment = sys.argv[1:]
    harness = HARNESSES[name]()
    assert isinstance(harness, VendorHarness)
    harness.fake.origin = origin
    rig = rig_of(url, Path(folder), harness)
    rig.providers["one"] = Stops(rig.providers["one"], moment)
    await rig.walk(await rig.claim(lease_s=-1.0))  # others may claim it at once


if __name__ == "__main__":
    asyncio.run(main())
