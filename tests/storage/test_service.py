"""What the rpcs promise, on every kind of database."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from imagemesh.events.v1 import asset_pb2 as events_pb2
from imagemesh.storage.v1 import asset_pb2
from imagemesh.storage.v1 import storage_service_pb2 as pb
from imagemesh.type.v1 import image_pb2

from mesh.errors import Code, Unavailable
from mesh.verdict_seal import Let, Sealer
from services.storage.signing import KeyRing, sign
from services.storage.tables import OUTBOX
from services.storage.verdicts import Verdict
from tests.storage.running import (
    SIGNING_KEYS,
    VERDICT_KEY,
    Running,
    internal,
    key,
    object_files,
    picture,
    put_stream,
    refused,
    sha256,
)

QUARANTINED = asset_pb2.ASSET_STATE_QUARANTINED
PUBLISHED = asset_pb2.ASSET_STATE_PUBLISHED
BLOCKED = asset_pb2.ASSET_STATE_BLOCKED
TAKEN_DOWN = asset_pb2.ASSET_STATE_TAKEN_DOWN
PURGED = asset_pb2.ASSET_STATE_PURGED


async def events(storage: Running) -> list[tuple[str, str]]:
    rows = await storage.storage.store._database.read(lambda c: c.execute(OUTBOX.select().order_by(OUTBOX.c.seq)).all())
    return [(row.type, row.subject_id) for row in rows]


async def state(storage: Running, asset_id: str) -> asset_pb2.AssetState.ValueType:
    answer = await storage.stub.GetAsset(pb.GetAssetRequest(asset_id=asset_id), metadata=internal(""))
    return answer.asset.state


async def test_a_put_is_stored_quarantined_with_what_is_known_of_it(storage: Running) -> None:
    data = picture(1, 300, 200)
    asset = await storage.put(data, "ast_one", epoch=3)
    assert (asset.asset_id, asset.tenant, asset.state, asset.kind) == (
        "ast_one",
        "acme",
        QUARANTINED,
        asset_pb2.ASSET_KIND_OUTPUT,
    )
    assert (asset.sha256, asset.width, asset.height, asset.format, asset.size_bytes) == (
        sha256(data),
        300,
        200,
        "png",
        len(data),
    )
    assert (asset.provenance.job_id, asset.provenance.seed, asset.provenance.HasField("steps")) == ("job_1", 7, False)
    assert asset.create_time.seconds > 1_700_000_000
    assert asset.verdict_id == ""
    assert not asset.HasField("publish_time")
    again = await storage.stub.GetAsset(pb.GetAssetRequest(asset_id="ast_one"), metadata=key("acme"))
    assert again.asset == asset


async def test_bytes_come_back_as_they_went_in(storage: Running) -> None:
    data = picture(2, 1200, 1100)
    assert len(data) > 1 << 20
    asset = await storage.put(data)
    request = pb.ReadAssetRequest(asset_id=asset.asset_id)
    messages = [m async for m in storage.stub.ReadAsset(request, metadata=internal())]
    header, chunks = messages[0].header, [m.chunk for m in messages[1:]]
    assert (header.asset, header.media_type, header.size_bytes) == (asset, "image/png", len(data))
    assert b"".join(c.data for c in chunks) == data
    assert all(len(c.data) <= 1 << 20 for c in chunks)
    assert [c.offset for c in chunks] == [sum(len(d.data) for d in chunks[:n]) for n in range(len(chunks))]
    assert [c.last for c in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1].sha256 == sha256(data)


@pytest.mark.parametrize(
    ("offset", "limit"), [(0, 10), (5, 0), (7, 1), (0, 1 << 40), (1 << 40, 0), (1 << 20, (1 << 20) + 5)]
)
async def test_a_part_of_the_bytes_can_be_read(local: Running, offset: int, limit: int) -> None:
    data = picture(2, 1700, 1400)
    asset = await local.put(data)
    wanted = data[offset : offset + limit] if limit else data[offset:]
    assert await local.read(asset.asset_id, offset=offset, limit=limit) == wanted


async def test_a_put_to_an_existing_id_keeps_the_first_bytes(storage: Running, tmp_path: Path) -> None:
    first, second = picture(1), picture(2)
    asset = await storage.put(first, "ast_one")
    again = await storage.put(second, "ast_one")
    assert again == asset
    assert again.sha256 == sha256(first)
    assert await storage.read("ast_one") == first
    assert len(object_files(tmp_path / "objects")) == 1


async def test_an_id_of_another_tenant_cannot_be_put(storage: Running) -> None:
    await storage.put(picture(1), "ast_one")
    header = pb.PutAssetHeader(asset_id="ast_one", kind=asset_pb2.ASSET_KIND_OUTPUT)
    error = await refused(storage.stub.PutAsset(put_stream(picture(2), header), metadata=internal("other")))
    assert (error.code, error.reason) == (Code.FAILED_PRECONDITION, "WRONG_STATE")


async def test_rows_share_bytes_within_a_tenant_only(storage: Running, tmp_path: Path) -> None:
    data = picture(1)
    one, two = await storage.put(data, "ast_one"), await storage.put(data, "ast_two")
    assert one.asset_id != two.asset_id
    assert len(object_files(tmp_path / "objects")) == 1
    await storage.put(data, "ast_three", tenant="other")
    assert len(object_files(tmp_path / "objects")) == 2


async def test_publishing_needs_an_allowing_verdict_about_these_bytes(storage: Running) -> None:
    asset = await storage.put(picture(1))
    verdicts = {
        "ver_other": Verdict("ver_other", True, sha256(b"something else")),
        "ver_no": Verdict("ver_no", False, asset.sha256),
    }
    storage.verdicts.known.update({("acme", name): verdict for name, verdict in verdicts.items()})
    for name in ("ver_none", *verdicts):
        request = pb.PublishAssetRequest(asset_id=asset.asset_id, verdict_id=name)
        error = await refused(storage.stub.PublishAsset(request, metadata=internal()))
        assert (error.code, error.reason) == (Code.FAILED_PRECONDITION, "VERDICT_NOT_FOUND"), name
    assert await state(storage, asset.asset_id) == QUARANTINED
    published = await storage.publish(asset)
    assert published.state == PUBLISHED
    assert published.HasField("publish_time")
    assert await events(storage) == [("AssetPublished", asset.asset_id)]


async def test_moderations_seal_lets_an_asset_out_while_moderation_is_away(storage: Running) -> None:
    asset = await storage.put(picture(1))
    storage.verdicts.failure = Unavailable("moderation does not answer")
    seal = Sealer.parse(VERDICT_KEY).seal(Let("acme", asset.asset_id, "ver_1", asset.sha256))
    request = pb.PublishAssetRequest(asset_id=asset.asset_id, verdict_id="ver_1", verdict_seal=seal)
    published = (await storage.stub.PublishAsset(request, metadata=internal())).asset
    assert (published.state, published.verdict_id) == (PUBLISHED, "ver_1")


@pytest.mark.parametrize(
    "forged",
    [
        {"asset_id": "ast_other"},
        {"verdict_id": "ver_2"},
        {"tenant": "other"},
        {"sha256": sha256(b"other")},
        {"key": "44" * 32},
        {"age": 60},
    ],
    ids=str,
)
async def test_a_seal_about_anything_else_counts_for_nothing(storage: Running, forged: dict[str, Any]) -> None:
    asset = await storage.put(picture(1))
    said = {"tenant": "acme", "asset_id": asset.asset_id, "verdict_id": "ver_1", "sha256": asset.sha256}
    let = Let(**{name: forged.get(name, value) for name, value in said.items()})
    key = bytes.fromhex(forged.get("key", VERDICT_KEY))
    seal = Sealer(key, lambda: time.time() - forged.get("age", 0)).seal(let)
    request = pb.PublishAssetRequest(asset_id=asset.asset_id, verdict_id="ver_1", verdict_seal=seal)
    error = await refused(storage.stub.PublishAsset(request, metadata=internal()))
    assert (error.code, error.reason) == (Code.FAILED_PRECONDITION, "VERDICT_NOT_FOUND")
    assert await state(storage, asset.asset_id) == QUARANTINED


async def test_a_seal_does_not_let_out_what_was_taken_down_or_refused_since(storage: Running) -> None:
    sealer = Sealer.parse(VERDICT_KEY)
    for number, reason in ((1, "CONTENT_BLOCKED"), (2, "WRONG_STATE")):
        asset = await storage.put(picture(number))
        seal = sealer.seal(Let("acme", asset.asset_id, "ver_1", asset.sha256))
        if reason == "CONTENT_BLOCKED":
            take_down = pb.TakeDownContentRequest(sha256=asset.sha256, reason="reported")
            await storage.stub.TakeDownContent(take_down, metadata=internal(""))
        else:
            block = pb.BlockAssetRequest(asset_id=asset.asset_id, verdict_id="ver_no")
            await storage.stub.BlockAsset(block, metadata=internal())
        request = pb.PublishAssetRequest(asset_id=asset.asset_id, verdict_id="ver_1", verdict_seal=seal)
        assert (await refused(storage.stub.PublishAsset(request, metadata=internal()))).reason == reason


async def test_a_small_image_may_come_within_its_header(storage: Running) -> None:
    data = picture(3)
    header = pb.PutAssetHeader(asset_id="ast_whole", kind=asset_pb2.ASSET_KIND_OUTPUT)
    header.whole.MergeFrom(image_pb2.Chunk(data=data, last=True, sha256=sha256(data)))
    asset = (await storage.stub.PutAsset(iter([pb.PutAssetRequest(header=header)]), metadata=internal())).asset
    assert (asset.sha256, await storage.read("ast_whole")) == (sha256(data), data)
    header.whole.sha256 = sha256(b"other")
    more = pb.PutAssetRequest(chunk=image_pb2.Chunk(offset=len(data), data=b"x", last=True, sha256=sha256(data)))
    for messages in ([pb.PutAssetRequest(header=header)], [pb.PutAssetRequest(header=header), more]):
        error = await refused(storage.stub.PutAsset(iter(messages), metadata=internal()))
        assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, "CHECKSUM_MISMATCH")


async def test_nothing_is_published_while_moderation_does_not_answer(storage: Running) -> None:
    asset = await storage.put(picture(1))
    storage.verdicts.failure = Unavailable("moderation does not answer")
    request = pb.PublishAssetRequest(asset_id=asset.asset_id, verdict_id="ver_1")
    error = await refused(storage.stub.PublishAsset(request, metadata=internal()))
    assert (error.code, error.reason) == (Code.UNAVAILABLE, "PEER_UNAVAILABLE")
    assert await state(storage, asset.asset_id) == QUARANTINED


async def test_publishing_again_is_fine_with_the_same_verdict_only(storage: Running) -> None:
    asset = await storage.published(picture(1))
    assert await storage.publish(asset) == asset
    other = storage.verdicts.allow(asset, "ver_other")
    request = pb.PublishAssetRequest(asset_id=asset.asset_id, verdict_id=other)
    error = await refused(storage.stub.PublishAsset(request, metadata=internal()))
    assert (error.code, error.reason) == (Code.FAILED_PRECONDITION, "WRONG_STATE")
    assert await events(storage) == [("AssetPublished", asset.asset_id)]


async def test_a_lease_that_was_lost_cannot_decide(storage: Running) -> None:
    asset = await storage.put(picture(1), "ast_one", epoch=1)
    await storage.put(picture(1), "ast_one", epoch=2)
    verdict = storage.verdicts.allow(asset)
    late = pb.PublishAssetRequest(asset_id="ast_one", verdict_id=verdict, epoch=1)
    error = await refused(storage.stub.PublishAsset(late, metadata=internal()))
    assert (error.code, error.reason) == (Code.ABORTED, "STALE_EPOCH")
    late_block = pb.BlockAssetRequest(asset_id="ast_one", verdict_id=verdict, epoch=1)
    error = await refused(storage.stub.BlockAsset(late_block, metadata=internal()))
    assert error.reason == "STALE_EPOCH"
    assert (await storage.publish(asset, epoch=2)).state == PUBLISHED


async def test_a_blocked_asset_stays_blocked(storage: Running) -> None:
    asset = await storage.put(picture(1))
    request = pb.BlockAssetRequest(asset_id=asset.asset_id, verdict_id="ver_no")
    blocked = (await storage.stub.BlockAsset(request, metadata=internal())).asset
    assert (blocked.state, blocked.verdict_id) == (BLOCKED, "ver_no")
    assert (await storage.stub.BlockAsset(request, metadata=internal())).asset == blocked
    verdict = storage.verdicts.allow(asset)
    publish = pb.PublishAssetRequest(asset_id=asset.asset_id, verdict_id=verdict)
    assert (await refused(storage.stub.PublishAsset(publish, metadata=internal()))).reason == "WRONG_STATE"
    assert await events(storage) == []


async def test_callers_read_and_sign_only_what_is_published(storage: Running) -> None:
    data = picture(1)
    asset = await storage.put(data)
    read = pb.ReadAssetRequest(asset_id=asset.asset_id)
    sign = pb.SignUrlsRequest(specs=[pb.UrlSpec(asset_id=asset.asset_id)])
    for call in (storage.stub.ReadAsset(read, metadata=key("acme")), storage.stub.SignUrls(sign, metadata=key("acme"))):
        error = await refused(call)
        assert (error.code, error.reason) == (Code.FAILED_PRECONDITION, "NOT_PUBLISHED")
    assert (await refused(storage.stub.SignUrls(sign, metadata=internal()))).reason == "NOT_PUBLISHED"
    assert await storage.read(asset.asset_id, key("reviewer")) == data
    await storage.publish(asset)
    assert await storage.read(asset.asset_id, key("acme")) == data
    assert (await storage.stub.SignUrls(sign, metadata=key("acme"))).results[0].url.url.startswith(storage.base)


async def test_another_tenants_assets_do_not_exist(storage: Running) -> None:
    asset = await storage.published(picture(1))
    stub, mine = storage.stub, asset.asset_id
    calls = [
        stub.GetAsset(pb.GetAssetRequest(asset_id=mine), metadata=key("other")),
        stub.ReadAsset(pb.ReadAssetRequest(asset_id=mine), metadata=key("other")),
        stub.SignUrls(pb.SignUrlsRequest(specs=[pb.UrlSpec(asset_id=mine)]), metadata=key("other")),
        stub.DeleteAsset(pb.DeleteAssetRequest(asset_id=mine), metadata=key("other")),
        stub.GetAsset(pb.GetAssetRequest(asset_id="ast_never"), metadata=key("acme")),
        stub.PublishAsset(pb.PublishAssetRequest(asset_id=mine, verdict_id="v"), metadata=internal("other")),
    ]
    for call in calls:
        error = await refused(call)
        assert (error.code, error.reason) == (Code.NOT_FOUND, "ASSET_NOT_FOUND")
    listed = await stub.ListAssets(pb.ListAssetsRequest(), metadata=key("other"))
    assert list(listed.assets) == []


async def test_a_takedown_withdraws_every_row_with_the_hash_and_blocks_it(storage: Running) -> None:
    data = picture(1)
    one, two = await storage.published(data), await storage.published(data)
    theirs, waiting = await storage.published(data, tenant="other"), await storage.put(data)
    unrelated = await storage.published(picture(2))
    request = pb.TakeDownContentRequest(sha256=one.sha256, reason="report 7")
    taken = await storage.stub.TakeDownContent(request, metadata=internal(""))
    assert set(taken.asset_ids) == {one.asset_id, two.asset_id, theirs.asset_id}
    assert [await state(storage, a.asset_id) for a in (one, two, theirs, waiting, unrelated)] == [
        TAKEN_DOWN,
        TAKEN_DOWN,
        TAKEN_DOWN,
        QUARANTINED,
        PUBLISHED,
    ]
    verdict = storage.verdicts.allow(waiting)
    publish = pb.PublishAssetRequest(asset_id=waiting.asset_id, verdict_id=verdict)
    error = await refused(storage.stub.PublishAsset(publish, metadata=internal()))
    assert (error.code, error.reason) == (Code.FAILED_PRECONDITION, "CONTENT_BLOCKED")
    assert list((await storage.stub.TakeDownContent(request, metadata=internal(""))).asset_ids) == []
    down = [subject for kind, subject in await events(storage) if kind == "AssetTakenDown"]
    assert set(down) == set(taken.asset_ids)
    assert len(down) == 3


async def test_a_restore_lets_out_what_was_taken_down(storage: Running) -> None:
    data = picture(1)
    asset, waiting = await storage.published(data), await storage.put(data)
    take = pb.TakeDownContentRequest(sha256=asset.sha256)
    await storage.stub.TakeDownContent(take, metadata=internal(""))
    restore = pb.RestoreContentRequest(sha256=asset.sha256, verdict_id="ver_appeal")
    restored = await storage.stub.RestoreContent(restore, metadata=internal(""))
    assert list(restored.asset_ids) == [asset.asset_id]
    assert await state(storage, asset.asset_id) == PUBLISHED
    assert (await storage.publish(waiting)).state == PUBLISHED  # the hash is not blocked any more
    kinds = [kind for kind, _ in await events(storage)]
    assert kinds == ["AssetPublished", "AssetTakenDown", "AssetPublished", "AssetPublished"]


async def test_a_won_appeal_does_not_undo_a_takedown(storage: Running) -> None:
    """The appeal was decided just before the takedown, and storage hears of it just after."""
    asset = await storage.published(picture(1))
    await storage.stub.TakeDownContent(pb.TakeDownContentRequest(sha256=asset.sha256), metadata=internal(""))
    restore = pb.RestoreContentRequest(sha256=asset.sha256, asset_id=asset.asset_id, verdict_id="ver_appeal")
    error = await refused(storage.stub.RestoreContent(restore, metadata=internal("")))
    assert (error.code, error.reason) == (Code.FAILED_PRECONDITION, "CONTENT_BLOCKED")
    assert await state(storage, asset.asset_id) == TAKEN_DOWN


@pytest.mark.parametrize("first", ["one", "all"])
async def test_a_restore_leaves_what_was_withdrawn_one_by_one(storage: Running, first: str) -> None:
    data = picture(1)
    alone, together = await storage.published(data), await storage.published(data)

    async def one() -> None:
        await storage.stub.QuarantineAsset(pb.QuarantineAssetRequest(asset_id=alone.asset_id), metadata=key("operator"))

    async def all_of_it() -> None:
        await storage.stub.TakeDownContent(pb.TakeDownContentRequest(sha256=alone.sha256), metadata=internal(""))

    for withdraw in (one, all_of_it) if first == "one" else (all_of_it, one):
        await withdraw()
    restore = pb.RestoreContentRequest(sha256=alone.sha256)
    assert list((await storage.stub.RestoreContent(restore, metadata=internal(""))).asset_ids) == [together.asset_id]
    assert await state(storage, alone.asset_id) == TAKEN_DOWN
    restore.asset_id = alone.asset_id
    assert list((await storage.stub.RestoreContent(restore, metadata=internal(""))).asset_ids) == [alone.asset_id]


async def test_an_address_tells_its_asset_also_after_it_expired(storage: Running) -> None:
    asset = await storage.published(picture(1))
    ring = KeyRing.parse(SIGNING_KEYS)
    expired = sign(ring, f"/a/{asset.asset_id}", "w=20&f=webp", 1_700_000_000)

    async def resolved(url: str, tenant: str = "acme") -> str:
        request = pb.ResolveUrlRequest(url=url)
        return (await storage.stub.ResolveUrl(request, metadata=internal(tenant))).asset.asset_id

    for url in (expired, storage.base + expired, f"https://pictures.example{expired}"):
        assert await resolved(url) == asset.asset_id
    changed = (expired.replace("w=20", "w=21"), expired[:-2], f"/a/{asset.asset_id}", "https://x", "nonsense")
    for url, tenant in [(expired, "other"), *((one, "acme") for one in changed)]:
        error = await refused(resolved(url, tenant))
        assert (error.code, error.reason) == (Code.NOT_FOUND, "ASSET_NOT_FOUND")


async def test_reviewers_see_the_assets_of_every_tenant(storage: Running) -> None:
    data = picture(1)
    theirs = await storage.put(data, tenant="other")
    assert await storage.read(theirs.asset_id, key("reviewer")) == data
    get = pb.GetAssetRequest(asset_id=theirs.asset_id)
    assert (await storage.stub.GetAsset(get, metadata=key("reviewer"))).asset.tenant == "other"
    assert (await refused(storage.stub.GetAsset(get, metadata=key("operator")))).reason == "ASSET_NOT_FOUND"


async def test_a_won_appeal_lets_out_one_blocked_asset(storage: Running) -> None:
    data = picture(1)
    mine, other = await storage.put(data), await storage.put(data)
    for asset in (mine, other):
        request = pb.BlockAssetRequest(asset_id=asset.asset_id, verdict_id="ver_no")
        await storage.stub.BlockAsset(request, metadata=internal())
    everything = pb.RestoreContentRequest(sha256=mine.sha256)
    assert list((await storage.stub.RestoreContent(everything, metadata=internal(""))).asset_ids) == []
    appeal = pb.RestoreContentRequest(sha256=mine.sha256, asset_id=mine.asset_id, verdict_id="ver_appeal")
    assert list((await storage.stub.RestoreContent(appeal, metadata=internal(""))).asset_ids) == [mine.asset_id]
    assert await state(storage, mine.asset_id) == PUBLISHED
    assert await state(storage, other.asset_id) == BLOCKED


async def test_a_withdrawn_asset_cannot_be_published_by_a_late_worker(storage: Running) -> None:
    asset = await storage.published(picture(1))
    request = pb.QuarantineAssetRequest(asset_id=asset.asset_id, reason="looks odd")
    withdrawn = (await storage.stub.QuarantineAsset(request, metadata=key("operator"))).asset
    assert withdrawn.state == TAKEN_DOWN
    publish = pb.PublishAssetRequest(asset_id=asset.asset_id, verdict_id=asset.verdict_id)
    assert (await refused(storage.stub.PublishAsset(publish, metadata=internal()))).reason == "WRONG_STATE"
    assert (await storage.put(picture(1))).state == QUARANTINED  # the hash itself is not blocked
    kind, subject = (await events(storage))[-1]
    assert (kind, subject) == ("AssetTakenDown", asset.asset_id)


async def test_deleting_removes_bytes_when_the_last_row_of_the_tenant_goes(storage: Running, tmp_path: Path) -> None:
    data = picture(1)
    one, two = await storage.published(data), await storage.put(data)
    theirs = await storage.put(data, tenant="other")
    await storage.read(one.asset_id, rendition=asset_pb2.RenditionSpec(width=10, format="webp"))
    assert len(object_files(tmp_path / "objects")) == 3
    first = await storage.stub.DeleteAsset(pb.DeleteAssetRequest(asset_id=one.asset_id), metadata=key("acme"))
    assert first.asset.state == PURGED
    await storage.storage.sweeper.sweep()
    assert len(object_files(tmp_path / "objects")) == 3
    assert await storage.read(two.asset_id) == data
    again = await storage.stub.DeleteAsset(pb.DeleteAssetRequest(asset_id=one.asset_id), metadata=key("acme"))
    assert again.asset == first.asset
    await storage.stub.DeleteAsset(pb.DeleteAssetRequest(asset_id=two.asset_id), metadata=key("acme"))
    await storage.storage.sweeper.sweep()
    left = object_files(tmp_path / "objects")
    assert [name.split("/")[0] for name in left] == ["other"]
    assert await storage.read(theirs.asset_id, internal("other")) == data
    error = await refused(storage.stub.ReadAsset(pb.ReadAssetRequest(asset_id=two.asset_id), metadata=internal()))
    assert error.reason == "NOT_PUBLISHED"


async def test_content_can_be_stored_again_after_it_was_deleted(storage: Running) -> None:
    data = picture(1)
    asset = await storage.put(data)
    await storage.stub.DeleteAsset(pb.DeleteAssetRequest(asset_id=asset.asset_id), metadata=internal())
    fresh = await storage.put(data)
    await storage.storage.sweeper.sweep()
    assert await storage.read(fresh.asset_id) == data


async def test_a_hold_forbids_deletion(storage: Running) -> None:
    asset = await storage.put(picture(1))
    held = await storage.stub.SetHold(pb.SetHoldRequest(asset_id=asset.asset_id, hold=True), metadata=internal())
    assert held.asset.hold
    delete = pb.DeleteAssetRequest(asset_id=asset.asset_id)
    error = await refused(storage.stub.DeleteAsset(delete, metadata=internal()))
    assert (error.code, error.reason) == (Code.FAILED_PRECONDITION, "WRONG_STATE")
    await storage.stub.SetHold(pb.SetHoldRequest(asset_id=asset.asset_id, hold=False), metadata=internal())
    assert (await storage.stub.DeleteAsset(delete, metadata=internal())).asset.state == PURGED
    late = pb.SetHoldRequest(asset_id=asset.asset_id, hold=True)
    assert (await refused(storage.stub.SetHold(late, metadata=internal()))).reason == "WRONG_STATE"


async def test_a_copy_is_a_new_row_over_the_same_bytes(storage: Running, tmp_path: Path) -> None:
    data = picture(1)
    source = await storage.published(data)
    request = pb.CopyAssetRequest(
        source_asset_id=source.asset_id, asset_id="ast_copy", provenance=asset_pb2.Provenance(job_id="job_2", index=1)
    )
    answer = await storage.stub.CopyAsset(request, metadata=internal())
    copy = answer.asset
    assert (copy.state, copy.sha256, answer.source_verdict_id) == (QUARANTINED, source.sha256, source.verdict_id)
    assert (copy.provenance.job_id, copy.provenance.index) == ("job_2", 1)
    assert (copy.provenance.seed, copy.provenance.source_asset_id) == (7, source.asset_id)
    assert (await storage.stub.CopyAsset(request, metadata=internal())).asset == copy
    assert len(object_files(tmp_path / "objects")) == 1
    publish = pb.PublishAssetRequest(asset_id="ast_copy", verdict_id=answer.source_verdict_id)
    assert (await storage.stub.PublishAsset(publish, metadata=internal())).asset.state == PUBLISHED


async def test_only_published_unblocked_content_of_the_tenant_is_copied(storage: Running) -> None:
    asset = await storage.put(picture(1))
    request = pb.CopyAssetRequest(source_asset_id=asset.asset_id)
    assert (await refused(storage.stub.CopyAsset(request, metadata=internal()))).reason == "NOT_PUBLISHED"
    await storage.publish(asset)
    assert (await refused(storage.stub.CopyAsset(request, metadata=internal("other")))).reason == "ASSET_NOT_FOUND"
    await storage.stub.TakeDownContent(pb.TakeDownContentRequest(sha256=asset.sha256), metadata=internal(""))
    assert (await refused(storage.stub.CopyAsset(request, metadata=internal()))).reason == "NOT_PUBLISHED"


async def test_lists_page_newest_first_and_stay_stable_under_inserts(storage: Running) -> None:
    made = [(await storage.put(picture(n), f"ast_{n}")).asset_id for n in range(5)]
    first = await storage.stub.ListAssets(pb.ListAssetsRequest(page_size=2), metadata=key("acme"))
    await storage.put(picture(9), "ast_late")
    rest, token = [], first.next_page_token
    while token:
        request = pb.ListAssetsRequest(page_size=2, page_token=token)
        page = await storage.stub.ListAssets(request, metadata=key("acme"))
        rest += [a.asset_id for a in page.assets]
        token = page.next_page_token
    assert sorted([*(a.asset_id for a in first.assets), *rest]) == made
    times = [a.create_time.ToMicroseconds() for a in first.assets]
    assert times == sorted(times, reverse=True)


async def test_lists_filter_and_bind_their_tokens_to_the_filter(storage: Running) -> None:
    one, two = await storage.published(picture(1)), await storage.put(picture(2))
    third = await storage.put(picture(3))
    await storage.stub.DeleteAsset(pb.DeleteAssetRequest(asset_id=third.asset_id), metadata=internal())

    async def listed(**fields: object) -> set[str]:
        answer = await storage.stub.ListAssets(pb.ListAssetsRequest(**fields), metadata=key("acme"))
        return {a.asset_id for a in answer.assets}

    assert await listed() == {one.asset_id, two.asset_id}
    assert await listed(state=PUBLISHED) == {one.asset_id}
    assert await listed(state=PURGED) == {third.asset_id}
    assert await listed(kind=asset_pb2.ASSET_KIND_INPUT) == set()
    assert await listed(job_id="job_1") == {one.asset_id, two.asset_id}
    assert await listed(job_id="job_9") == set()
    assert await listed(created_before=one.create_time) == set()
    assert await listed(created_after=Timestamp(seconds=1)) == {one.asset_id, two.asset_id}
    page = await storage.stub.ListAssets(pb.ListAssetsRequest(page_size=1), metadata=key("acme"))
    wrong = pb.ListAssetsRequest(page_size=1, page_token=page.next_page_token, state=PUBLISHED)
    error = await refused(storage.stub.ListAssets(wrong, metadata=key("acme")))
    assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID")


async def test_signing_may_answer_each_spec_alone(storage: Running) -> None:
    good, hidden = await storage.published(picture(1)), await storage.put(picture(2))
    specs = [pb.UrlSpec(asset_id=name) for name in (good.asset_id, hidden.asset_id, "ast_never")]
    request = pb.SignUrlsRequest(specs=specs, allow_partial=True)
    results = (await storage.stub.SignUrls(request, metadata=internal())).results
    assert [r.WhichOneof("result") for r in results] == ["url", "error", "error"]
    assert [r.error.code for r in results[1:]] == [int(Code.FAILED_PRECONDITION), int(Code.NOT_FOUND)]


async def test_the_events_carry_what_the_contract_says(storage: Running) -> None:
    asset = await storage.published(picture(1))
    await storage.stub.TakeDownContent(
        pb.TakeDownContentRequest(sha256=asset.sha256, reason="report 7"), metadata=internal("")
    )
    rows = await storage.storage.store._database.read(lambda c: c.execute(OUTBOX.select().order_by(OUTBOX.c.seq)).all())
    published = events_pb2.AssetPublished.FromString(rows[0].data)
    assert (published.tenant, published.asset_id, published.job_id, published.sha256, published.verdict_id) == (
        "acme",
        asset.asset_id,
        "job_1",
        asset.sha256,
        asset.verdict_id,
    )
    assert published.publish_time == asset.publish_time
    taken = events_pb2.AssetTakenDown.FromString(rows[1].data)
    assert (taken.asset_id, taken.sha256, taken.reason) == (asset.asset_id, asset.sha256, "report 7")
    assert rows[0].id != rows[1].id
    assert rows[1].version > rows[0].version
