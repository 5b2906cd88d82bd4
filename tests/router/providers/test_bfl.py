"""What only Black Forest Labs does: polling addresses, credits, one adapter for models with different fields."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from pydantic import SecretStr

from services.router.providers.base import Account, Margins, ProviderCall
from services.router.providers.bfl import GLOBAL, Bfl
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.http import PooledHttpClient
from services.router.providers.polling import Pace
from tests.router.fakes.pictures import draw
from tests.router.providers.harness_base import MASK, SOURCE, Heard
from tests.router.providers.harness_bfl import BflHarness
from tests.router.providers.scripted import Scripted

CALL = ProviderCall("att_1", "acme", "flux-2-pro", "a red fox", timeout=20.0)


@pytest.fixture
async def harness() -> AsyncIterator[BflHarness]:
    made = BflHarness()
    yield made
    await made.stop()


def scripted(http: Scripted, base: str = "") -> Bfl:
    return Bfl(Account("bfl", base, SecretStr("secret-key")), http, Pace(0.0, 0.0))


READY = {"id": "o1", "status": "Ready", "result": {"sample": "https://cdn.example/a.png", "seed": 5}}


@pytest.mark.parametrize(
    ("told", "asked"),
    [
        ("https://api.eu2.bfl.ai/v1/get_result?id=o1&v=2", "https://api.eu2.bfl.ai/v1/get_result?id=o1&v=2"),
        ("https://api.bfl.ai.evil.example/v1/get_result?id=o1", f"{GLOBAL}/v1/get_result?id=o1"),
        ("http://api.eu2.bfl.ai/v1/get_result?id=o1", f"{GLOBAL}/v1/get_result?id=o1"),
    ],
)
async def test_polls_at_the_address_told_if_it_is_the_vendors(told: str, asked: str) -> None:
    http, heard = Scripted({"id": "o1", "polling_url": told}, READY, draw(16, 4)), Heard()
    result = await scripted(http).submit(CALL, heard)
    assert http.asked[1].url == asked
    assert "x-key" not in http.asked[2].headers  # the signed address of the picture
    again = Scripted(READY, draw(16, 4))
    await scripted(again).resume(CALL, heard.ids[0], Heard())
    assert again.asked[0].url == asked
    assert result.images[0].seed == 5


async def test_a_global_endpoint_is_told_no_address_to_call_back() -> None:
    http = Scripted({"id": "o1", "polling_url": f"{GLOBAL}/v1/get_result?id=o1"}, READY, draw(16, 4))
    await scripted(http).submit(replace(CALL, callback_url="https://mesh.example/hooks"), Heard())
    assert "webhook_url" not in json.loads(http.asked[0].body or b"")


async def test_reports_the_cost_in_credits(harness: BflHarness) -> None:
    result = await (await harness.start()).submit(CALL, Heard())
    assert result.cost_micros == 45_000


async def test_a_mask_goes_out_as_it_is(harness: BflHarness) -> None:
    provider = await harness.start()
    call = replace(CALL, model="flux-pro-1.0-fill", operation="INPAINT", images=(SOURCE,), mask=MASK)
    await provider.submit(call, Heard())
    assert harness.fake.pictures == {"image": SOURCE.data, "mask": MASK.data}  # white = repaint there too


async def test_several_images_are_numbered(harness: BflHarness) -> None:
    await (await harness.start()).submit(replace(CALL, operation="EDIT", images=(SOURCE, SOURCE, SOURCE)), Heard())
    assert {"input_image", "input_image_2", "input_image_3"} < set(harness.fields_sent())


@pytest.mark.parametrize("prompt", ["poll:overloaded:2", "poll:rate_limited:1", "poll:bad_gateway:1", "url:flaky"])
async def test_polls_and_downloads_are_repeated(harness: BflHarness, prompt: str) -> None:
    result = await (await harness.start()).submit(replace(CALL, prompt=prompt), Heard())
    assert len(result.images) == 1
    assert harness.times_asked(prompt) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"model": "sdxl"},
        {"steps": 20},
        {"options": {"grounding": True}},
        {"operation": "INPAINT", "images": (SOURCE,), "mask": MASK},
        {
            "model": "flux-pro-1.0-expand",
            "operation": "OUTPAINT",
            "images": (SOURCE,),
            "margins": Margins(left=64),
            "width": 64,
            "height": 64,
        },
        {"model": "flux-kontext-pro", "width": 4000, "height": 100},
        {"model": "flux-3-image", "width": 1200, "height": 688},
    ],
)
async def test_what_a_model_does_not_take_is_never_sent(harness: BflHarness, change: dict[str, object]) -> None:
    provider = await harness.start()
    with pytest.raises(ProviderError) as caught:
        await provider.submit(replace(CALL, **change), Heard())  # type: ignore[arg-type]
    assert caught.value.kind is ErrorKind.BAD_REQUEST
    assert not harness.fake.orders


async def test_tells_the_credits_left(harness: BflHarness) -> None:
    assert await (await harness.start()).check() == "12.5 credits left"


async def test_asks_once_more_right_before_sending(harness: BflHarness) -> None:
    def stop() -> None:
        raise ProviderError(ErrorKind.UNREACHABLE, "the lease is over")

    provider = await harness.start()
    with pytest.raises(ProviderError, match="lease"):
        await provider.submit(replace(CALL, before_sending=stop), Heard())
    assert not harness.fake.orders


def test_the_secret_of_call_backs_is_not_the_key() -> None:
    client = PooledHttpClient()
    one, other = (Bfl(Account("bfl", api_key=SecretStr(key)), client) for key in ("a", "b"))
    assert len({one._hook_secret, other._hook_secret, "a", "b"}) == 4
