"""What storage is told, when something that cannot be done yet stands before what must be done now."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa

from mesh.errors import DataLoss, FailedPrecondition
from services.moderation.peers.assets import AssetFacts
from services.moderation.report_tables import STORAGE_ORDERS
from services.moderation.storage_orders import Kind, Order, add_order
from tests.moderation.people_rig import People
from tests.moderation.pictures import encode, scene
from tests.moderation.running import Running, refused

DATA = encode(scene(1))


@pytest.fixture
def people(moderation_on_each: Running) -> People:
    moderation_on_each.assets.put("ast_1", DATA)
    return People(moderation_on_each)


async def waits(people: People, kind: Kind, asset_id: str = "ast_1") -> AssetFacts:
    """An order about the picture that storage cannot carry out now."""
    asset = await people.service.assets.get(asset_id, "")
    order = Order(kind, asset.tenant, asset_id, asset.sha256, "vrd_1")
    await people.service.database.write(lambda c: add_order(c, order))
    return asset


async def test_a_takedown_does_not_wait_for_a_won_appeal(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another tenant's picture has the same bytes and was let out by an appeal, but storage still holds it back."""
    assets = people.service.assets
    assets.put("ast_held", DATA, tenant="other")
    assets.states["ast_held"] = "QUARANTINED"

    async def nothing_let_out(_sha256: str, _asset_id: str = "", _verdict_id: str = "") -> tuple[str, ...]:
        return ()

    monkeypatch.setattr(assets, "restore", nothing_let_out)
    await waits(people, Kind.PUBLISH, "ast_held")
    async with asyncio.timeout(2):
        await people.take_down("ast_1")
    assert people.asked_of_storage == ["take down"]


async def test_a_takedown_reaches_storage_at_once_whatever_another_process_has_begun(people: People) -> None:
    """A process that died while it let the picture out keeps its claim for a minute."""
    await waits(people, Kind.RESTORE)
    claimed = sa.update(STORAGE_ORDERS).values(claim_us=2**62)
    await people.service.database.write(lambda c: c.execute(claimed))
    call = asyncio.ensure_future(people.take_down("ast_1"))
    async with asyncio.timeout(2):
        while not people.asked_of_storage:
            await asyncio.sleep(0.01)
    assert people.asked_of_storage == ["take down"]
    await people.service.database.write(lambda c: c.execute(sa.update(STORAGE_ORDERS).values(claim_us=0)))
    await call
    assert people.asked_of_storage[-1] == "take down"  # and again behind what was begun before


async def test_a_restore_does_not_wait_for_a_picture_that_cannot_be_read(
    people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(_asset_id: str, _tenant: str) -> bytes:
        raise DataLoss("the bytes are gone")

    monkeypatch.setattr(people.service.assets, "read", lost)
    await refused(people.take_down("ast_1", legal_hold=True))
    assert people.asked_of_storage == ["take down", "hold"]  # the bytes are kept before they are looked at
    (order,) = await people.service.rows(STORAGE_ORDERS)
    assert order["kind"] == "HASH"
    takedowns = await people.service.rows(sa.Table("takedowns", STORAGE_ORDERS.metadata))
    await people.restore(takedowns[0]["takedown_id"])
    assert people.asked_of_storage == ["take down", "hold", "restore"]
    assert await people.service.rows(STORAGE_ORDERS) == []


async def test_orders_that_storage_cannot_carry_out_do_not_hold_up_others(
    people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest is tried although many older ones come up again and again."""
    assets = people.service.assets

    async def never(_sha256: str, _asset_id: str = "", _verdict_id: str = "") -> tuple[str, ...]:
        return ()

    monkeypatch.setattr(assets, "restore", never)
    for number in range(3, 9):
        assets.put(f"ast_{number}", encode(scene(number)))
        assets.states[f"ast_{number}"] = "QUARANTINED"
        await waits(people, Kind.PUBLISH, f"ast_{number}")
    await waits(people, Kind.LIFT)
    async with asyncio.timeout(15):
        while "lift" not in people.asked_of_storage:
            await asyncio.sleep(0.05)


async def test_an_order_that_can_never_be_done_is_dropped(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    async def blocked(_sha256: str, _asset_id: str = "", _verdict_id: str = "") -> tuple[str, ...]:
        raise FailedPrecondition("the content's hash is blocked", reason="CONTENT_BLOCKED")

    monkeypatch.setattr(people.service.assets, "restore", blocked)
    asset = await waits(people, Kind.PUBLISH)
    await people.service.moderation.people.orders.carry_out(asset.sha256, publishing=True)
    assert await people.service.rows(STORAGE_ORDERS) == []
