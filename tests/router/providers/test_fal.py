"""What the suite does not show of fal: endpoints' own inputs, masks, costs, filters that blacken some pictures."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import pyvips
from pydantic import SecretStr

from services.router.providers.base import Account, ControlImage, InputImage, ProviderCall
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.fal import Fal
from services.router.providers.fal_answers import order_id_of
from services.router.providers.fal_models import CAPABILITIES
from services.router.providers.fal_prices import Prices
from services.router.providers.http import HttpRequest
from services.router.providers.webhooks import CallBack, CallBackRefusedError
from tests.router.providers.harness_base import MASK, SOURCE, Heard
from tests.router.providers.harness_fal import PICTURE, FalHarness


@pytest.fixture
async def harness() -> AsyncIterator[FalHarness]:
    made = FalHarness()
    await made.fake.start()
    yield made
    await made.stop()


def call(model: str, prompt: str = "a fox", **fields: Any) -> ProviderCall:
    return replace(ProviderCall("att_1", "acme", model, prompt, timeout=20.0), **fields)


WIDE: dict[str, Any] = {"width": 1344, "height": 768}
DIALECTS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("fal-ai/flux/dev", {"steps": 20, **WIDE}, {"num_inference_steps": 20, "image_size": WIDE, "num_images": 1}),
    ("fal-ai/flux-pro/v1.1", {"output_format": "jpeg"}, {"output_format": "jpeg", "num_images": 1}),
    ("fal-ai/flux-pro/v1.1-ultra", WIDE, {"aspect_ratio": "16:9", "num_images": 1}),
    ("fal-ai/flux-pro/kontext", {"images": (SOURCE,)}, {"image_url": PICTURE, "num_images": 1}),
    (
        "fal-ai/flux-pro/v1/fill",
        {"operation": "INPAINT", "images": (SOURCE,), "mask": MASK},
        {"image_url": PICTURE, "mask_url": PICTURE, "num_images": 1},
    ),
    (
        "fal-ai/flux-control-lora-canny",
        {"operation": "CONTROL", "controls": (ControlImage("canny", SOURCE, 0.5),)},
        {"control_lora_image_url": PICTURE, "control_lora_strength": 0.5, "num_images": 1},
    ),
    (
        "fal-ai/nano-banana/edit",
        {"operation": "EDIT", "images": (SOURCE, SOURCE)},
        {"image_urls": [PICTURE, PICTURE], "num_images": 1},
    ),
]


@pytest.mark.parametrize(("model", "fields", "told"), DIALECTS)
async def test_an_endpoint_is_asked_in_its_own_words(
    harness: FalHarness, model: str, fields: dict[str, Any], told: dict[str, Any]
) -> None:
    result = await harness.open().submit(call(model, **fields), Heard())
    assert harness.fields_sent() == {"prompt": "a fox", **told}
    assert result.provider_request_id == "/".join(model.split("/")[:2]) + "/requests/job-000001"


@pytest.mark.parametrize(
    ("model", "change_at"), [("fal-ai/flux-pro/v1/fill", 255), ("fal-ai/ideogram/v3/edit", 0), ("acme/painter", 255)]
)
async def test_a_mask_changes_what_is_white_in_the_mesh_and_what_the_endpoint_says(
    harness: FalHarness, model: str, change_at: int
) -> None:
    white = InputImage(bytes((pyvips.Image.black(64, 64) + 255).cast("uchar").write_to_buffer(".png")), "image/png")
    await harness.open().submit(call(model, operation="INPAINT", images=(SOURCE,), mask=white), Heard())
    assert pyvips.Image.new_from_buffer(harness.fake.sources[-1], "").avg() == change_at


async def test_a_second_image_is_refused_where_there_is_room_for_one(harness: FalHarness) -> None:
    with pytest.raises(ProviderError, match="no second image") as caught:
        await harness.open().submit(call("fal-ai/flux-pro/kontext", images=(SOURCE, SOURCE)), Heard())
    assert caught.value.kind is ErrorKind.BAD_REQUEST
    assert not harness.fake.posts


async def test_costs_are_billed_units_times_the_listed_price(harness: FalHarness) -> None:
    provider = harness.open()
    costs = [(await provider.submit(call("acme/painter"), Heard())).cost_micros for _ in range(2)]
    assert costs == [37_500, 37_500]  # 1.5 units of 0.025 USD
    assert harness.fake.priced == 1


@pytest.mark.parametrize("units", ["", "many", "NaN", "-1", "Infinity"])
async def test_units_that_are_none_cost_what_the_price_book_says(harness: FalHarness, units: str) -> None:
    harness.fake.units = units
    assert (await harness.open().submit(call("acme/painter"), Heard())).cost_micros is None


async def test_a_price_that_cannot_be_read_is_not_asked_for_again_at_once(harness: FalHarness) -> None:
    class Counting:
        asked = 0

        async def send(self, request: HttpRequest) -> Any:
            self.asked += 1
            return await harness.http.send(request)

    now, http = [0.0], Counting()
    prices = Prices(http, f"{harness.fake.origin}/nowhere", dict, lambda: now[0])  # type: ignore[arg-type]
    assert [await prices.cost_micros("acme/painter", "1") for _ in range(3)] == [None, None, None]
    assert http.asked == 1
    now[0] += 601
    await prices.cost_micros("acme/painter", "1")
    assert http.asked == 2


async def test_pictures_that_the_filter_blackened_are_left_out(harness: FalHarness) -> None:
    result = await harness.open().submit(call("acme/painter", "late:half_nsfw", count=3), Heard())
    assert (len(result.images), result.places) == (2, (1, 2))
    assert [image.seed for image in result.images] == [None, None]


@pytest.mark.parametrize("prompt", ["late:policy_second", "late:policy_status"])
async def test_a_refusal_is_found_wherever_it_is_told(harness: FalHarness, prompt: str) -> None:
    with pytest.raises(ProviderError) as caught:
        await harness.open().submit(call("acme/painter", prompt), Heard())
    assert caught.value.kind is ErrorKind.REFUSED


def test_no_option_chooses_a_size_or_a_price() -> None:
    assert not {"resolution", "image_size", "num_images", "rendering_speed"} & CAPABILITIES.options.keys()


@pytest.mark.parametrize("prompt", ["url:flaky", "poll:overloaded:1", "poll:bad_gateway:1"])
async def test_failing_polls_and_addresses_are_asked_again(harness: FalHarness, prompt: str) -> None:
    result = await harness.open().submit(call("acme/painter", prompt), Heard())
    assert [image.seed for image in result.images] == [42]
    assert result.usage == {"milliseconds": 1235}
    assert harness.times_asked(prompt) == 1


async def test_an_order_whose_answer_was_lost_is_taken_up_by_the_id_of_its_call_back(harness: FalHarness) -> None:
    provider, heard = harness.open(), Heard()
    await provider.submit(call("fal-ai/flux/dev"), heard)
    alone = heard.ids[0].rpartition("/")[2]
    result = await provider.resume(call("fal-ai/flux/dev"), alone, Heard())
    assert (len(result.images), result.provider_request_id) == (1, alone)
    assert harness.times_asked("a fox") == 1


QUEUE = "https://queue.fal.run"
ADDRESSES = [
    ({"request_id": "r1", "response_url": f"{QUEUE}/a/b/requests/r1"}, "a/b/requests/r1"),
    (
        {"request_id": "r1", "response_url": "https://queue.fal.run/a/b/requests/r1/response"},
        "a/b/requests/r1/response",
    ),
    ({"request_id": "r1", "response_url": "https://elsewhere.example/a/b/requests/r1"}, "x/y/requests/r1"),
    ({"request_id": "r1"}, "x/y/requests/r1"),
]


@pytest.mark.parametrize(("told", "path"), ADDRESSES)
def test_an_order_s_path_is_never_at_another_host(told: dict[str, Any], path: str) -> None:
    assert order_id_of(told, QUEUE, "x/y/z") == path


@pytest.mark.parametrize("told", [{}, {"request_id": 5}, {"request_id": "../../x"}])
def test_an_answer_without_an_order_is_broken(told: dict[str, Any]) -> None:
    with pytest.raises(ProviderError) as caught:
        order_id_of(told, QUEUE, "x/y")
    assert caught.value.kind is ErrorKind.BROKEN_ANSWER


async def test_a_call_back_is_believed_only_whole_and_fresh(harness: FalHarness) -> None:
    provider = harness.open()
    headers, body = harness.fake.call_back("job-1")
    assert await provider.verify(CallBack(headers, body)) == "job-1"
    assert await provider.verify(CallBack(headers, body, {"of": "a/b"})) == "a/b/requests/job-1"
    assert await provider.verify(CallBack(headers, body, {"of": "https://elsewhere"})) == "job-1"
    stale = {**headers, "x-fal-webhook-timestamp": "1700000000"}
    unsigned = {name: value for name, value in headers.items() if not name.endswith("signature")}
    for changed in (CallBack(stale, body), CallBack(unsigned, body), CallBack(headers, body + b" ")):
        with pytest.raises(CallBackRefusedError):
            await provider.verify(changed)


async def test_payloads_are_not_kept_where_the_account_says_so(harness: FalHarness) -> None:
    account = Account("stub", harness.fake.origin, SecretStr(harness.fake.key), settings={"store_io": "0"})
    await Fal(account, harness.http).submit(call("acme/painter"), Heard())
    assert harness.fake.orders[-1].headers["X-Fal-Store-IO"] == "0"


async def test_check_tells_what_is_left(harness: FalHarness) -> None:
    assert await harness.open().check() == "account acme, 24.5 USD left"


async def test_check_accepts_a_key_that_may_not_see_what_is_left(harness: FalHarness) -> None:
    harness.fake.admin = False
    assert await harness.open().check() == "the key is accepted, and may not see what is left"
    with pytest.raises(ProviderError) as caught:
        await Fal(
            Account("stub", "", SecretStr("x"), settings={"platform": f"{harness.fake.origin}/platform"}), harness.http
        ).check()
    assert caught.value.kind is ErrorKind.AUTHENTICATION
