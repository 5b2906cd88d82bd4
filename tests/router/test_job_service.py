"""JobService over a real server: what callers are promised, and every bad input with its own code and reason."""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.type.money_pb2 import Money
from imagemesh.router.v1 import job_pb2
from imagemesh.router.v1 import job_service_pb2 as pb
from imagemesh.type.v1 import image_pb2

from services.router.leases import Ending, Parking
from services.router.tables import job_inputs, jobs
from tests.router.api import INTERNAL, RunningApi, bearer, create, refused, running_api


@pytest.fixture
async def api(database_url: str, tmp_path: Path) -> AsyncIterator[RunningApi]:
    async with running_api(database_url, tmp_path) as running:
        yield running


@pytest.fixture
async def lite(tmp_path: Path) -> AsyncIterator[RunningApi]:
    """The API on SQLite alone, for what does not depend on the database."""
    async with running_api(f"sqlite:///{tmp_path / 'truth.db'}", tmp_path) as running:
        yield running


def png(width: int, height: int, rows: bytes | None = None) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + b"\x40" * (3 * width) for _ in range(height)) if rows is None else rows)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


async def test_a_created_job_is_stored_quoted_and_waits(api: RunningApi) -> None:
    key = await api.key(cap_micros=1_000_000)
    job = (await api.jobs.CreateJob(create(spec_count=3), metadata=key)).job
    assert (job.state, job.version, job.seed_drawn) == (job_pb2.JOB_STATE_QUEUED, 1, True)
    assert (job.quoted_cost.nanos, job.cost.nanos) == (30_000_000, 0)
    assert [image.state for image in job.images] == [job_pb2.IMAGE_STATE_PENDING] * 3
    assert job.spec.HasField("seed")
    assert len(job.trace_id) in (0, 32)
    read = (await api.jobs.GetJob(pb.GetJobRequest(job_id=job.job_id), metadata=key)).job
    assert read.queue.position == 0
    read.ClearField("queue")
    job.cost.CopyFrom(read.cost)
    assert read == job


async def test_validate_only_stores_nothing(api: RunningApi) -> None:
    key = await api.key(cap_micros=1_000_000)
    job = (await api.jobs.CreateJob(create(validate_only=True), metadata=key)).job
    assert (job.job_id, job.quoted_cost.nanos) == ("", 10_000_000)
    assert await api.stores.rows(jobs) == []
    assert await api.stores.kinds() == []


async def test_a_repeated_request_answers_the_same_job_as_it_is_now(api: RunningApi) -> None:
    key = await api.key()
    request = create(request_id="once", options_labels={"a": "1", "b": "2"})
    first = (await api.jobs.CreateJob(request, metadata=key)).job
    await api.jobs.CancelJob(pb.CancelJobRequest(job_id=first.job_id), metadata=key)
    again = (await api.jobs.CreateJob(request, metadata=key)).job
    assert (again.job_id, again.state) == (first.job_id, job_pb2.JOB_STATE_CANCELED)
    generate = pb.GenerateImageRequest.FromString(request.SerializeToString())
    updates = [u async for u in api.jobs.GenerateImage(generate, metadata=key)]
    assert [u.job.job_id for u in updates] == [first.job_id]
    other = await api.key(tenant="other")
    assert (await api.jobs.CreateJob(request, metadata=other)).job.job_id != first.job_id
    request.spec.prompt = "another body"
    assert (await refused(api.jobs.CreateJob(request, metadata=key)))[:2] == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")


async def test_a_repeat_in_parallel_makes_one_job(api: RunningApi) -> None:
    key = await api.key(cap_micros=10_000_000)
    request = create(request_id="race")
    answers = await asyncio.gather(*(api.jobs.CreateJob(request, metadata=key) for _ in range(12)))
    assert len({answer.job.job_id for answer in answers}) == 1
    assert await api.stores.open_reservations() == (10_000, 10_000)


async def test_only_successes_are_remembered(api: RunningApi) -> None:
    key = await api.key()
    bad = create(request_id="again", spec_model="nothing")
    assert (await refused(api.jobs.CreateJob(bad, metadata=key)))[1] == "MODEL_NOT_FOUND"
    assert (await api.jobs.CreateJob(create(request_id="again"), metadata=key)).job.job_id


async def test_a_repeat_is_answered_even_when_the_budget_is_used_up(api: RunningApi) -> None:
    key = await api.key(cap_micros=10_000)
    request = create(request_id="paid")
    first = (await api.jobs.CreateJob(request, metadata=key)).job
    assert (await refused(api.jobs.CreateJob(create(), metadata=key)))[:2] == ("RESOURCE_EXHAUSTED", "BUDGET_EXCEEDED")
    assert (await api.jobs.CreateJob(request, metadata=key)).job.job_id == first.job_id


async def test_another_tenants_job_does_not_exist(api: RunningApi) -> None:
    mine, theirs = await api.key(), await api.key(tenant="other")
    job_id = (await api.jobs.CreateJob(create(), metadata=mine)).job.job_id
    for call, request in (
        (api.jobs.GetJob, pb.GetJobRequest(job_id=job_id)),
        (api.jobs.WatchJob, pb.WatchJobRequest(job_id=job_id)),
        (api.jobs.CancelJob, pb.CancelJobRequest(job_id=job_id)),
        (api.jobs.RetryJob, pb.RetryJobRequest(job_id=job_id)),
    ):
        assert (await refused(call(request, metadata=theirs)))[:2] == ("NOT_FOUND", "JOB_NOT_FOUND")
    assert (await api.jobs.ListJobs(pb.ListJobsRequest(), metadata=theirs)).jobs == []


async def test_canceling_a_waiting_job_ends_it_and_frees_its_budget(api: RunningApi) -> None:
    key = await api.key(cap_micros=10_000)
    job_id = (await api.jobs.CreateJob(create(), metadata=key)).job.job_id
    for _ in range(2):
        job = (await api.jobs.CancelJob(pb.CancelJobRequest(job_id=job_id), metadata=key)).job
        assert (job.state, job.cancel_requested, job.version) == (job_pb2.JOB_STATE_CANCELED, True, 2)
    assert await api.stores.open_reservations() == (0, 0)
    assert [kind for kind, _ in await api.stores.kinds()] == ["RESERVATION", "RELEASE"]
    assert (await api.jobs.CreateJob(create(), metadata=key)).job.job_id


async def test_canceling_a_running_job_flags_it_until_it_is_too_late(api: RunningApi) -> None:
    key = await api.key()
    job_id = (await api.jobs.CreateJob(create(), metadata=key)).job.job_id
    (claimed,) = await api.stores.claim()
    request = pb.CancelJobRequest(job_id=job_id)
    job = (await api.jobs.CancelJob(request, metadata=key)).job
    assert (job.state, job.cancel_requested, job.version) == (job_pb2.JOB_STATE_RUNNING, True, 3)
    assert (await api.jobs.CancelJob(request, metadata=key)).job.version == 3
    await api.stores.queue.finish(claimed.lease, Ending("FAILED"))
    assert (await refused(api.jobs.CancelJob(request, metadata=key)))[:2] == ("FAILED_PRECONDITION", "NOT_CANCELABLE")


async def test_a_parked_job_hears_of_its_cancel_at_once(api: RunningApi) -> None:
    key = await api.key()
    job_id = (await api.jobs.CreateJob(create(), metadata=key)).job.job_id
    (claimed,) = await api.stores.claim()
    await api.stores.queue.park(claimed.lease, Parking("REVIEW", 60))
    await api.jobs.CancelJob(pb.CancelJobRequest(job_id=job_id), metadata=key)
    (again,) = await api.stores.claim()
    assert again.cancel_requested


async def test_a_retry_repeats_the_seed_and_names_its_parent(api: RunningApi) -> None:
    key = await api.key()
    first = (await api.jobs.CreateJob(create(options_labels={"x": "y"}), metadata=key)).job
    request = pb.RetryJobRequest(job_id=first.job_id, request_id="r1")
    assert (await refused(api.jobs.RetryJob(request, metadata=key)))[:2] == ("FAILED_PRECONDITION", "WRONG_STATE")
    await api.jobs.CancelJob(pb.CancelJobRequest(job_id=first.job_id), metadata=key)
    retried = (await api.jobs.RetryJob(request, metadata=key)).job
    assert (retried.parent_job_id, retried.spec, retried.seed_drawn) == (first.job_id, first.spec, True)
    assert retried.options.labels == {"x": "y"}
    assert (await api.jobs.RetryJob(request, metadata=key)).job.job_id == retried.job_id


async def test_lists_page_stably_under_inserts_and_filter(api: RunningApi) -> None:
    key = await api.key()
    for number in range(5):
        labels = {"odd": str(number % 2), "n": str(number)}
        await api.jobs.CreateJob(create(options_labels=labels, options_user=f"u{number % 2}"), metadata=key)
    seen: list[str] = []
    token = ""
    while True:
        page = await api.jobs.ListJobs(pb.ListJobsRequest(page_size=2, page_token=token), metadata=key)
        seen += [job.options.labels["n"] for job in page.jobs]
        await api.jobs.CreateJob(create(options_labels={"n": "new"}), metadata=key)
        token = page.next_page_token
        if not token:
            break
    assert seen == ["4", "3", "2", "1", "0"]
    wanted = pb.JobFilter(labels={"odd": "1"}, user="u1", states=[job_pb2.JOB_STATE_QUEUED])
    page = await api.jobs.ListJobs(pb.ListJobsRequest(filter=wanted), metadata=key)
    assert [job.options.labels["n"] for job in page.jobs] == ["3", "1"]
    assert all(not job.spec.prompt for job in page.jobs)
    full = await api.jobs.ListJobs(pb.ListJobsRequest(filter=wanted, view=pb.JOB_VIEW_FULL), metadata=key)
    assert full.jobs[0].spec.prompt == "a red circle"
    wrong = pb.ListJobsRequest(page_token=(await _first_token(api, key)), filter=wanted)
    assert (await refused(api.jobs.ListJobs(wrong, metadata=key)))[1] == "PAGE_TOKEN_INVALID"


async def test_a_page_stays_below_the_limit_of_a_message(api: RunningApi) -> None:
    key = await api.key()
    for _ in range(52):
        await api.jobs.CreateJob(create(), metadata=key)
    request = pb.ListJobsRequest(page_size=200, view=pb.JOB_VIEW_FULL)
    page = await api.jobs.ListJobs(request, metadata=key)
    assert (len(page.jobs), bool(page.next_page_token)) == (50, True)
    huge = job_pb2.GenerationSpec(prompt="x" * 1_300_000).SerializeToString()
    await api.stores.database.write(lambda c: c.execute(jobs.update().values(spec=huge)) and None)
    page = await api.jobs.ListJobs(request, metadata=key)
    assert len(page.jobs) == 2
    request.page_token = page.next_page_token
    assert len((await api.jobs.ListJobs(request, metadata=key)).jobs) == 2


async def _first_token(api: RunningApi, key: Any) -> str:
    return str((await api.jobs.ListJobs(pb.ListJobsRequest(page_size=1), metadata=key)).next_page_token)


async def test_a_full_queue_says_when_to_come_back(tmp_path: Path) -> None:
    async with running_api(f"sqlite:///{tmp_path / 'truth.db'}", tmp_path, queue_limit=2) as api:
        key, other = await api.key(), await api.key(tenant="other")
        ids = [(await api.jobs.CreateJob(create(), metadata=key)).job.job_id for _ in range(2)]
        assert (await refused(api.jobs.CreateJob(create(), metadata=key)))[:2] == ("RESOURCE_EXHAUSTED", "QUEUE_FULL")
        assert (await api.jobs.CreateJob(create(), metadata=other)).job.job_id
        await api.jobs.CancelJob(pb.CancelJobRequest(job_id=ids[0]), metadata=key)
        assert (await api.jobs.CreateJob(create(), metadata=key)).job.job_id


async def test_inline_images_wait_in_their_own_table(api: RunningApi) -> None:
    key = await api.key()
    request = create(spec_operation=job_pb2.OPERATION_TEXT_TO_IMAGE, validate_only=False)
    job = (await api.jobs.CreateJob(request, metadata=key)).job
    assert await api.stores.rows(job_inputs) == []
    assert b"inline" not in job.SerializeToString()


async def test_internal_callers_act_for_the_tenant_they_name(lite: RunningApi) -> None:
    assert (await lite.jobs.CreateJob(create(), metadata=INTERNAL)).job.job_id
    nobody = INTERNAL[:1]
    assert (await refused(lite.jobs.CreateJob(create(), metadata=nobody)))[0] == "INVALID_ARGUMENT"


async def test_a_key_bound_to_a_user_makes_only_that_users_jobs(lite: RunningApi) -> None:
    key = await lite.key(user="ann")
    assert (await lite.jobs.CreateJob(create(), metadata=key)).job.options.user == "ann"
    found = await refused(lite.jobs.CreateJob(create(options_user="bob"), metadata=key))
    assert found == ("INVALID_ARGUMENT", "INVALID_FIELD", ["options.user"])


def inline(data: bytes) -> image_pb2.ImageSource:
    return image_pb2.ImageSource(inline=data)


BOMB = png(30_000, 30_000, b"")
IMAGE_TO_IMAGE = job_pb2.OPERATION_IMAGE_TO_IMAGE

BAD = [
    (create(prompt=""), "INVALID_ARGUMENT", "INVALID_FIELD", ["spec.prompt"]),
    (create(prompt="x" * 32_001), "INVALID_ARGUMENT", "INVALID_FIELD", ["spec.prompt"]),
    (
        create(spec_size=image_pb2.ImageSize(width=0, height=100_000)),
        "INVALID_ARGUMENT",
        "INVALID_FIELD",
        ["spec.size.width", "spec.size.height"],
    ),
    (create(spec_model="demoo"), "NOT_FOUND", "MODEL_NOT_FOUND", []),
    (create(spec_count=-1), "INVALID_ARGUMENT", "INVALID_FIELD", ["spec.count"]),
    (
        create(spec_images=[image_pb2.ImageSource(asset_id="ast_1")]),
        "INVALID_ARGUMENT",
        "INVALID_FIELD",
        ["spec.operation", "spec.images"],
    ),
    (
        create(spec_operation=IMAGE_TO_IMAGE, spec_images=[inline(png(64, 64)[:60])]),
        "INVALID_ARGUMENT",
        "IMAGE_UNREADABLE",
        ["spec.images[0]"],
    ),
    (
        create(spec_operation=IMAGE_TO_IMAGE, spec_images=[inline(BOMB)]),
        "INVALID_ARGUMENT",
        "IMAGE_TOO_LARGE",
        ["spec.images[0]"],
    ),
    (
        create(
            spec_operation=job_pb2.OPERATION_INPAINT, spec_images=[inline(png(64, 64))], spec_mask=inline(png(64, 32))
        ),
        "INVALID_ARGUMENT",
        "INVALID_FIELD",
        ["spec.images", "spec.mask"],
    ),
    (
        create(
            spec_operation=job_pb2.OPERATION_CONTROL,
            spec_controls=[job_pb2.Control(kind="canny", image=inline(png(64, 64)[:60]))],
        ),
        "INVALID_ARGUMENT",
        "IMAGE_UNREADABLE",
        ["spec.controls[0].image"],
    ),
    (create(spec_steps=101), "INVALID_ARGUMENT", "NO_CANDIDATE", ["spec.steps"]),
    (create(request_id="no spaces"), "INVALID_ARGUMENT", "INVALID_FIELD", ["request_id"]),
    (create(options_deadline=Duration(seconds=0)), "INVALID_ARGUMENT", "INVALID_FIELD", ["options.deadline"]),
    (
        create(options_max_cost=Money(currency_code="USD", nanos=1_000_000)),
        "FAILED_PRECONDITION",
        "MAX_COST_EXCEEDED",
        [],
    ),
    (create(spec_style="cubist"), "UNIMPLEMENTED", "NOT_IMPLEMENTED", ["spec.style"]),
    (
        create(options_webhook=job_pb2.WebhookTarget(url="https://x.example")),
        "UNIMPLEMENTED",
        "NOT_IMPLEMENTED",
        ["options.webhook"],
    ),
]


@pytest.mark.parametrize(("request_", "code", "reason", "fields"), BAD, ids=[f"{b[2]}-{i}" for i, b in enumerate(BAD)])
async def test_bad_requests_name_what_is_wrong(
    lite: RunningApi, request_: pb.CreateJobRequest, code: str, reason: str, fields: list[str]
) -> None:
    key = await lite.key()
    assert await refused(lite.jobs.CreateJob(request_, metadata=key)) == (code, reason, fields)
    assert await lite.stores.rows(jobs) == []


async def test_calls_without_a_good_key_or_message_are_refused(lite: RunningApi) -> None:
    job = pb.GetJobRequest(job_id="job_00000000000000000000000000")
    key = await lite.key()
    assert (await refused(lite.jobs.GetJob(job, metadata=key)))[:2] == ("NOT_FOUND", "JOB_NOT_FOUND")
    assert (await refused(lite.jobs.GetJob(job)))[:2] == ("UNAUTHENTICATED", "KEY_MISSING")
    for secret in ("nonsense", "imk_" + "0" * 26 + "_" + "a" * 43):
        found = await refused(lite.jobs.GetJob(job, metadata=bearer(secret)))
        assert found[:2] == ("UNAUTHENTICATED", "KEY_INVALID")
    operator = await lite.key("OPERATOR")
    assert (await refused(lite.jobs.GetJob(job, metadata=operator)))[:2] == ("PERMISSION_DENIED", "ROLE_NOT_ALLOWED")
    raw: Any = lite.channel.unary_unary("/imagemesh.router.v1.JobService/CreateJob")
    assert (await refused(raw(b"\xff\xff\xff", metadata=key)))[:2] == ("INVALID_ARGUMENT", "MALFORMED_REQUEST")


async def test_a_models_allowlist_is_kept(lite: RunningApi) -> None:
    key = await lite.key(models=("dear",))
    assert (await refused(lite.jobs.CreateJob(create(), metadata=key)))[:2] == (
        "PERMISSION_DENIED",
        "MODEL_NOT_ALLOWED",
    )


async def test_published_pictures_get_addresses_and_none_while_storage_is_down(lite: RunningApi) -> None:
    key = await lite.key()
    request = create(request_id="one")
    job_id = (await lite.jobs.CreateJob(request, metadata=key)).job.job_id
    (claimed,) = await lite.stores.claim()
    image = job_pb2.JobImage(index=0, asset_id="ast_1", state=job_pb2.IMAGE_STATE_PUBLISHED)
    ending = Ending(
        "SUCCEEDED", images=job_pb2.Job(images=[image]).SerializeToString(), cost_micros=10_000, image_count=1
    )
    await lite.stores.queue.finish(claimed.lease, ending)
    job = (await lite.jobs.GetJob(pb.GetJobRequest(job_id=job_id), metadata=key)).job
    assert job.images[0].url == "https://s/acme/ast_1"
    assert job.cost.nanos == 10_000_000
    repeated = (await lite.jobs.CreateJob(request, metadata=key)).job
    assert repeated.images[0].url == "https://s/acme/ast_1"
    lite.urls.down = True
    job = (await lite.jobs.GetJob(pb.GetJobRequest(job_id=job_id), metadata=key)).job
    assert (job.images[0].asset_id, job.images[0].url) == ("ast_1", "")
