"""What the suite does not show of AUTOMATIC1111: odd sizes, versions by hash, odd forks, no password, no UI."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from mesh.imaging import probe
from services.router.providers.a1111 import WebUi
from services.router.providers.a1111_fields import drawn_by
from services.router.providers.base import Account, ControlImage, InputImage, Margins, ProviderCall
from services.router.providers.errors import ErrorKind, ProviderError
from tests.router.fakes.a1111 import CHECKPOINT, CHECKPOINT_HASH, A1111Fake
from tests.router.fakes.pictures import draw
from tests.router.fakes.vendor import FakeConfig
from tests.router.providers.harness_a1111 import A1111Harness
from tests.router.providers.harness_base import MASK, SOURCE, Heard


@pytest.fixture
async def harness() -> AsyncIterator[A1111Harness]:
    made = A1111Harness()
    await made.fake.start()
    yield made
    await made.stop()


def call(prompt: str = "a fox", **fields: Any) -> ProviderCall:
    return replace(ProviderCall("att_1", "acme", CHECKPOINT, prompt, timeout=20.0), **fields)


async def test_version_and_seeds_are_those_of_the_answer(harness: A1111Harness) -> None:
    told = await harness.open().submit(call(count=2, seed=7), Heard())
    assert told.model_version == CHECKPOINT_HASH
    assert [image.seed for image in told.images] == [7, 8]


@pytest.mark.parametrize("model", ["painter", "sd/painter.safetensors [6ce0161689]", "painter.ckpt", "6ce0161689"])
def test_a_checkpoint_is_known_by_all_of_its_names(model: str) -> None:
    assert drawn_by({"sd_model_name": "painter", "sd_model_hash": "6ce0161689"}, model)
    assert not drawn_by({"sd_model_name": "pain", "sd_model_hash": "1111111111"}, model)


@pytest.mark.parametrize("prompt", ["fail:grid", "fail:data_url"])
async def test_grids_are_left_out_and_data_urls_read(harness: A1111Harness, prompt: str) -> None:
    told = await harness.open().submit(call(prompt), Heard())
    assert [image.media_type for image in told.images] == ["image/png"]


async def test_maps_of_controls_are_no_results(harness: A1111Harness) -> None:
    controls = (ControlImage("canny", SOURCE),)
    told = await harness.open().submit(call(operation="CONTROL", controls=controls), Heard())
    assert len(told.images) == 1


async def test_an_odd_source_is_padded_and_the_result_cut_back() -> None:
    harness, odd = A1111Harness(), InputImage(draw(250, 4), "image/png")
    harness.fake = A1111Fake(FakeConfig(size="small"))  # it draws 256x256
    try:
        provider = await harness.start()
        told = await provider.submit(call(operation="INPAINT", images=(odd,), mask=odd), Heard())
        sent = harness.fields_sent()
        assert (sent["init_images"], sent["mask"], sent["width"]) == (["png 256x256"], "png 256x256", 256)
        info = probe(told.images[0].data)
        assert (info.width, info.height) == (250, 250)
        await provider.submit(call(operation="OUTPAINT", images=(odd,), margins=Margins(right=5)), Heard())
        assert harness.fields_sent()["init_images"] == ["png 256x256"]
    finally:
        await harness.stop()


async def test_white_stays_white_in_the_mask(harness: A1111Harness) -> None:
    await harness.open().submit(call(operation="INPAINT", images=(SOURCE,), mask=MASK), Heard())
    assert harness.fake.pictures["mask"] == MASK.data
    assert harness.fields_sent()["inpainting_mask_invert"] == 0


async def test_a_schedule_follows_the_sampler_after_a_slash(harness: A1111Harness) -> None:
    await harness.open().submit(call(scheduler="dpmpp_2m/karras"), Heard())
    sent = harness.fields_sent()
    assert (sent["sampler_name"], sent["scheduler"]) == ("DPM++ 2M", "karras")


@pytest.mark.parametrize(
    "fields",
    [
        {"width": 500, "height": 512},
        {"operation": "INPAINT", "images": (SOURCE,), "mask": MASK, "width": 512, "height": 512},
        {"operation": "CONTROL", "controls": (ControlImage("depth", SOURCE),)},
        {"options": {"save_images": True}},
        {"output_format": "jpeg"},
    ],
)
async def test_what_it_cannot_do_is_refused_before_the_order(harness: A1111Harness, fields: dict[str, Any]) -> None:
    with pytest.raises(ProviderError) as caught:
        await harness.open().submit(call(**fields), Heard())
    assert caught.value.kind is ErrorKind.BAD_REQUEST
    assert not harness.fake.posts


async def test_only_our_own_task_s_progress_is_told_and_each_preview_once(harness: A1111Harness) -> None:
    heard = Heard()
    await harness.open().submit(call("steps"), heard)
    assert {asked["id_task"] for asked in harness.fake.asked_progress} == {"att_1"}
    assert heard.steps[0] == (25, 100)
    assert len(heard.previews) == 1
    assert probe(heard.previews[0]).format == "png"


async def test_a_server_without_ui_is_asked_for_progress_once(harness: A1111Harness) -> None:
    harness.fake.ui = False
    heard = Heard()
    assert (await harness.open().submit(call("steps"), heard)).images
    assert not heard.steps
    assert len(harness.fake.asked_progress) == 1


async def test_without_a_key_nobody_signs_in(harness: A1111Harness) -> None:
    with pytest.raises(ProviderError) as caught:
        await WebUi(Account("stub", harness.fake.origin), harness.http).check()
    assert caught.value.kind is ErrorKind.AUTHENTICATION


async def test_check_tells_the_checkpoints(harness: A1111Harness) -> None:
    assert await harness.open().check() == "1 checkpoints"
