"""What the API forgets once a minute: everything that is over, however much there is."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa

from services.router import api
from services.router.api import Api
from services.router.tables import job_requests
from tests.router.stores import Stores


async def test_every_expired_request_id_is_forgotten_in_one_go(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "TIDY_ROWS", 2)
    rows = [
        {"tenant": "acme", "request_id": f"r{number}", "body_hash": b"", "job_id": "job", "expire_time": expires}
        for number, expires in enumerate([1, 1, 1, 1, 1, 2**60])
    ]
    await stores.database.write(lambda c: c.execute(sa.insert(job_requests), rows).rowcount)
    serving = Api.__new__(Api)
    serving.jobs, serving.ledger = stores.jobs, stores.ledger
    tidying = asyncio.create_task(serving._tidy())
    async with asyncio.timeout(20):
        while len(await stores.rows(job_requests)) > 1:
            await asyncio.sleep(0.01)
    tidying.cancel()
    assert [row.request_id for row in await stores.rows(job_requests)] == ["r5"]
