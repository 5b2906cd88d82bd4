"""What the suite does not show of ModelsLab: orders drawn at once, its filter, schedulers, call backs."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import pyvips
from pydantic import SecretStr

from services.router.providers.base import Account, ControlImage, InputImage, ProviderCall
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.http import HttpAnswer
from services.router.providers.modelslab import ModelsLab
from services.router.providers.modelslab_answers import error_of
from services.router.providers.webhooks import CallBack, CallBackRefusedError
from tests.router.providers.harness_base import MASK, SOURCE, Heard
from tests.router.providers.harness_modelslab import ModelsLabHarness


@pytest.fixture
async def harness() -> AsyncIterator[ModelsLabHarness]:
    made = ModelsLabHarness()
    await made.fake.start()
    yield made
    await made.stop()


def call(prompt: str = "a fox", **fields: Any) -> ProviderCall:
    return replace(ProviderCall("att_1", "acme", "acme-painter", prompt, timeout=20.0), **fields)


def adapter(harness: ModelsLabHarness, key: str = "modelslab-stub", **settings: str) -> ModelsLab:
    return ModelsLab(Account("stub", f"{harness.fake.origin}/api/v6", SecretStr(key), settings=settings), harness.http)


async def test_what_is_drawn_at_once_is_not_fetched(harness: ModelsLabHarness) -> None:
    heard = Heard()
    result = await adapter(harness).submit(call("at_once"), heard)
    assert (result.provider_request_id, [image.seed for image in result.images]) == ("images/1001", [42])
    assert heard.ids == ["images/1001"]
    assert harness.fake.jobs["1001"].polls == 0


@pytest.mark.parametrize("prompt", ["url:flaky", "poll:overloaded:1", "poll:rate_limited:1"])
async def test_failing_fetches_and_addresses_are_asked_again(harness: ModelsLabHarness, prompt: str) -> None:
    assert len((await adapter(harness).submit(call(prompt, count=2), Heard())).images) == 2
    assert harness.times_asked(prompt) == 1


async def test_pictures_that_the_filter_blackened_are_left_out(harness: ModelsLabHarness) -> None:
    result = await adapter(harness).submit(call("late:half_black", count=3), Heard())
    assert (len(result.images), result.places) == (2, (1, 2))


async def test_the_account_may_keep_its_own_filter(harness: ModelsLabHarness) -> None:
    await adapter(harness, safety="no").submit(call(), Heard())
    assert not {"safety_checker", "safety_checker_type"} & set(harness.fields_sent())


@pytest.mark.parametrize(("asked", "sent"), [("unipc", "UniPCMultistepScheduler"), ("LCMScheduler", "LCMScheduler")])
async def test_schedulers_have_the_vendor_s_names(harness: ModelsLabHarness, asked: str, sent: str) -> None:
    await adapter(harness).submit(call(scheduler=asked), Heard())
    assert harness.fields_sent()["scheduler"] == sent


async def test_a_pose_is_its_openpose(harness: ModelsLabHarness) -> None:
    asked = call(operation="CONTROL", controls=(ControlImage("pose", SOURCE),), width=512, height=512)
    await adapter(harness).submit(asked, Heard())
    assert harness.fields_sent()["controlnet_model"] == "openpose"


async def test_sources_are_uploaded_as_they_are(harness: ModelsLabHarness) -> None:
    await adapter(harness).submit(call(operation="INPAINT", images=(SOURCE,), mask=MASK), Heard())
    assert list(harness.fake.uploads.values()) == [SOURCE.data, MASK.data]


async def test_what_it_has_no_field_for_is_refused_before_the_order(harness: ModelsLabHarness) -> None:
    with pytest.raises(ProviderError) as caught:
        await adapter(harness).submit(call(operation="EDIT", images=(SOURCE, SOURCE)), Heard())
    assert caught.value.kind is ErrorKind.BAD_REQUEST
    assert not harness.fake.posts


@pytest.mark.parametrize("size", [(1032, 64), (64, 1200), (60, 64)])
@pytest.mark.parametrize("operation", ["IMAGE_TO_IMAGE", "INPAINT"])
async def test_a_source_of_a_size_that_is_not_drawn_is_refused(
    harness: ModelsLabHarness, operation: str, size: tuple[int, int]
) -> None:
    source = InputImage(bytes(pyvips.Image.black(*size).write_to_buffer(".png")), "image/png")
    mask = source if operation == "INPAINT" else None
    with pytest.raises(ProviderError, match="draws no picture of") as caught:
        await adapter(harness).submit(call(operation=operation, images=(source,), mask=mask), Heard())
    assert caught.value.kind is ErrorKind.BAD_REQUEST
    assert not harness.fake.posts


async def test_a_failing_upload_orders_nothing(harness: ModelsLabHarness) -> None:
    with pytest.raises(ProviderError) as caught:
        await adapter(harness, "another-key").submit(call(operation="EDIT", images=(SOURCE,)), Heard())
    assert caught.value.kind is ErrorKind.AUTHENTICATION
    assert "another-key" not in f"{caught.value!r}{caught.value.__cause__!r}"
    assert not harness.fake.posts


LOST_UPLOADS = [(502, "bad gateway"), (504, ""), (408, ""), (200, "{}"), (200, "<html>")]


@pytest.mark.parametrize("answer", LOST_UPLOADS)
async def test_an_upload_whose_outcome_is_lost_is_no_order(harness: ModelsLabHarness, answer: tuple[int, str]) -> None:
    harness.fake.failing_upload = answer
    with pytest.raises(ProviderError) as caught:
        await adapter(harness).submit(call(operation="EDIT", images=(SOURCE,)), Heard())
    assert caught.value.kind is ErrorKind.OVERLOADED
    assert not harness.fake.posts


async def test_a_call_back_is_believed_when_the_vendor_knows_its_order(harness: ModelsLabHarness) -> None:
    provider, heard = adapter(harness), Heard()
    await provider.submit(call(operation="REMOVE_BACKGROUND", images=(SOURCE,)), heard)
    body = json.dumps({"status": "success", "id": 1001}).encode()
    assert await provider.verify(CallBack({}, body, {"of": "image_editing"})) == heard.ids[0]
    elsewhere = CallBack({}, body), CallBack({}, body, {"of": "../.."}), CallBack({}, b"[]"), CallBack({}, b"{}")
    for changed in elsewhere:
        with pytest.raises(CallBackRefusedError):
            await provider.verify(changed)
    await harness.stop_fake()
    with pytest.raises(CallBackRefusedError, match="cannot be asked"):
        await provider.verify(CallBack({}, body, {"of": "image_editing"}))


async def test_check_tells_what_is_left(harness: ModelsLabHarness) -> None:
    assert await adapter(harness).check() == "43.6 USD left"


SAID = [
    (200, {"status": "error", "message": "NSFW content"}, ErrorKind.REFUSED),
    (400, {"status": "error", "messege": "prompt has banned words"}, ErrorKind.REFUSED),
    (200, {"status": "error", "message": "Your account is banned"}, ErrorKind.BAD_REQUEST),
    (200, {"status": "failed", "message": "no reason"}, ErrorKind.OVERLOADED),
    (200, {"status": "error", "message": {"width": ["must be divisible by 8"]}}, ErrorKind.BAD_REQUEST),
    (403, {"status": "error", "message": "no"}, ErrorKind.AUTHENTICATION),
    (504, {"status": "error", "message": "Rate limit exceeded, try again"}, ErrorKind.UNKNOWN_OUTCOME),
    (200, {"status": "success"}, ErrorKind.BROKEN_ANSWER),
    (200, [], ErrorKind.BROKEN_ANSWER),
]


@pytest.mark.parametrize(("status", "told", "kind"), SAID)
def test_an_error_is_read_by_its_message_and_then_by_its_status(status: int, told: object, kind: ErrorKind) -> None:
    assert error_of(HttpAnswer(status, {}, json.dumps(told).encode())).kind is kind
