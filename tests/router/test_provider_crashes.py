"""kill -9 of a worker around an order at each asynchronous vendor: never two orders for one attempt, nothing lost."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from imagemesh.router.v1 import job_pb2

from services.router.leases import Ended
from services.router.providers import ADAPTERS
from services.router.tables import attempts, jobs
from tests.e2e.local_mesh import ROOT
from tests.router.conftest import MIGRATIONS
from tests.router.crash_process import rig_of
from tests.router.providers.harness import HARNESSES
from tests.router.providers.harness_base import VendorHarness
from tests.router.rig import Rig
from tests.schemas import migrated

PROMPT = "stall"
"""An order that the vendor finishes only when told to."""


def asynchronous() -> list[str]:
    """One harness of each adapter whose vendor takes orders on, to be asked for later: variants share the flow."""
    names: dict[str, str] = {}
    for name, harness in HARNESSES.items():
        can = ADAPTERS[name.partition("-")[0]].capabilities(getattr(harness, "variant", ""))
        if can.resumable and "TEXT_TO_IMAGE" in can.operations and issubclass(harness, VendorHarness):
            names.setdefault(name.partition("-")[0], name)
    return list(names.values())


NAMED_BY_US = ["comfyui"]
"""Vendors that take our id of an order, so that it can be asked about although no answer came."""
NAMED_BY_THEM = [name for name in asynchronous() if name not in NAMED_BY_US]


@dataclass
class Crash:
    """A worker was killed; what it left."""

    name: str
    harness: VendorHarness
    rig: Rig

    @property
    def accepted(self) -> int:
        """Orders that the vendor took on, and would bill."""
        return self.harness.fake.accepted[PROMPT]

    async def go_on(self) -> Any:
        """Another worker takes the job to its end; the job's row."""
        assert isinstance(await self.rig.walk(await self.rig.claim("w2")), Ended)
        (job,) = await self.rig.stores.rows(jobs)
        return job

    async def orders(self) -> list[tuple[str, str]]:
        rows = await self.rig.stores.rows(attempts)
        return [(row.provider, row.state) for row in sorted(rows, key=lambda row: row.ordinal)]


@asynccontextmanager
async def killed(name: str, moment: str, folder: Path, *, fallback: bool = True) -> AsyncIterator[Crash]:
    """A job whose worker was killed at that moment."""
    harness = HARNESSES[name]()
    assert isinstance(harness, VendorHarness)
    await harness.fake.start()
    url = f"sqlite:///{folder}/router.db"
    await migrated(url, MIGRATIONS)
    rig = rig_of(url, folder, harness)
    try:
        await rig.submit(prompt=PROMPT, seed_drawn=True, options=_options(fallback))
        await _kill(url, folder, name, harness.fake.origin, moment)
        yield Crash(name, harness, rig)
    finally:
        await rig.stores.database.close()
        await harness.stop()


def _options(fallback: bool) -> job_pb2.JobOptions:
    return job_pb2.JobOptions(routing=job_pb2.Routing(fallback=fallback))


async def _kill(url: str, folder: Path, name: str, origin: str, moment: str) -> None:
    command = (sys.executable, "-m", "tests.router.crash_process", url, str(folder), name, origin, moment)
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            assert await process.stdout.readline() == b"here\n"
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@pytest.mark.parametrize("name", NAMED_BY_THEM)
async def test_killed_before_the_post_the_vendor_has_nothing(name: str, tmp_path: Path) -> None:
    async with killed(name, "before_post", tmp_path) as crash:
        job = await crash.go_on()
        assert crash.accepted == 0
        assert job.state == "SUCCEEDED"
        assert await crash.orders() == [("one", "UNKNOWN"), ("two", "SUCCEEDED")]


@pytest.mark.parametrize("name", NAMED_BY_US)
async def test_killed_before_the_post_a_vendor_that_takes_our_id_knows_nothing_and_is_asked_to_draw(
    name: str, tmp_path: Path
) -> None:
    async with killed(name, "before_post", tmp_path) as crash:
        going_on = asyncio.create_task(crash.go_on())
        await crash.harness.until_asked(PROMPT)
        await crash.harness.release(PROMPT)
        assert (await going_on).state == "SUCCEEDED"
        assert crash.accepted == 1
        assert await crash.orders() == [("one", "FAILED"), ("one", "SUCCEEDED")]
        assert "HOLD" not in [kind for kind, _ in await crash.rig.stores.kinds()]


@pytest.mark.parametrize("name", NAMED_BY_US)
async def test_killed_after_the_vendor_accepted_an_order_under_our_id_is_taken_up(name: str, tmp_path: Path) -> None:
    async with killed(name, "accepted", tmp_path) as crash:
        await crash.harness.release(PROMPT)
        assert (await crash.go_on()).state == "SUCCEEDED"
        assert crash.accepted == 1
        assert await crash.orders() == [("one", "SUCCEEDED")]


@pytest.mark.parametrize("name", NAMED_BY_THEM)
async def test_killed_after_the_vendor_accepted_it_is_not_ordered_there_again(name: str, tmp_path: Path) -> None:
    async with killed(name, "accepted", tmp_path, fallback=False) as crash:
        job = await crash.go_on()
        assert crash.accepted == 1
        assert (job.state, job.error_reason) == ("FAILED", "ATTEMPT_OUTCOME_UNKNOWN")
        assert ("HOLD", 20_000) in await crash.rig.stores.kinds()


@pytest.mark.parametrize("name", asynchronous())
async def test_killed_after_the_id_was_stored_the_order_is_taken_up(name: str, tmp_path: Path) -> None:
    async with killed(name, "stored", tmp_path) as crash:
        await crash.harness.release(PROMPT)
        job = await crash.go_on()
        assert crash.accepted == 1
        assert job.state == "SUCCEEDED"
        assert await crash.orders() == [("one", "SUCCEEDED")]
