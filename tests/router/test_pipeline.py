"""A job's way: what is stored, judged, let out, paid, and what happens when a part of it fails."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from imagemesh.router.v1 import job_pb2

from mesh.errors import PermissionDenied, Unavailable
from services.router.delivery import CancelWonError
from services.router.jobs import ImageState
from services.router.leases import Ended, LeaseLost, Parking
from services.router.peers.moderation import Decision
from services.router.peers.storage import Holder, StoredAsset
from services.router.pipeline import Moment, Released
from services.router.planning import Planner
from services.router.providers.base import ProviderCall, ProviderResult
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.tables import attempts, jobs, ledger_entries
from tests.router.rig import Rig
from tests.router.stores import Stores

PUBLISHED = job_pb2.IMAGE_STATE_PUBLISHED
BLOCKED = job_pb2.IMAGE_STATE_BLOCKED
UNKNOWN = ErrorKind.UNKNOWN_OUTCOME


@pytest.fixture
def rig(stores: Stores, tmp_path: Path) -> Rig:
    return Rig(stores, tmp_path)


@pytest.fixture
def one_a_call(stores: Stores, tmp_path: Path) -> Rig:
    """Providers that draw one picture a call."""
    return Rig(stores, tmp_path, count_per_call=1)


async def states(rig: Rig) -> list[tuple[str, str]]:
    return [(row.provider, row.state) for row in await rig.stores.rows(attempts)]


async def debits(rig: Rig) -> list[int]:
    return [row.amount_micros for row in await rig.stores.rows(ledger_entries) if row.kind == "DEBIT"]


async def test_a_prompt_becomes_a_published_picture(rig: Rig) -> None:
    job = await rig.draw()
    (image,) = job.images
    assert image.state == PUBLISHED
    assert image.verdict.sha256 == image.sha256
    assert rig.storage.published() == {image.asset_id}
    (record,) = await rig.stores.rows(jobs)
    assert (record.state, record.cost_micros) == ("SUCCEEDED", 20_000)
    assert await states(rig) == [("one", "SUCCEEDED")]
    assert await debits(rig) == [20_000]


async def test_pictures_get_consecutive_seeds(rig: Rig) -> None:
    job = await rig.draw(count=4, seed=2**32 - 2)
    assert [image.seed for image in job.images] == [2**32 - 2, 2**32 - 1, 0, 1]
    assert len(rig.one.calls) == 1


async def test_a_provider_is_told_of_a_user_and_not_who_it_is(rig: Rig) -> None:
    for user in ("ann@example.com", "ann@example.com", "bob@example.com", ""):
        await rig.draw(user=user)
    ann, again, bob, nobody = (call.user for call in rig.one.calls)
    assert (ann == again, ann == bob, nobody) == (True, False, "")
    assert (len(ann), "ann" in ann) == (64, False)


async def test_a_small_call_limit_makes_several_orders(one_a_call: Rig) -> None:
    job = await one_a_call.draw(count=3)
    assert [call.seed for call in one_a_call.one.calls] == [7, 8, 9]
    assert [image.seed for image in job.images] == [7, 8, 9]
    assert await debits(one_a_call) == [60_000]


async def test_only_missing_pictures_are_ordered_elsewhere(rig: Rig) -> None:
    rig.one.script = ["partial", ErrorKind.AUTHENTICATION]
    job = await rig.draw(count=3)
    assert [image.state for image in job.images] == [PUBLISHED] * 3
    assert [(call.seed, call.count) for call in rig.one.calls] == [(7, 3), (9, 1)]
    assert [(call.seed, call.count) for call in rig.two.calls] == [(9, 1)]
    assert await debits(rig) == [2 * 20_000 + 30_000]


async def test_a_refusal_is_never_shopped(rig: Rig) -> None:
    rig.one.script = [ErrorKind.REFUSED]
    job = await rig.draw()
    assert [image.state for image in job.images] == [BLOCKED]
    assert rig.two.calls == []
    (record,) = await rig.stores.rows(jobs)
    assert (record.state, record.blocked_by, record.error_reason) == ("BLOCKED", "PROVIDER", "PROVIDER_REFUSED")
    assert await debits(rig) == []


async def test_a_refusal_is_not_shopped_after_parking_either(rig: Rig) -> None:
    rig.one.script = ["partial", ErrorKind.REFUSED]
    rig.moderation.image_decision = Decision.REVIEW
    job_id = await rig.submit(count=2)
    assert isinstance(await rig.walk(await rig.claim()), Parking)
    rig.moderation.image_decision = Decision.ALLOW
    await rig.stores.queue.poke(job_id)
    assert isinstance(await rig.walk(await rig.claim()), Ended)
    assert rig.two.calls == []
    assert [image.state for image in (await rig.result(job_id)).images] == [PUBLISHED, BLOCKED]


@pytest.mark.parametrize("point", ["", "after:store"])
async def test_what_a_filter_kept_back_of_a_delivery_is_ordered_nowhere(rig: Rig, point: str) -> None:
    rig.one.script = ["kept_back"]
    job_id = await rig.submit(count=6, seed=7)  # four a call: two more would be owed
    if point:
        rig.pipeline._on_step = killer(point)  # type: ignore[assignment]
        with pytest.raises(Killed):
            await rig.walk(await rig.claim(lease_s=-1))
        rig.pipeline._on_step = quiet
    assert isinstance(await rig.walk(await rig.claim("w2")), Ended)
    assert (len(rig.one.calls), rig.two.calls) == (1, [])
    images = (await rig.result(job_id)).images
    assert [image.state for image in images] == [BLOCKED, PUBLISHED, PUBLISHED, PUBLISHED, BLOCKED, BLOCKED]
    assert [image.seed for image in images[1:4]] == [8, 9, 10]
    assert await debits(rig) == [3 * 20_000]


async def test_a_refused_prompt_costs_and_draws_nothing(rig: Rig) -> None:
    rig.moderation.texts = Decision.BLOCK
    await rig.draw()
    (record,) = await rig.stores.rows(jobs)
    assert (record.state, record.blocked_by) == ("BLOCKED", "PROMPT")
    assert await rig.stores.rows(attempts) == []


async def test_one_refused_picture_leaves_the_others(rig: Rig) -> None:
    rig.moderation.images = {1: Decision.BLOCK}
    job = await rig.draw(count=3)
    assert [image.state for image in job.images] == [PUBLISHED, BLOCKED, PUBLISHED]
    assert {row.state for row in rig.storage.rows.values()} == {"PUBLISHED", "BLOCKED"}
    assert await debits(rig) == [40_000]


async def test_all_pictures_refused_blocks_the_job(rig: Rig) -> None:
    rig.moderation.image_decision = Decision.BLOCK
    await rig.draw(count=2)
    (record,) = await rig.stores.rows(jobs)
    assert (record.state, record.blocked_by, record.cost_micros) == ("BLOCKED", "IMAGE", 0)
    assert rig.storage.published() == set()


async def test_a_flagged_picture_is_let_out(rig: Rig) -> None:
    rig.moderation.image_decision = Decision.FLAG
    job = await rig.draw()
    assert job.images[0].state == PUBLISHED


async def test_bytes_that_are_no_picture_are_a_broken_answer(rig: Rig) -> None:
    rig.one.script = ["broken"]
    job = await rig.draw()
    assert job.images[0].state == PUBLISHED
    assert await states(rig) == [("one", "FAILED"), ("two", "SUCCEEDED")]
    rows = await rig.stores.rows(attempts)
    assert (rows[0].error_reason, rows[0].cost_micros) == ("PROVIDER_BROKEN_ANSWER", 20_000)
    assert await debits(rig) == [30_000]


@pytest.mark.parametrize("point", ["", "after:store"])
async def test_nobody_pays_for_the_broken_pictures_of_a_delivery(rig: Rig, point: str) -> None:
    rig.one.script = ["spotty", ErrorKind.AUTHENTICATION]
    job_id = await rig.submit(count=3)
    if point:
        rig.pipeline._on_step = killer(point)  # type: ignore[assignment]
        with pytest.raises(Killed):
            await rig.walk(await rig.claim(lease_s=-1))
        rig.pipeline._on_step = quiet
    assert isinstance(await rig.walk(await rig.claim("w2")), Ended)
    assert [image.state for image in (await rig.result(job_id)).images] == [PUBLISHED] * 3
    assert [(call.seed, call.count) for call in rig.two.calls] == [(8, 2)]
    assert await debits(rig) == [20_000 + 2 * 30_000]


async def test_an_unknown_outcome_goes_to_the_next_and_is_held(rig: Rig) -> None:
    rig.one.script = [UNKNOWN]
    await rig.draw()
    assert await states(rig) == [("one", "UNKNOWN"), ("two", "SUCCEEDED")]
    assert len(rig.one.calls) == 1


async def test_an_unknown_outcome_ends_the_job_where_asked(rig: Rig) -> None:
    rig.one.script = [UNKNOWN]
    routing = job_pb2.Routing(on_unknown=job_pb2.ON_UNKNOWN_FAIL)
    await rig.draw(options=job_pb2.JobOptions(routing=routing))
    (record,) = await rig.stores.rows(jobs)
    assert (record.state, record.error_reason) == ("FAILED", "ATTEMPT_OUTCOME_UNKNOWN")
    assert rig.two.calls == []


async def test_unknown_everywhere_fails_with_that_reason(rig: Rig) -> None:
    rig.one.script, rig.two.script = [UNKNOWN], [UNKNOWN]
    await rig.draw()
    (record,) = await rig.stores.rows(jobs)
    assert (record.state, record.error_reason) == ("FAILED", "ATTEMPT_OUTCOME_UNKNOWN")
    assert (len(rig.one.calls), len(rig.two.calls)) == (1, 1)


async def test_moderation_down_parks_before_anything_is_spent(rig: Rig) -> None:
    rig.moderation.down = True
    job_id = await rig.submit()
    outcome = await rig.walk(await rig.claim())
    assert isinstance(outcome, Parking)
    assert outcome.waiting_for == "MODERATION"
    assert 1.0 <= outcome.wake_in_s <= 60.0
    assert (await rig.record(job_id)).waiting_for == "MODERATION"
    assert rig.one.calls == []


async def test_moderation_down_after_drawing_loses_no_picture(rig: Rig) -> None:
    job_id = await rig.submit()

    async def go_down(step: str, moment: Moment) -> None:
        rig.moderation.down = rig.moderation.down or (step, moment) == ("judge_images", "before")

    rig.pipeline._on_step = go_down
    outcome = await rig.walk(await rig.claim())
    assert isinstance(outcome, Parking)
    await rig.stores.queue.poke(job_id)
    rig.pipeline._on_step = quiet
    rig.moderation.down = False
    assert isinstance(await rig.walk(await rig.claim()), Ended)
    assert len(rig.one.calls) == 1
    assert (await rig.result(job_id)).images[0].state == PUBLISHED


async def quiet(_step: str, _moment: Moment) -> None:
    pass


async def test_no_order_is_placed_while_storage_is_down(rig: Rig) -> None:
    rig.storage.down = True
    await rig.submit()
    outcome = await rig.walk(await rig.claim())
    assert isinstance(outcome, Parking)
    assert outcome.waiting_for == "STORAGE"
    assert rig.one.calls == []


async def test_the_deadline_ends_waiting_for_storage_too(rig: Rig) -> None:
    rig.storage.down = True
    job_id = await rig.submit(deadline_s=20)
    run = rig.runs.open(await rig.claim(), rig.grip)
    assert isinstance(await rig.pipeline.walk(run), Parking)
    rig.clock.now += 20
    assert isinstance(await rig.pipeline.walk(run), Ended)
    record = await rig.record(job_id)
    assert (record.state, record.error_reason) == ("FAILED", "DEADLINE_EXCEEDED")
    assert rig.one.calls == []


@pytest.mark.parametrize(("peer", "ends"), [("moderation", False), ("storage", True), ("", True)])
async def test_past_its_deadline_an_unspent_job_waits_for_moderation_only(rig: Rig, peer: str, ends: bool) -> None:
    async def trouble(*_: object) -> object:
        raise Unavailable("not now", metadata={"peer": peer})

    rig.moderation.judge_texts = trouble  # type: ignore[assignment, method-assign]
    job_id = await rig.submit(deadline_s=20)
    run = rig.runs.open(await rig.claim(), rig.grip)
    rig.clock.now += 20
    assert isinstance(await rig.pipeline.walk(run), Ended if ends else Parking)
    assert (await rig.record(job_id)).error_reason == ("DEADLINE_EXCEEDED" if ends else "")


async def test_no_order_is_placed_while_too_much_waits_for_storage(rig: Rig) -> None:
    rig.hoard.held = 2**40
    await rig.submit()
    assert isinstance(await rig.walk(await rig.claim()), Parking)
    assert rig.one.calls == []


async def test_a_paid_picture_waits_for_storage_in_hand(rig: Rig) -> None:
    rig.storage.outages = 5
    job = await rig.draw()
    assert job.images[0].state == PUBLISHED
    assert len(rig.one.calls) == 1
    assert rig.hoard.held == 0
    assert len(rig.clock.slept) == 5


async def test_a_review_parks_and_its_decision_goes_on(rig: Rig) -> None:
    rig.moderation.image_decision = Decision.REVIEW
    job_id = await rig.submit()
    outcome = await rig.walk(await rig.claim())
    assert isinstance(outcome, Parking)
    assert outcome.waiting_for == "REVIEW"
    assert rig.storage.published() == set()
    rig.moderation.image_decision = Decision.ALLOW
    await rig.stores.queue.poke(job_id)
    assert isinstance(await rig.walk(await rig.claim()), Ended)
    assert len(rig.one.calls) == 1
    assert (await rig.record(job_id)).waiting_for == ""


async def test_a_review_nobody_decides_is_refused_in_the_end(rig: Rig) -> None:
    rig.moderation.image_decision = Decision.REVIEW
    job_id = await rig.submit()
    run = rig.runs.open(await rig.claim(), rig.grip)
    run.grace_ends = rig.clock() - 1
    assert isinstance(await rig.pipeline.walk(run), Ended)
    record = await rig.record(job_id)
    assert (record.state, record.blocked_by) == ("BLOCKED", "IMAGE")
    assert (await rig.result(job_id)).images[0].error.message == "nobody decided on the picture in time"


async def test_a_dead_provider_is_waited_for_within_the_deadline(rig: Rig) -> None:
    rig.one.script = [ErrorKind.UNREACHABLE] * 2
    rig.two.script = [ErrorKind.UNREACHABLE] * 2
    job_id = await rig.submit()
    while not isinstance(outcome := await rig.walk(await rig.claim()), Ended):
        assert isinstance(outcome, Parking)
        assert outcome.waiting_for == "PROVIDER"
        await rig.stores.queue.poke(job_id)
    assert (await rig.record(job_id)).state == "SUCCEEDED"


async def test_the_deadline_ends_waiting(rig: Rig) -> None:
    rig.one.script = [ErrorKind.UNREACHABLE] * 200
    rig.two.script = [ErrorKind.UNREACHABLE] * 200
    job_id = await rig.submit(deadline_s=20)
    job = await rig.claim()
    run = rig.runs.open(job, rig.grip)
    while isinstance(outcome := await rig.pipeline.walk(run), Parking):
        rig.clock.now += outcome.wake_in_s
    record = await rig.record(job_id)
    assert (record.state, record.error_reason) == ("FAILED", "DEADLINE_EXCEEDED")


async def test_a_cancel_before_the_point_of_no_return_lets_nothing_out(rig: Rig) -> None:
    job_id = await rig.submit()

    async def cancel_late(step: str, moment: Moment) -> None:
        if (step, moment) == ("publish", "before"):
            await rig.stores.jobs.cancel("acme", job_id)

    rig.pipeline._on_step = cancel_late
    run = rig.runs.open(await rig.claim(), rig.grip)
    with pytest.raises(CancelWonError):
        await rig.pipeline.walk(run)
    await rig.pipeline.cancel(run)
    assert (await rig.record(job_id)).state == "CANCELED"
    assert rig.storage.published() == set()
    assert await debits(rig) == []


async def test_nothing_is_ordered_on_a_lease_about_to_end(rig: Rig) -> None:
    rig.grip.left = 0.9
    await rig.submit()
    with pytest.raises(LeaseLost):
        await rig.walk(await rig.claim())
    assert rig.one.calls == []


async def test_draining_hands_over_between_steps(rig: Rig) -> None:
    rig.grip.stop = True
    job_id = await rig.submit()
    assert isinstance(await rig.walk(await rig.claim()), Released)
    rig.grip.stop = False
    assert isinstance(await rig.walk(await rig.claim("w2")), Ended)
    assert (await rig.record(job_id)).state == "SUCCEEDED"


async def test_draining_places_no_more_orders(rig: Rig) -> None:
    async def stop(_call: ProviderCall) -> ProviderResult:
        rig.grip.stop = True
        raise ProviderError(ErrorKind.OVERLOADED, "busy")

    rig.one.script = [stop]
    await rig.submit()
    assert isinstance(await rig.walk(await rig.claim()), Released)
    assert (len(rig.one.calls), rig.two.calls) == (1, [])
    rig.grip.stop = False
    assert isinstance(await rig.walk(await rig.claim("w2")), Ended)


async def test_a_hidden_takedown_between_verdict_and_publish_blocks(rig: Rig) -> None:
    job_id = await rig.submit()

    async def take_down(step: str, moment: Moment) -> None:
        if (step, moment) == ("publish", "before"):
            rig.storage.blocked = {row.sha256 for row in rig.storage.rows.values()}

    rig.pipeline._on_step = take_down
    assert isinstance(await rig.walk(await rig.claim()), Ended)
    record = await rig.record(job_id)
    assert (record.state, record.cost_micros) == ("BLOCKED", 0)


async def test_the_cache_serves_a_repeat_for_nothing(rig: Rig) -> None:
    first = await rig.draw(seed_drawn=False)
    again = await rig.draw(seed_drawn=False)
    assert len(rig.one.calls) == 1
    assert again.images[0].sha256 == first.images[0].sha256
    assert again.images[0].asset_id != first.images[0].asset_id
    rows = await rig.stores.rows(jobs)
    assert sorted((row.cache_hit, row.cost_micros) for row in rows) == [(False, 20_000), (True, 0)]


async def test_a_takeover_after_the_point_of_no_return_still_says_cache_hit(rig: Rig) -> None:
    await rig.draw(seed_drawn=False)
    job_id = await rig.submit(seed_drawn=False)
    rig.pipeline._on_step = killer("after:publish")  # type: ignore[assignment]
    with pytest.raises(Killed):
        await rig.walk(await rig.claim(lease_s=-1))
    rig.pipeline._on_step = quiet
    assert isinstance(await rig.walk(await rig.claim("w2")), Ended)
    record = await rig.record(job_id)
    assert (record.state, record.cache_hit, record.cost_micros) == ("SUCCEEDED", True, 0)


@pytest.mark.parametrize("change", ["prompt", "policy", "withdrawn", "bypass", "drawn seed"])
async def test_the_cache_serves_nothing_else(rig: Rig, change: str) -> None:
    first = await rig.draw(seed_drawn=change == "drawn seed")
    fields: dict[str, object] = {"seed_drawn": change == "drawn seed"}
    if change == "prompt":
        fields["prompt"] = "a blue circle"
    if change == "policy":
        rig.moderation.policy_version = 2
    if change == "withdrawn":
        rig.storage.rows[first.images[0].asset_id].state = "TAKEN_DOWN"
    if change == "bypass":
        fields["options"] = job_pb2.JobOptions(cache=job_pb2.CACHE_POLICY_BYPASS)
    await rig.draw(**fields)
    assert len(rig.one.calls) == 2


class Killed(Exception):
    """Stands for SIGKILL: nothing more is written by this worker."""


def killer(point: str) -> Callable[[str, Moment], object]:
    async def hook(step: str, moment: Moment) -> None:
        if f"{moment}:{step}" == point:
            raise Killed

    return hook


POINTS = [
    f"{moment}:{step}"
    for step in ("judge_text", "look_in_cache", "plan", "attempt", "store", "judge_images", "publish", "end")
    for moment in ("before", "after")
    if (moment, step) != ("after", "end")
]
DELIVERED_NOT_STORED = {"after:attempt", "before:store"}


@pytest.mark.parametrize("point", POINTS)
async def test_a_killed_worker_s_job_is_finished_once_by_another(rig: Rig, point: str) -> None:
    job_id = await rig.submit(count=2)
    rig.pipeline._on_step = killer(point)  # type: ignore[assignment]
    with pytest.raises(Killed):
        await rig.walk(await rig.claim(lease_s=-1))
    rig.pipeline._on_step = quiet
    assert isinstance(await rig.walk(await rig.claim("w2")), Ended)
    record = await rig.record(job_id)
    assert record.state == "SUCCEEDED"
    shown = {image.asset_id for image in (await rig.result(job_id)).images}
    assert rig.storage.published() == shown
    assert len(await debits(rig)) == 1
    again = point in DELIVERED_NOT_STORED
    assert (len(rig.one.calls), len(rig.two.calls)) == (1, 1 if again else 0)


@pytest.mark.parametrize("point", ["after:attempt", "before:store"])
async def test_a_replay_safe_provider_draws_again(rig: Rig, point: str) -> None:
    rig.one._can = dataclasses.replace(rig.one._can, replay_safe=True)
    await rig.submit()
    rig.pipeline._on_step = killer(point)  # type: ignore[assignment]
    with pytest.raises(Killed):
        await rig.walk(await rig.claim(lease_s=-1))
    rig.pipeline._on_step = quiet
    assert isinstance(await rig.walk(await rig.claim("w2")), Ended)
    assert (len(rig.one.calls), len(rig.two.calls)) == (2, 0)
    assert [kind for kind, _ in await rig.stores.kinds() if kind == "HOLD"] == []


async def test_after_the_point_of_no_return_exactly_its_pictures_are_let_out(rig: Rig) -> None:
    job_id = await rig.submit(count=2)
    rig.storage.outages = 0

    async def kill_while_publishing(step: str, moment: Moment) -> None:
        if (step, moment) == ("publish", "before"):
            rig.storage.publish = dead  # type: ignore[assignment, method-assign]

    async def dead(*_: object) -> object:
        raise Killed

    whole = rig.storage.publish
    rig.pipeline._on_step = kill_while_publishing
    with pytest.raises(Killed):
        await rig.walk(await rig.claim(lease_s=-1))
    rig.storage.publish, rig.pipeline._on_step = whole, quiet  # type: ignore[method-assign]
    rig.moderation.down = True  # nobody is asked again
    assert isinstance(await rig.walk(await rig.claim("w2")), Ended)
    assert (await rig.record(job_id)).cost_micros == 40_000
    assert len(rig.storage.published()) == 2


async def test_no_error_fails_a_job_past_the_point_of_no_return(rig: Rig) -> None:
    job_id = await rig.submit(count=2)
    publish, refused = rig.storage.publish, [1]

    async def refusing(holder: Holder, asset_id: str, verdict_id: str) -> StoredAsset:
        if rig.storage.published() and refused:
            refused.pop()
            raise PermissionDenied("the mesh token is another one")
        return await publish(holder, asset_id, verdict_id)

    rig.storage.publish = refusing  # type: ignore[method-assign]
    assert isinstance(await rig.walk(await rig.claim()), Parking)
    await rig.stores.queue.poke(job_id)
    assert isinstance(await rig.walk(await rig.claim("w2")), Ended)
    record = await rig.record(job_id)
    assert (record.state, record.cost_micros) == ("SUCCEEDED", 40_000)


async def test_a_lost_lease_writes_nothing_more(rig: Rig) -> None:
    job_id = await rig.submit()
    slow = asyncio.Event()

    async def wait(call: ProviderCall) -> ProviderResult:
        await slow.wait()
        return rig.one._draw(call, "draw")

    rig.one.script = [wait]
    late = asyncio.create_task(rig.walk(await rig.claim(lease_s=-1)))
    await rig.one.until_asked()
    assert isinstance(await rig.walk(await rig.claim("w2")), Ended)
    slow.set()
    with pytest.raises(LeaseLost):
        await late
    assert rig.storage.published() == {i.asset_id for i in (await rig.result(job_id)).images}
    assert len(await debits(rig)) == 1


async def test_a_rate_limit_goes_to_the_next_at_once(rig: Rig) -> None:
    rig.one.script = [ProviderError(ErrorKind.RATE_LIMITED, "slow down", retry_after=30.0)]
    await rig.draw()
    assert await states(rig) == [("one", "FAILED"), ("two", "SUCCEEDED")]
    assert rig.clock.slept == []


async def test_the_time_that_a_provider_asked_for_is_kept_by_the_next_worker_too(rig: Rig) -> None:
    slower = ProviderError(ErrorKind.RATE_LIMITED, "slow down", retry_after=300.0)
    rig.one.script, rig.two.script = [slower], [slower]
    job_id = await rig.submit()
    assert isinstance(await rig.walk(await rig.claim()), Parking)
    await rig.stores.queue.poke(job_id)
    outcome = await rig.walk(await rig.claim("w2"))
    assert isinstance(outcome, Parking)
    assert outcome.wake_in_s == 60.0
    assert (len(rig.one.calls), len(rig.two.calls)) == (1, 1)


async def test_without_fallback_a_job_stays_with_its_provider(rig: Rig) -> None:
    speeds = {"one": 1.0, "two": 2.0}

    class Observed:
        def p50_s(self, provider: str, model: str) -> float | None:
            return speeds[provider]

    planner = Planner(rig.catalog, Observed())
    rig.pipeline._parts = dataclasses.replace(rig.pipeline._parts, planner=lambda: planner)
    rig.one.script = [ProviderError(ErrorKind.RATE_LIMITED, "slow down", retry_after=30.0)]
    routing = job_pb2.Routing(fallback=False, goal=job_pb2.GOAL_FASTEST)
    job_id = await rig.submit(options=job_pb2.JobOptions(routing=routing))
    assert isinstance(await rig.walk(await rig.claim()), Parking)
    speeds["two"] = 0.5
    earlier = attempts.update().values(end_time=attempts.c.end_time - 31_000_000)  # the time it asked for is over
    await rig.stores.database.write(lambda c: c.execute(earlier) and None)
    await rig.stores.queue.poke(job_id)
    assert isinstance(await rig.walk(await rig.claim("w2")), Ended)
    assert (len(rig.one.calls), rig.two.calls) == (2, [])


async def test_a_dearer_candidate_than_the_reservation_is_skipped(rig: Rig) -> None:
    rig.one.script = [ErrorKind.AUTHENTICATION]
    job_id = await rig.submit()
    claimed = await rig.claim()
    await rig.walk(dataclasses.replace(claimed, reserved_micros=20_000))
    record = await rig.record(job_id)
    assert (record.state, record.error_reason) == ("FAILED", "PROVIDER_AUTHENTICATION")
    assert rig.two.calls == []


def test_picture_states_are_those_of_the_contract() -> None:
    for state in ImageState:
        assert job_pb2.ImageState.Value(f"IMAGE_STATE_{state}")
