"""What the suite does not show of ComfyUI: lost answers, whose job is interrupted, masks, files, seeds, workflows."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from mesh.imaging import probe
from services.router.providers.base import Account, InputImage, Margins, ProviderCall
from services.router.providers.comfyui import ComfyUi, order_id_of
from services.router.providers.comfyui_graphs import FOLDER, workflows
from services.router.providers.errors import ErrorKind, ProviderError
from tests.router.fakes.comfyui import CHECKPOINT, UPSCALER
from tests.router.fakes.pictures import draw
from tests.router.providers.harness_base import MASK, SOURCE, Heard
from tests.router.providers.harness_comfyui import ComfyUiHarness


@pytest.fixture
async def harness() -> AsyncIterator[ComfyUiHarness]:
    made = ComfyUiHarness()
    await made.fake.start()
    yield made
    await made.stop()


def call(prompt: str = "a fox", **fields: Any) -> ProviderCall:
    return replace(ProviderCall("att_1", "acme", CHECKPOINT, prompt, timeout=20.0), **fields)


async def test_an_order_whose_answer_was_lost_is_found_by_its_id(harness: ComfyUiHarness) -> None:
    heard = Heard()
    told = await harness.open().submit(call("fail:taken_then_cut"), heard)
    assert told.images
    assert heard.ids == [order_id_of("att_1")]
    assert harness.fake.posts["fail:taken_then_cut"] == 1


async def test_an_old_server_s_own_id_is_kept(harness: ComfyUiHarness) -> None:
    heard = Heard()
    told = await harness.open().submit(call("fail:chooses_id"), heard)
    assert heard.ids == [told.provider_request_id] != [order_id_of("att_1")]


@pytest.mark.parametrize("prompt", ["poll:overloaded", "poll:rate_limited", "poll:bad_gateway", "url:flaky"])
async def test_what_passes_is_asked_again(harness: ComfyUiHarness, prompt: str) -> None:
    assert (await harness.open().submit(call(prompt), Heard())).images


@pytest.mark.parametrize("answer", [(502, "bad gateway"), (504, ""), (200, "<html>")])
async def test_an_upload_whose_outcome_is_lost_is_no_order(harness: ComfyUiHarness, answer: tuple[int, str]) -> None:
    harness.fake.failing_upload = answer
    with pytest.raises(ProviderError) as caught:
        await harness.open().submit(call(operation="IMAGE_TO_IMAGE", images=(SOURCE,)), Heard())
    assert caught.value.kind is ErrorKind.OVERLOADED
    assert not harness.fake.posts


async def test_the_drawing_of_somebody_else_is_never_interrupted(harness: ComfyUiHarness) -> None:
    provider = harness.open()
    with pytest.raises(ProviderError):
        await provider.submit(call("stall", timeout=0.2), Heard())
    harness.fake.somebody_else_runs = True
    await provider.cancel(order_id_of("att_1"))
    assert harness.was_canceled(order_id_of("att_1"))
    assert not harness.fake.interrupts
    await provider.cancel("unknown")
    assert not harness.fake.interrupts


async def test_only_our_own_drawing_is_interrupted_by_its_id(harness: ComfyUiHarness) -> None:
    provider = harness.open()
    with pytest.raises(ProviderError):
        await provider.submit(call("stall", timeout=0.2), Heard())
    await provider.cancel(order_id_of("att_1"))
    assert harness.fake.interrupts == [{"prompt_id": order_id_of("att_1")}]


async def test_only_our_own_steps_and_pictures_are_told(harness: ComfyUiHarness) -> None:
    heard = Heard()
    await harness.open().submit(call("steps"), heard)
    assert heard.steps == [(3, 20)]
    assert [probe(shown).format for shown in heard.previews] == ["png"]


async def test_without_sockets_it_draws_all_the_same(harness: ComfyUiHarness) -> None:
    account = Account("stub", harness.fake.origin, SecretStr(harness.fake.key))
    assert (await ComfyUi(account, harness.http).submit(call(), Heard())).images


async def test_seed_and_time_are_told(harness: ComfyUiHarness) -> None:
    told = await harness.open().submit(call(seed=7), Heard())
    assert (told.images[0].seed, told.usage) == (7, {"milliseconds": 1250})
    unasked = await harness.open().submit(call(attempt_id="att_2"), Heard())
    assert unasked.images[0].seed == harness.fields_sent()["sampler.seed"]


async def test_the_mask_s_white_is_painted_and_the_rest_of_the_picture_kept(harness: ComfyUiHarness) -> None:
    await harness.open().submit(call(operation="INPAINT", images=(SOURCE,), mask=MASK), Heard())
    graph = workflows()["INPAINT"].nodes
    assert MASK.data in harness.fake.uploads.values()
    assert graph["mask"]["inputs"]["channel"] == "red"  # white is 1 there, which both nodes below change
    assert graph["masked"]["inputs"]["mask"] == graph["kept"]["inputs"]["mask"] == ["mask", 0]


async def test_an_odd_source_is_padded(harness: ComfyUiHarness) -> None:
    odd = InputImage(draw(60, 4), "image/png")
    await harness.open().submit(call(operation="OUTPAINT", images=(odd,), margins=Margins(right=5)), Heard())
    assert harness.fields_sent()["source.image"] == "png 72x64"


async def test_the_same_picture_lies_there_once(harness: ComfyUiHarness) -> None:
    for attempt in ("att_1", "att_2"):
        asked = call(operation="UPSCALE", model=UPSCALER, images=(SOURCE,), attempt_id=attempt)
        await harness.open().submit(asked, Heard())
    assert len(harness.fake.uploads) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"width": 500, "height": 512},
        {"operation": "IMAGE_TO_IMAGE", "images": (SOURCE,), "width": 512, "height": 512},
        {"operation": "CONTROL"},
        {"count": 2},
        {"options": {"workflow": {}}},
    ],
)
async def test_what_no_workflow_has_is_refused_before_the_order(
    harness: ComfyUiHarness, fields: dict[str, Any]
) -> None:
    with pytest.raises(ProviderError) as caught:
        await harness.open().submit(call(**fields), Heard())
    assert caught.value.kind is ErrorKind.BAD_REQUEST
    assert not harness.fake.posts


async def test_check_tells_version_and_queue(harness: ComfyUiHarness) -> None:
    assert await harness.open().check() == "ComfyUI 0.3.65, 0 orders waiting"


def test_a_slot_that_its_graph_does_not_have_is_a_fault(tmp_path: Path) -> None:
    told = json.loads((FOLDER / "upscale.json").read_text())
    told["slots"]["prompt"] = "positive.text"
    (tmp_path / "upscale.json").write_text(json.dumps(told))
    with pytest.raises(ValueError, match=r"no input positive\.text"):
        workflows(tmp_path)
