"""A caller's pictures come in: fetched or taken, decoded, judged; and no address leads into the house."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from imagemesh.router.v1 import job_pb2
from imagemesh.type.v1 import image_pb2

from mesh.errors import InvalidArgument, Unavailable
from services.router.inputs import PublicResolver, UrlFetcher, is_public
from services.router.leases import Ended, Parking
from services.router.peers.moderation import Decision
from services.router.providers.base import Margins
from services.router.providers.http import AnswerTooLargeError, HttpAnswer, HttpRequest, NotSentError
from services.router.runs import Run
from services.router.tables import job_inputs, jobs
from tests.router.fakes.pictures import picture
from tests.router.rig import Rig
from tests.router.stores import Stores

PNG, OTHER, THIRD = (picture("tiny").png(number) for number in (1, 2, 3))

ADDRESSES = [
    ("8.8.8.8", True),
    ("2606:4700::1111", True),
    ("127.0.0.1", False),
    ("10.1.2.3", False),
    ("172.16.0.1", False),
    ("192.168.1.1", False),
    ("169.254.169.254", False),
    ("100.64.0.1", False),
    ("0.0.0.0", False),
    ("224.0.0.1", False),
    ("255.255.255.255", False),
    ("::1", False),
    ("fe80::1%eth0", False),
    ("fd00::1", False),
    ("::ffff:10.0.0.1", False),
    ("::ffff:8.8.8.8", True),
    ("64:ff9b::7f00:1", False),
    ("2002:7f00:1::", False),
]


@pytest.mark.parametrize(("address", "public"), ADDRESSES)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public


class Names(AbstractResolver):
    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=address, port=port, family=2, proto=0, flags=0)
            for address in self.addresses
        ]

    async def close(self) -> None:
        pass


async def test_names_resolve_to_public_addresses_only() -> None:
    mixed = await PublicResolver(Names("10.0.0.1", "8.8.8.8")).resolve("rebinding.example")
    assert [entry["host"] for entry in mixed] == ["8.8.8.8"]
    with pytest.raises(OSError, match="no public address"):
        await PublicResolver(Names("127.0.0.1")).resolve("localhost.example")


class Web:
    """Answers by address."""

    def __init__(self, **pages: HttpAnswer | Exception) -> None:
        self.pages = pages
        self.asked: list[str] = []

    async def send(self, request: HttpRequest) -> HttpAnswer:
        self.asked.append(request.url)
        answer = self.pages[request.url.rpartition("/")[2]]
        if isinstance(answer, Exception):
            raise answer
        return answer


def to(location: str) -> HttpAnswer:
    return HttpAnswer(302, {"Location": location}, b"")


REFUSED = [
    "http://images.example/a",
    "ftp://images.example/a",
    "file:///etc/passwd",
    "https://user:secret@images.example/a",
    "https://127.0.0.1/a",
    "https://[::1]/a",
    "https://169.254.169.254/latest/meta-data",
    "https://",
    "a",
]


@pytest.mark.parametrize("url", REFUSED)
async def test_refuses_without_asking_anybody(url: str) -> None:
    web = Web()
    with pytest.raises(InvalidArgument) as caught:
        await UrlFetcher(web).fetch(url)
    assert caught.value.reason == "URL_NOT_FETCHABLE"
    assert "secret" not in caught.value.message
    assert web.asked == []


async def test_follows_redirects_that_stay_outside() -> None:
    web = Web(a=to("/b"), b=to("https://other.example/c"), c=HttpAnswer(200, {}, PNG))
    assert await UrlFetcher(web).fetch("https://images.example/a") == PNG


@pytest.mark.parametrize("target", ["http://images.example/b", "https://10.0.0.1/b", "https://[fd00::1]/b"])
async def test_follows_no_redirect_into_the_house(target: str) -> None:
    web = Web(a=to(target), b=HttpAnswer(200, {}, PNG))
    with pytest.raises(InvalidArgument):
        await UrlFetcher(web).fetch("https://images.example/a")
    assert web.asked == ["https://images.example/a"]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (HttpAnswer(404, {}, b""), InvalidArgument),
        (HttpAnswer(503, {}, b""), Unavailable),
        (to("/a"), InvalidArgument),
        (AnswerTooLargeError("too large"), InvalidArgument),
        (NotSentError("no connection"), InvalidArgument),
    ],
)
async def test_what_an_address_that_gives_nothing_means(answer: HttpAnswer, error: type[Exception]) -> None:
    with pytest.raises(error):
        await UrlFetcher(Web(a=answer)).fetch("https://images.example/a")


async def test_a_private_host_cannot_be_connected_to() -> None:
    fetcher = UrlFetcher()
    try:
        with pytest.raises(InvalidArgument, match="no connection"):
            await fetcher.fetch("https://localhost:9/a")
    finally:
        await fetcher.close()


@pytest.fixture
def rig(stores: Stores, tmp_path: Path) -> Rig:
    return Rig(stores, tmp_path)


async def with_inline(rig: Rig, data: bytes = PNG) -> Run:
    images = [image_pb2.ImageSource()]
    await rig.submit(images=images, inputs={"images[0]": data})
    return rig.runs.open(await rig.claim(), rig.grip)


async def test_inline_bytes_become_an_asset(rig: Rig) -> None:
    run = await with_inline(rig)
    await rig.pipeline._parts.inputs.bring(run)
    (asset_id,) = rig.storage.rows
    assert rig.storage.rows[asset_id].kind == "INPUT"
    (row,) = await rig.stores.rows(jobs)
    assert job_pb2.GenerationSpec.FromString(row.spec).images[0].asset_id == asset_id
    assert await rig.stores.rows(job_inputs) == []
    assert run.spec.images[0].asset_id == asset_id


async def test_pictures_are_judged_after_the_texts_and_before_any_provider_is_asked(rig: Rig) -> None:
    await with_inline_job(rig, PNG)
    (asset_id,) = [asset_id for asset_id, row in rig.storage.rows.items() if row.kind == "INPUT"]
    assert list(rig.moderation.judged)[:2] == ["texts", asset_id]
    assert rig.moderation.judged[asset_id] == 1


async def test_beside_refused_texts_no_picture_is_looked_at(rig: Rig) -> None:
    rig.moderation.texts = Decision.BLOCK
    await with_inline_job(rig, PNG)
    (row,) = await rig.stores.rows(jobs)
    assert (row.state, row.blocked_by, list(rig.moderation.judged)) == ("BLOCKED", "PROMPT", ["texts"])


async def test_a_job_without_any_text_asks_for_its_pictures_only(rig: Rig) -> None:
    await rig.draw(
        operation=job_pb2.OPERATION_REMOVE_BACKGROUND,
        prompt="",
        images=[image_pb2.ImageSource()],
        inputs={"images[0]": PNG},
    )
    (row,) = await rig.stores.rows(jobs)
    assert (row.state, rig.moderation.judged["texts"], len(rig.moderation.judged)) == ("SUCCEEDED", 0, 2)


async def test_every_kind_of_picture_reaches_the_provider(rig: Rig) -> None:
    control = job_pb2.Control(kind="canny", image=image_pb2.ImageSource(), scale=0)
    inputs = {"images[0]": PNG, "mask": OTHER, "controls[0].image": THIRD}
    await rig.submit(
        operation=job_pb2.OPERATION_INPAINT,
        images=[image_pb2.ImageSource()],
        mask=image_pb2.ImageSource(),
        controls=[control],
        loras=[job_pb2.Lora(lora_id="ink", scale=0)],
        inputs=inputs,
        strength=0.5,
    )
    assert isinstance(await rig.walk(await rig.claim()), Ended)
    (call,) = rig.one.calls
    assert [image.data for image in call.images] == [PNG]
    assert call.mask is not None
    assert call.mask.data == OTHER
    assert [(each.kind, each.image.data, each.scale) for each in call.controls] == [("canny", THIRD, 0.0)]
    assert (call.width, call.height, call.strength) == (0, 0, 0.5)
    assert [(lora.lora_id, lora.scale) for lora in call.loras] == [("ink", 0.0)]
    judged = [row for row in rig.storage.rows.values() if row.kind == "INPUT"]
    assert len(judged) == 3
    assert all(rig.moderation.judged[asset_id] == 1 for asset_id in rig.storage.rows)


async def test_a_control_alone_is_judged_too(rig: Rig) -> None:
    rig.moderation.image_decision = Decision.BLOCK
    control = job_pb2.Control(kind="canny", image=image_pb2.ImageSource())
    await rig.submit(operation=job_pb2.OPERATION_CONTROL, controls=[control], inputs={"controls[0].image": PNG})
    assert isinstance(await rig.walk(await rig.claim()), Ended)
    (row,) = await rig.stores.rows(jobs)
    assert (row.state, row.blocked_by, rig.one.calls) == ("BLOCKED", "INPUT", [])


async def test_a_mask_of_another_size_ends_the_job_before_any_provider_is_asked(rig: Rig) -> None:
    sources = {"images": [image_pb2.ImageSource()], "mask": image_pb2.ImageSource()}
    inputs = {"images[0]": PNG, "mask": picture("small").png(1)}
    await rig.submit(operation=job_pb2.OPERATION_INPAINT, inputs=inputs, **sources)
    assert isinstance(await rig.walk(await rig.claim()), Ended)
    (row,) = await rig.stores.rows(jobs)
    assert (row.state, row.error_reason, rig.one.calls) == ("FAILED", "INVALID_FIELD", [])


async def test_margins_and_factor_reach_the_provider_and_a_given_size_stays(rig: Rig) -> None:
    source = [image_pb2.ImageSource()]
    await rig.draw(
        operation=job_pb2.OPERATION_OUTPAINT,
        images=source,
        inputs={"images[0]": PNG},
        outpaint=job_pb2.OutpaintMargins(left=8, bottom=16),
    )
    await rig.draw(
        operation=job_pb2.OPERATION_UPSCALE, prompt="", images=source, inputs={"images[0]": PNG}, upscale_factor=4
    )
    size = image_pb2.ImageSize(width=32, height=64)
    await rig.draw(operation=job_pb2.OPERATION_EDIT, images=source, inputs={"images[0]": PNG}, size=size)
    outpaint, upscale, edit = rig.one.calls
    assert outpaint.margins == Margins(left=8, bottom=16)
    assert (upscale.upscale_factor, upscale.width, upscale.prompt) == (4, 0, "")
    assert (edit.width, edit.height) == (32, 64)


async def test_bringing_in_again_changes_nothing(rig: Rig) -> None:
    run = await with_inline(rig)
    await rig.pipeline._parts.inputs.bring(run)
    await rig.pipeline._parts.inputs.bring(run)
    assert len(rig.storage.rows) == 1


async def test_a_refused_input_blocks_the_job(rig: Rig) -> None:
    rig.moderation.image_decision = Decision.BLOCK
    run = await with_inline(rig)
    await rig.pipeline._parts.inputs.bring(run)
    assert await rig.pipeline._parts.inputs.judge_all(run) is None
    assert run.ending is not None
    assert (run.ending.state, run.ending.blocked_by) == ("BLOCKED", "INPUT")


async def test_an_input_in_review_waits(rig: Rig) -> None:
    rig.moderation.image_decision = Decision.REVIEW
    run = await with_inline(rig)
    await rig.pipeline._parts.inputs.bring(run)
    parking = await rig.pipeline._parts.inputs.judge_all(run)
    assert isinstance(parking, Parking)
    assert parking.waiting_for == "REVIEW"


async def test_a_broken_input_ends_the_job_with_its_reason(rig: Rig) -> None:
    await with_inline_job(rig, PNG[:100])
    (row,) = await rig.stores.rows(jobs)
    assert (row.state, row.error_reason) == ("FAILED", "IMAGE_UNREADABLE")
    assert rig.one.calls == []


async def with_inline_job(rig: Rig, data: bytes) -> None:
    await rig.submit(images=[image_pb2.ImageSource()], inputs={"images[0]": data})
    await rig.walk(await rig.claim())
