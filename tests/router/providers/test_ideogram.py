"""What only Ideogram does: black masks, pictures kept back, Ed25519 call backs, one path per operation and model."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pyvips

from services.router.providers.base import InputImage, Margins, ProviderCall
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.webhooks import CallBack, CallBackRefusedError
from tests.router.providers.harness_base import MASK, SOURCE, Heard
from tests.router.providers.harness_ideogram import IdeogramHarness

CALL = ProviderCall("att_1", "acme", "ideogram-4-5", "a red fox", timeout=20.0)


def half_white() -> InputImage:
    """64x64: black on the left, white (to be changed) on the right."""
    black = pyvips.Image.black(32, 64)
    return InputImage(bytes(black.join(black.invert(), "horizontal").write_to_buffer(".png")), "image/png")


def grey_at(picture: bytes, x: int, y: int) -> float:
    return float(pyvips.Image.new_from_buffer(picture, "").getpoint(x, y)[0])


@pytest.fixture
async def harness() -> AsyncIterator[IdeogramHarness]:
    made = IdeogramHarness()
    yield made
    await made.stop()


@pytest.mark.parametrize(("model", "operation"), [("ideogram-3", "INPAINT"), ("ideogram-4-5", "EDIT")])
async def test_what_shall_change_is_black_there(harness: IdeogramHarness, model: str, operation: str) -> None:
    call = replace(CALL, model=model, operation=operation, images=(SOURCE,), mask=half_white())
    await (await harness.start()).submit(call, Heard())
    sent = harness.fake.pictures
    assert (grey_at(sent["mask"], 5, 5), grey_at(sent["mask"], 60, 5)) == (255, 0)
    assert sent["image"] == SOURCE.data


async def test_margins_are_painted_into_a_padded_picture(harness: IdeogramHarness) -> None:
    call = replace(
        CALL, operation="OUTPAINT", images=(SOURCE,), margins=Margins(left=16, bottom=8), width=80, height=72
    )
    await (await harness.start()).submit(call, Heard())
    mask = harness.fake.pictures["mask"]
    assert [grey_at(mask, *at) for at in ((2, 2), (20, 2), (20, 70))] == [0, 255, 0]
    assert harness.fake.orders[0].path == "/v2/image/precise-edit/ideogram-4-5"


async def test_further_images_are_references(harness: IdeogramHarness) -> None:
    call = replace(CALL, operation="EDIT", images=(SOURCE, SOURCE, SOURCE))
    await (await harness.start()).submit(call, Heard())
    assert harness.fields_sent()["reference_images"] == ["png 64x64"] * 2


@pytest.mark.parametrize("model", ["ideogram-3-transparent", "ideogram-4-transparent"])
async def test_transparent_backgrounds_are_models_of_their_own(harness: IdeogramHarness, model: str) -> None:
    await (await harness.start()).submit(replace(CALL, model=model, transparent_background=True), Heard())
    assert harness.fake.orders[0].path == f"/v2/image/generate/{model}"


async def test_a_long_seed_is_cut_and_the_one_used_is_told(harness: IdeogramHarness) -> None:
    result = await (await harness.start()).submit(replace(CALL, seed=2**31 + 5, count=2), Heard())
    assert [image.seed for image in result.images] == [5, 6]
    assert {image.revised_prompt for image in result.images} == {"a red fox, sharp"}


async def test_the_cost_is_told_with_the_order(harness: IdeogramHarness) -> None:
    result = await (await harness.start()).submit(replace(CALL, count=2), Heard())
    assert result.cost_micros == 120_000


async def test_pictures_that_were_not_kept_back_are_brought_home(harness: IdeogramHarness) -> None:
    result = await (await harness.start()).submit(replace(CALL, prompt="late:some_unsafe", count=3), Heard())
    assert (len(result.images), result.places) == (2, (1, 2))


@pytest.mark.parametrize("prompt", ["poll:overloaded:2", "poll:rate_limited:1", "poll:bad_gateway:1", "url:flaky"])
async def test_polls_and_downloads_are_repeated(harness: IdeogramHarness, prompt: str) -> None:
    result = await (await harness.start()).submit(replace(CALL, prompt=prompt), Heard())
    assert len(result.images) == 1
    assert harness.times_asked(prompt) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"model": "ideogram-2"},
        {"transparent_background": True},
        {"negative_prompt": "blur"},
        {"model": "ideogram-1"},
        {"model": "ideogram-4-transparent"},
        {"operation": "IMAGE_TO_IMAGE", "images": (SOURCE,)},
        {"operation": "INPAINT", "images": (SOURCE,), "mask": MASK, "width": 1024, "height": 1024},
        {"options": {"style_type": "design"}},
        {"operation": "EDIT", "images": (SOURCE,), "options": {"magic_prompt": "off"}},
    ],
)
async def test_what_a_model_does_not_take_is_never_sent(harness: IdeogramHarness, change: dict[str, object]) -> None:
    provider = await harness.start()
    with pytest.raises(ProviderError) as caught:
        await provider.submit(replace(CALL, **change), Heard())  # type: ignore[arg-type]
    assert caught.value.kind is ErrorKind.BAD_REQUEST
    assert not harness.fake.orders


async def test_the_vendors_keys_are_read_once(harness: IdeogramHarness) -> None:
    provider = await harness.start()
    for order in ("job-1", "job-2"):
        assert await provider.verify(harness.fake.call_back(order)) == order
    assert harness.fake.key_reads == 1


def aged(call_back: CallBack) -> CallBack:
    """Delivered again much later."""
    then = str(int(time.time()) - 3600)
    return replace(call_back, headers={**call_back.headers, "x-ideogram-webhook-timestamp": then})


@pytest.mark.parametrize("why", ["old", "another order", "no signature", "signature is no hex"])
async def test_call_backs_that_do_not_fit_are_refused(harness: IdeogramHarness, why: str) -> None:
    provider = await harness.start()
    genuine = harness.fake.call_back("job-1")
    signature = "x-ideogram-webhook-signature"
    bad = {
        "old": aged(genuine),
        "another order": harness.fake.call_back("job-1", named="job-2"),
        "no signature": replace(genuine, headers={**genuine.headers, signature: ""}),
        "signature is no hex": replace(genuine, headers={**genuine.headers, signature: "zz"}),
    }[why]
    with pytest.raises(CallBackRefusedError):
        await provider.verify(bad)


async def test_the_key_is_checked_without_drawing(harness: IdeogramHarness) -> None:
    assert await (await harness.start()).check() == "the key is accepted"
    assert not harness.fake.orders
