"""Volume tiers by what an account bought this month; and what was left out is not served from the cache."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from imagemesh.router.v1 import job_pb2

from services.router.planning import Planner
from services.router.tables import attempts, cache_entries
from services.router.volumes import month_start_us
from tests.router import catalogs
from tests.router.rig import Rig
from tests.router.stores import Stores

TIERS = [{"from": 3, "amounts": {"*": "0.01"}}]


def tiered(folder: Path) -> Any:
    priced = catalogs.route("one", "0.02", capabilities={"seed": True, "sizes": [], "default_size": "64x64"})
    priced["price"] = {**priced["price"], "tiers": TIERS}
    return catalogs.load(folder, catalogs.document([catalogs.provider("one")], [catalogs.model("m", priced)]))


@pytest.fixture
def rig(stores: Stores, tmp_path: Path) -> Rig:
    rig = Rig(stores, tmp_path)
    planner = Planner(tiered(tmp_path))
    object.__setattr__(rig.pipeline._parts, "planner", lambda: planner)
    return rig


async def costs(rig: Rig) -> list[int]:
    rows = await rig.stores.rows(attempts)
    return [row.cost_micros for row in sorted(rows, key=lambda row: int(row.start_time))]


async def test_pictures_of_the_month_count_and_older_ones_do_not(rig: Rig) -> None:
    await rig.draw(count=2)
    await rig.draw(count=2)
    await rig.draw()
    assert await costs(rig) == [40_000, 20_000 + 10_000, 10_000]
    last_month = sa.update(attempts).values(start_time=attempts.c.start_time - 40 * 86_400 * 1_000_000)
    await rig.stores.database.write(lambda connection: connection.execute(last_month).rowcount)
    await rig.draw()
    assert (await costs(rig))[-1] == 20_000


async def test_other_accounts_and_models_do_not_count(rig: Rig) -> None:
    await rig.draw(count=4)
    elsewhere = sa.update(attempts).values(account="other")
    await rig.stores.database.write(lambda connection: connection.execute(elsewhere).rowcount)
    await rig.draw()
    assert (await costs(rig))[-1] == 20_000


def test_a_month_begins_on_its_first_day_in_utc() -> None:
    def us(*parts: int) -> int:
        return round(datetime.datetime(*parts, tzinfo=datetime.UTC).timestamp() * 1_000_000)  # type: ignore[misc,arg-type]

    assert month_start_us(us(2026, 11, 20, 15)) == us(2026, 11, 1)
    assert month_start_us(us(2026, 11, 1)) == us(2026, 11, 1)
    assert month_start_us(us(2026, 12, 31, 23, 59, 59)) == us(2026, 12, 1)


@pytest.mark.parametrize(("may_drop", "kept"), [([], 1), (["size", "steps"], 0)])
async def test_a_result_that_left_something_out_serves_no_later_job(
    stores: Stores, tmp_path: Path, may_drop: list[str], kept: int
) -> None:
    rig = Rig(stores, tmp_path)
    options = job_pb2.JobOptions(routing=job_pb2.Routing(may_drop=may_drop))
    await rig.draw(seed_drawn=False, options=options, **({"steps": 9} if may_drop else {}))
    assert len(await rig.stores.rows(cache_entries)) == kept
