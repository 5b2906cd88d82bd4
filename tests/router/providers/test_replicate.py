"""What the suite does not show of Replicate: models' own inputs, masks' polarity, uploads, outputs of every shape."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
import pyvips
from pydantic import SecretStr

from services.router.providers.base import Account, ControlImage, InputImage, ProviderCall
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.replicate import Replicate
from services.router.providers.replicate_answers import REFUSAL, steps_of
from tests.router.providers.harness_base import MASK, SOURCE, Heard
from tests.router.providers.harness_replicate import PICTURE, ReplicateHarness


@pytest.fixture
async def harness() -> AsyncIterator[ReplicateHarness]:
    made = ReplicateHarness()
    await made.fake.start()
    yield made
    await made.stop()


def call(model: str, prompt: str = "a fox", **fields: Any) -> ProviderCall:
    return replace(ProviderCall("att_1", "acme", model, prompt, timeout=20.0), **fields)


def adapter(harness: ReplicateHarness, settings: Mapping[str, str] | None = None, key: str = "r8_stub") -> Replicate:
    account = Account("stub", f"{harness.fake.origin}/v1", SecretStr(key), settings=settings or {})
    return Replicate(account, harness.http)


WIDE: dict[str, Any] = {"width": 1344, "height": 768}
DIALECTS = [
    ("black-forest-labs/flux-schnell", WIDE, {"aspect_ratio": "16:9", "num_outputs": 1}),
    ("black-forest-labs/flux-1.1-pro", WIDE, {"aspect_ratio": "custom", "width": 1344, "height": 768}),
    ("black-forest-labs/flux-1.1-pro", {"output_format": "jpeg"}, {"output_format": "jpg"}),
    ("black-forest-labs/flux-1.1-pro-ultra", WIDE, {"aspect_ratio": "16:9"}),
    ("stability-ai/sdxl:" + "0" * 64, {"scheduler": "euler"}, {"scheduler": "K_EULER", "num_outputs": 1}),
    ("black-forest-labs/flux-kontext-pro", {"images": (SOURCE,)}, {"input_image": PICTURE}),
    (
        "black-forest-labs/flux-canny-pro",
        {"controls": (ControlImage("canny", SOURCE),), "guidance": 3.0},
        {"control_image": PICTURE, "guidance": 3.0},
    ),
    (
        "google/nano-banana",
        {"images": (SOURCE, SOURCE), "width": 1024, "height": 1024},
        {"image_input": [PICTURE, PICTURE], "aspect_ratio": "1:1"},
    ),
    (
        "black-forest-labs/flux-fill-pro",
        {"operation": "INPAINT", "images": (SOURCE,), "mask": MASK, "steps": 20},
        {"image": PICTURE, "mask": PICTURE, "steps": 20},
    ),
]


@pytest.mark.parametrize(("model", "fields", "told"), DIALECTS)
async def test_a_model_is_asked_in_its_own_words(
    harness: ReplicateHarness, model: str, fields: dict[str, Any], told: dict[str, Any]
) -> None:
    await adapter(harness).submit(call(model, **fields), Heard())
    assert harness.fields_sent() == {"version": model, "prompt": "a fox", **told}


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("black-forest-labs/flux-kontext-pro", {"negative_prompt": "blur"}, "takes no negative prompt"),
    ("black-forest-labs/flux-kontext-pro", {"count": 2}, "takes no count above one"),
    ("black-forest-labs/flux-kontext-pro", {"images": (SOURCE, SOURCE)}, "takes no second image"),
    ("black-forest-labs/flux-schnell", {"width": 1000, "height": 100}, "no picture of the shape 1000x100"),
    (
        "black-forest-labs/flux-schnell",
        {"operation": "INPAINT", "images": (SOURCE,), "mask": MASK},
        "no image, no mask",
    ),
]


@pytest.mark.parametrize(("model", "fields", "told"), REFUSED)
async def test_what_a_model_has_no_input_for_is_refused_before_the_order(
    harness: ReplicateHarness, model: str, fields: dict[str, Any], told: str
) -> None:
    with pytest.raises(ProviderError, match=told) as caught:
        await adapter(harness).submit(call(model, **fields), Heard())
    assert caught.value.kind is ErrorKind.BAD_REQUEST
    assert not harness.fake.posts


@pytest.mark.parametrize(
    ("model", "settings", "change_at"),
    [
        ("stability-ai/sdxl:" + "0" * 64, {}, 255),
        ("ideogram-ai/ideogram-v3-turbo", {}, 0),
        ("acme/painter", {"inputs:acme/painter": "prompt=prompt image=image mask=mask"}, 255),
        ("acme/painter", {"inputs:acme/painter": "prompt=prompt image=image mask!=mask"}, 0),
    ],
)
async def test_a_mask_changes_what_is_white_in_the_mesh_and_what_the_model_says(
    harness: ReplicateHarness, model: str, settings: dict[str, str], change_at: int
) -> None:
    white = InputImage(bytes((pyvips.Image.black(64, 64) + 255).cast("uchar").write_to_buffer(".png")), "image/png")
    asked = call(model, operation="INPAINT", images=(SOURCE,), mask=white)
    await adapter(harness, settings).submit(asked, Heard())
    sent = pyvips.Image.new_from_buffer(harness.fake.sources[-1], "")
    assert sent.avg() == change_at


async def test_an_operator_describes_a_model_in_the_catalog(harness: ReplicateHarness) -> None:
    settings = {"inputs:acme/painter": "prompt=prompt width=width height=height many=num_outputs"}
    await adapter(harness, settings).submit(call("acme/painter", count=2, **WIDE), Heard())
    assert harness.fields_sent() == {"version": "acme/painter", "prompt": "a fox", **WIDE, "num_outputs": 2}


@pytest.mark.parametrize("text", ["oil", "prompt=prompt colour=tint", "prompt"])
async def test_a_description_that_nobody_understands_is_told_at_start(harness: ReplicateHarness, text: str) -> None:
    with pytest.raises(ValueError, match="no term"):
        adapter(harness, {"inputs:acme/painter": text})


async def test_a_large_picture_is_uploaded(harness: ReplicateHarness) -> None:
    noise = pyvips.Image.gaussnoise(640, 512, mean=128, sigma=60).cast("uchar").write_to_buffer(".png")
    assert len(noise) > 256 * 1024
    large = InputImage(bytes(noise), "image/png")
    await adapter(harness).submit(call("black-forest-labs/flux-kontext-pro", images=(large,)), Heard())
    assert list(harness.fake.uploads.values()) == [large.data]
    assert harness.fields_sent()["input_image"] == "png 640x512"


LOST_UPLOADS = [(502, "bad gateway"), (504, ""), (408, ""), (200, "{}"), (200, "<html>")]


@pytest.mark.parametrize("answer", LOST_UPLOADS)
async def test_an_upload_whose_outcome_is_lost_is_no_order(harness: ReplicateHarness, answer: tuple[int, str]) -> None:
    harness.fake.failing_upload = answer
    large = InputImage(SOURCE.data + bytes(256 * 1024), "image/png")
    with pytest.raises(ProviderError) as caught:
        await adapter(harness).submit(call("black-forest-labs/flux-kontext-pro", images=(large,)), Heard())
    assert caught.value.kind is ErrorKind.OVERLOADED
    assert not harness.fake.posts


@pytest.mark.parametrize(
    "prompt",
    ["shape:string", "shape:object", "shape:data", "url:flaky", "poll:overloaded:1", "poll:rate_limited:1", "cut"],
)
async def test_outputs_of_any_shape_come_home_through_failing_polls(harness: ReplicateHarness, prompt: str) -> None:
    result = await adapter(harness).submit(call("acme/painter", prompt), Heard())
    assert [image.media_type for image in result.images] == ["image/png"]
    assert harness.times_asked(prompt) == 1


async def test_pictures_that_a_model_s_filter_dropped_are_refused(harness: ReplicateHarness) -> None:
    result = await adapter(harness).submit(call("stability-ai/sdxl:" + "0" * 64, "shape:dropped", count=3), Heard())
    assert (len(result.images), result.places) == (2, (0, 1))
    whole = await adapter(harness).submit(call("stability-ai/sdxl:" + "0" * 64, "shape:fewer", count=3), Heard())
    assert whole.places is None


async def test_never_more_pictures_than_asked_and_what_the_vendor_tells(harness: ReplicateHarness) -> None:
    result = await adapter(harness).submit(call("acme/painter", model_version="v1"), Heard())
    assert (len(result.images), result.usage, result.model_version) == (1, {"milliseconds": 1235}, "5c7d5dc6")
    hidden = await adapter(harness).submit(call("acme/painter", "hidden", model_version="v1"), Heard())
    assert hidden.model_version == "v1"


async def test_nobody_is_told_to_call_back_without_a_signing_secret(harness: ReplicateHarness) -> None:
    await adapter(harness).submit(call("acme/painter", callback_url="https://mesh.example/hooks/x"), Heard())
    assert "webhook" not in harness.fields_sent()


async def test_a_failure_names_the_prediction(harness: ReplicateHarness) -> None:
    heard = Heard()
    with pytest.raises(ProviderError) as caught:
        await adapter(harness).submit(call("acme/painter", "late:nsfw"), heard)
    assert [caught.value.provider_request_id] == heard.ids


async def test_a_wrong_key_fails_check_and_cancel(harness: ReplicateHarness) -> None:
    assert await adapter(harness).check() == "account acme (organization)"
    for asked in (adapter(harness, key="r8_other").check(), adapter(harness, key="r8_other").cancel("job-1")):
        with pytest.raises(ProviderError) as caught:
            await asked
        assert caught.value.kind is ErrorKind.AUTHENTICATION
        assert "r8_other" not in str(caught.value)


async def test_a_prediction_that_never_began_is_not_billed(harness: ReplicateHarness) -> None:
    heard = Heard()
    with pytest.raises(ProviderError):
        await adapter(harness).submit(call("acme/painter", "late:aborted"), heard)
    assert await adapter(harness).cancel(heard.ids[0])


SAID = [
    ("NSFW content detected. Try running it again, or try a different prompt.", True),
    ("The input or output was flagged as sensitive. Please try again with different inputs. (E005)", True),
    ("Request Moderated", True),
    ("The prompt violates our content policy.", True),
    ("All images were blocked by the safety filter", True),
    ("CUDA out of memory. Tried to allocate 2.00 GiB", False),
    ("Could not load the safety checker's weights", False),
    ("Prediction interrupted; please retry (code: PA)", False),
]


@pytest.mark.parametrize(("text", "refused"), SAID)
def test_a_filter_s_refusal_is_told_from_a_failure_by_its_text(text: str, refused: bool) -> None:
    assert bool(REFUSAL.search(text)) is refused


LOGS = [
    ("Using seed: 7\n  0%|          | 0/12 [00:00<?, ?it/s]\n 25%|##5       | 3/12 [00:01<00:03,  2.9it/s]", (3, 12)),
    ("  0%|          | 0/12 [00:00<?, ?it/s]", None),
    ("Loaded 3/12 weights", None),
    ("", None),
    (None, None),
]


@pytest.mark.parametrize(("logs", "steps"), LOGS)
def test_progress_is_the_last_bar_of_the_logs(logs: object, steps: tuple[int, int] | None) -> None:
    assert steps_of(logs) == steps
