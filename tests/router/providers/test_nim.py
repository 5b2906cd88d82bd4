"""What the suite does not show of NIM: ids, families, what is refused instead of drawn otherwise."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from services.router.providers.base import ControlImage, ProviderCall
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.nim import FAMILIES, HOSTED, family_of
from tests.router.providers.harness_base import SOURCE, Heard
from tests.router.providers.harness_nim import KONTEXT, HostedNimHarness, NimHarness


@pytest.fixture
async def harness() -> AsyncIterator[NimHarness]:
    made = NimHarness()
    await made.fake.start()
    yield made
    await made.stop()


def call(prompt: str = "a fox", **fields: Any) -> ProviderCall:
    return replace(ProviderCall("att_1", "acme", "flux.1-dev", prompt, timeout=20.0), **fields)


async def test_containers_have_no_ids_and_tell_the_seed(harness: NimHarness) -> None:
    told = await harness.open().submit(call(), Heard())
    assert (told.provider_request_id, told.images[0].seed) == ("att_1", 41)
    assert "Authorization" not in harness.fake.orders[-1].headers


async def test_the_host_has_ids_and_wants_its_key() -> None:
    harness = HostedNimHarness()
    provider = await harness.start()
    try:
        told = await provider.submit(call(model="black-forest-labs/flux.1-dev"), Heard())
        assert told.provider_request_id == "req-1"
        assert harness.fake.orders[-1].path == "/v1/genai/black-forest-labs/flux.1-dev"
        with pytest.raises(ProviderError, match="no call that costs nothing"):
            await provider.check()
    finally:
        await harness.stop()
    assert HOSTED.startswith("https://ai.api.nvidia.com/")


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("qwen-image", "qwen-image"),
        ("qwen/qwen-image-edit-2509", "qwen-image-edit"),
        ("black-forest-labs/FLUX.1-Kontext-dev", "flux.1-kontext"),
    ],
)
def test_the_longest_beginning_of_a_name_counts(model: str, family: str) -> None:
    assert family_of(model) is FAMILIES[family]


async def test_an_edit_s_shape_is_named_by_its_ratio(harness: NimHarness) -> None:
    asked = call(operation="EDIT", model=KONTEXT, images=(SOURCE,), width=1344, height=768)
    await harness.open().submit(asked, Heard())
    assert harness.fields_sent() == {"prompt": "a fox", "image": "png 64x64", "aspect_ratio": "16:9"}


@pytest.mark.parametrize(
    "fields",
    [
        {"seed": 0},
        {"width": 512, "height": 512},
        {"width": 1000, "height": 1024},
        {"model": "flux.1-schnell", "guidance": 3.0},
        {"model": "flux.1-schnell", "steps": 5},
        {"model": "flux.1-dev", "steps": 4},
        {"model": "flux.1-schnell", "operation": "CONTROL", "controls": (ControlImage("canny", SOURCE),)},
        {"operation": "CONTROL", "controls": (ControlImage("canny", SOURCE, 0.5),)},
        {"operation": "EDIT", "images": (SOURCE,)},
        {"model": "unknown"},
        {"count": 2},
        {"output_format": "png"},
    ],
)
async def test_what_a_model_would_draw_otherwise_is_refused_before_the_order(
    harness: NimHarness, fields: dict[str, Any]
) -> None:
    with pytest.raises(ProviderError) as caught:
        await harness.open().submit(call(**fields), Heard())
    assert caught.value.kind is ErrorKind.BAD_REQUEST
    assert not harness.fake.posts


async def test_check_tells_whether_the_container_is_ready(harness: NimHarness) -> None:
    assert await harness.open().check() == "the server is ready"
