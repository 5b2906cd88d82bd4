"""What only Stability AI does: a service for each thing to do, seeds that are no seeds, results asked for slowly."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from pydantic import SecretStr

from services.router.providers.base import Account, ControlImage, Margins, ProviderCall
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.polling import JITTER
from services.router.providers.stability import PACE, Stability
from services.router.providers.stability_services import SERVICES
from tests.router.fakes.pictures import draw
from tests.router.providers.harness_base import MASK, SOURCE, Heard
from tests.router.providers.harness_stability import StabilityHarness, StabilityResultsHarness
from tests.router.providers.scripted import Scripted

CALL = ProviderCall("att_1", "acme", "core", "a red fox", timeout=20.0, user="user-1")
GUIDE = ControlImage("sketch", SOURCE, 0.5)

BY_SERVICE: dict[str, dict[str, object]] = {
    "ultra": {"width": 1024, "height": 1024},
    "core": {"width": 832, "height": 1216, "options": {"style_preset": "anime"}},
    "sd3.5-large": {"guidance": 7.0},
    "sd3.5-large-turbo": {"operation": "IMAGE_TO_IMAGE", "images": (SOURCE,), "strength": 0.3},
    "sd3.5-medium": {},
    "sd3.5-flash": {},
    "erase": {"operation": "INPAINT", "images": (SOURCE,), "mask": MASK, "options": {"grow_mask": 5}},
    "inpaint": {"operation": "INPAINT", "images": (SOURCE,), "mask": MASK},
    "outpaint": {"operation": "OUTPAINT", "images": (SOURCE,), "margins": Margins(top=7, bottom=9)},
    "search-and-replace": {"operation": "EDIT", "images": (SOURCE,), "options": {"search_prompt": "dog"}},
    "search-and-recolor": {"operation": "EDIT", "images": (SOURCE,), "options": {"select_prompt": "hat"}},
    "remove-background": {"operation": "REMOVE_BACKGROUND", "images": (SOURCE,), "prompt": ""},
    "fast": {"operation": "UPSCALE", "images": (SOURCE,), "prompt": "", "upscale_factor": 4},
    "conservative": {"operation": "UPSCALE", "images": (SOURCE,), "seed": 5},
    "sketch": {"operation": "CONTROL", "controls": (GUIDE,)},
    "structure": {"operation": "CONTROL", "controls": (replace(GUIDE, kind="structure"),), "width": 64, "height": 64},
    "style": {"operation": "CONTROL", "controls": (replace(GUIDE, kind="style"),), "width": 1024, "height": 1024},
    "style-transfer": {"operation": "EDIT", "images": (SOURCE, SOURCE)},
    "creative": {"operation": "UPSCALE", "images": (SOURCE,)},
    "replace-background-and-relight": {"operation": "EDIT", "images": (SOURCE,)},
}


def opened(http: Scripted) -> Stability:
    return Stability(Account("stability", api_key=SecretStr("sk-1")), http)


@pytest.fixture
async def harness() -> AsyncIterator[StabilityHarness]:
    made = StabilityHarness()
    yield made
    await made.stop()


@pytest.fixture
async def results() -> AsyncIterator[StabilityResultsHarness]:
    made = StabilityResultsHarness()
    yield made
    await made.stop()


@pytest.mark.parametrize("name", list(SERVICES))
async def test_every_service_takes_what_it_is_sent(
    harness: StabilityHarness, results: StabilityResultsHarness, name: str
) -> None:
    provider = await (results if SERVICES[name].asynchronous else harness).start()
    result = await provider.submit(replace(CALL, model=name, **BY_SERVICE[name]), Heard())  # type: ignore[arg-type]
    assert len(result.images) == 1


@pytest.mark.parametrize(("asked", "sent"), [(0, 1), (7, 7), (4_294_967_295, 4_294_967_294)])
async def test_a_seed_is_never_any_seed(harness: StabilityHarness, asked: int, sent: int) -> None:
    result = await (await harness.start()).submit(replace(CALL, seed=asked), Heard())
    assert result.images[0].seed == sent


async def test_pictures_and_masks_go_out_as_they_are() -> None:
    http = Scripted({"image": base64.b64encode(draw(16, 4)).decode(), "seed": 1, "finish_reason": "SUCCESS"})
    call = replace(CALL, model="inpaint", operation="INPAINT", images=(SOURCE,), mask=MASK)
    await opened(http).submit(call, Heard())
    parts = {part.name: part for part in http.asked[0].form}
    assert (parts["image"].value, parts["mask"].value) == (SOURCE.data, MASK.data)  # white = change there too
    assert (parts["mask"].filename, parts["mask"].content_type) == ("mask.png", "image/png")
    assert http.asked[0].url == "https://api.stability.ai/v2beta/stable-image/edit/inpaint"


async def test_attempt_and_user_are_told(harness: StabilityHarness) -> None:
    await (await harness.start()).submit(CALL, Heard())
    assert harness.fake.attempts == {"att_1": 1}
    assert harness.fake.orders[0].headers["stability-client-user-id"] == "user-1"


@pytest.mark.parametrize(
    "change",
    [
        {"model": "sd2"},
        {"model": "creative", "operation": "UPSCALE", "images": (SOURCE,)},
        {"model": "conservative", "operation": "UPSCALE", "images": (SOURCE,), "prompt": ""},
        {"model": "fast", "operation": "UPSCALE", "images": (SOURCE,), "upscale_factor": 2},
        {"model": "search-and-replace", "operation": "EDIT", "images": (SOURCE,)},
        {"model": "style-transfer", "operation": "EDIT", "images": (SOURCE,)},
        {"model": "sketch", "operation": "CONTROL", "controls": (replace(GUIDE, scale=1.5),)},
        {"model": "sketch", "operation": "CONTROL", "controls": (GUIDE, GUIDE)},
        {"model": "sketch", "operation": "CONTROL", "controls": (replace(GUIDE, kind="style"),)},
        {"model": "inpaint", "operation": "INPAINT", "images": (SOURCE,), "mask": MASK, "width": 1024, "height": 1024},
        {"model": "remove-background", "operation": "REMOVE_BACKGROUND", "images": (SOURCE,), "output_format": "jpeg"},
        {"width": 1024, "height": 300},
    ],
)
async def test_what_a_service_does_not_take_is_never_sent(harness: StabilityHarness, change: dict[str, object]) -> None:
    provider = await harness.start()
    with pytest.raises(ProviderError) as caught:
        await provider.submit(replace(CALL, **change), Heard())  # type: ignore[arg-type]
    assert caught.value.kind is ErrorKind.BAD_REQUEST
    assert not harness.fake.orders


@pytest.mark.parametrize("prompt", ["poll:overloaded:2", "poll:rate_limited:1"])
async def test_results_are_asked_for_again(results: StabilityResultsHarness, prompt: str) -> None:
    call = replace(CALL, model="creative", operation="UPSCALE", images=(SOURCE,), prompt=prompt, seed=3)
    result = await (await results.start()).submit(call, Heard())
    assert result.images[0].seed == 3
    assert results.times_asked(prompt) == 1


async def test_results_may_come_as_json(results: StabilityResultsHarness) -> None:
    call = replace(CALL, model="creative", operation="UPSCALE", images=(SOURCE,), prompt="as json")
    result = await (await results.start()).submit(call, Heard())
    assert (result.images[0].media_type, result.images[0].seed) == ("image/png", 41)


def test_results_are_asked_for_at_most_every_ten_seconds() -> None:
    assert PACE.first * (1 - JITTER) >= 10


async def test_tells_the_credits_left(harness: StabilityHarness) -> None:
    assert await (await harness.start()).check() == "12.5 credits left"
