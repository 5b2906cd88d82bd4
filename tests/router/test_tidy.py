"""What the API forgets once a minute: everything that is over, however much there is."""

from __future__ import annotations

import asyncio
import time

import pytest
import sqlalchemy as sa

from services.router import api
from services.router.api import Api
from services.router.cache_store import LONGEST_US, CacheStore
from services.router.tables import cache_entries, job_requests
from tests.router.stores import Stores


async def test_every_expired_request_id_is_forgotten_in_one_go(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "TIDY_ROWS", 2)
    rows = [
        {"tenant": "acme", "request_id": f"r{number}", "body_hash": b"", "job_id": "job", "expire_time": expires}
        for number, expires in enumerate([1, 1, 1, 1, 1, 2**60])
    ]
    await stores.database.write(lambda c: c.execute(sa.insert(job_requests), rows).rowcount)
    serving = Api.__new__(Api)
    serving.jobs, serving.ledger, serving.cache = stores.jobs, stores.ledger, CacheStore(stores.database)
    tidying = asyncio.create_task(serving._tidy())
    async with asyncio.timeout(20):
        while len(await stores.rows(job_requests)) > 1:
            await asyncio.sleep(0.01)
    tidying.cancel()
    assert [row.request_id for row in await stores.rows(job_requests)] == ["r5"]


async def test_the_cache_forgets_what_is_old_and_what_is_too_much(stores: Stores) -> None:
    cache, now = CacheStore(stores.database), time.time_ns() // 1000
    ages = {"old": LONGEST_US + 10**9, "a": 4_000_000, "b": 3_000_000, "c": 2_000_000, "d": 1_000_000}
    rows = [
        {"cache_key": key, "tenant": "acme", "job_id": "job", "images": b"", "create_time": now - age}
        for key, age in ages.items()
    ]
    await stores.database.write(lambda c: c.execute(sa.insert(cache_entries), rows).rowcount)
    assert await cache.sweep() == 1
    assert await cache.sweep(limit=1, most=2) == 1
    assert await cache.sweep(most=2) == 1
    assert await cache.sweep(most=2) == 0
    assert {row.cache_key for row in await stores.rows(cache_entries)} == {"c", "d"}
