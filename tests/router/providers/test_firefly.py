"""What only Firefly does: tokens, pictures handed in first, exact sizes of fills, polls at other hosts of Adobe's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from pydantic import SecretStr

from services.router.providers.base import Account, ControlImage, InputImage, Margins, ProviderCall
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.firefly import BASE, IMS, Firefly
from services.router.providers.polling import Pace
from tests.router.fakes.firefly import CLIENT_SECRET
from tests.router.fakes.pictures import draw
from tests.router.providers.harness_base import SOURCE, Heard
from tests.router.providers.harness_firefly import LARGE, FireflyHarness, FireflyImage5Harness, source
from tests.router.providers.scripted import Scripted

CALL = ProviderCall("att_1", "acme", "image4_standard", "a red fox", timeout=20.0)
TOKEN = {"access_token": "t1", "expires_in": 86399}
DONE = {"status": "succeeded", "result": {"outputs": [{"seed": 5, "image": {"url": "https://s3.example/a?sig=1"}}]}}


@pytest.fixture
async def harness() -> AsyncIterator[FireflyHarness]:
    made = FireflyHarness()
    yield made
    await made.stop()


@pytest.fixture
async def image5() -> AsyncIterator[FireflyImage5Harness]:
    made = FireflyImage5Harness()
    yield made
    await made.stop()


def scripted(http: Scripted) -> Firefly:
    secrets = {"client_secret": SecretStr("shh")}
    return Firefly(Account("firefly", "", SecretStr("client"), secrets=secrets), http, Pace(0.0, 0.0))


def order(status_url: str) -> dict[str, object]:
    return {"jobId": "urn:ff:jobs:eu:1", "statusUrl": status_url, "cancelUrl": "https://elsewhere.example"}


async def test_one_token_serves_order_upload_polls_and_later_calls(harness: FireflyHarness) -> None:
    provider = await harness.start()
    await provider.submit(replace(CALL, operation="IMAGE_TO_IMAGE", images=(SOURCE,)), Heard())
    await provider.submit(CALL, Heard())
    assert (await provider.check()).endswith("1 custom models")
    assert harness.fake.tokens_given == 1


async def test_wrong_credentials_order_nothing(harness: FireflyHarness) -> None:
    await harness.start()
    account = Account("f", harness.fake.origin, SecretStr("client"), settings={"ims": harness.fake.origin})
    with pytest.raises(ProviderError, match="invalid_client") as caught:
        await Firefly(account, harness.http).submit(CALL, Heard())
    assert caught.value.kind is ErrorKind.AUTHENTICATION
    assert not harness.fake.orders


async def test_a_refused_token_is_replaced(harness: FireflyHarness) -> None:
    provider = await harness.start()
    await provider.submit(CALL, Heard())
    harness.fake.tokens_given = 7  # the first one is no longer believed
    with pytest.raises(ProviderError) as caught:
        await provider.submit(CALL, Heard())
    assert caught.value.kind is ErrorKind.AUTHENTICATION
    assert (await provider.submit(CALL, Heard())).images


async def test_a_token_that_ends_while_polling_is_replaced(harness: FireflyHarness) -> None:
    provider, heard = await harness.start(), Heard()
    await provider.submit(CALL, heard)
    harness.fake.tokens_given = 7
    assert (await provider.resume(CALL, heard.ids[0], Heard())).images
    assert harness.fake.posts[CALL.prompt] == 1


async def test_the_lease_is_asked_again_after_the_uploads(harness: FireflyHarness) -> None:
    def stop() -> None:
        raise ProviderError(ErrorKind.UNREACHABLE, "the lease is over")

    provider = await harness.start()
    call = replace(CALL, operation="IMAGE_TO_IMAGE", images=(SOURCE,), before_sending=stop)
    with pytest.raises(ProviderError, match="lease"):
        await provider.submit(call, Heard())
    assert [*harness.fake.stored.values()] == [SOURCE.data]
    assert not harness.fake.orders


async def test_a_picture_that_the_storage_refuses_is_a_refusal(harness: FireflyHarness) -> None:
    provider = await harness.start()
    harness.fake.unsafe.add(SOURCE.data)
    with pytest.raises(ProviderError, match="input_media_unsafe") as caught:
        await provider.submit(replace(CALL, operation="IMAGE_TO_IMAGE", images=(SOURCE,)), Heard())
    assert caught.value.kind is ErrorKind.REFUSED
    assert not harness.fake.orders


async def test_a_mask_goes_out_as_it_is(harness: FireflyHarness) -> None:
    mask = InputImage(draw(1024, 256), "image/png")
    call = replace(CALL, model="fill", operation="INPAINT", images=(LARGE,), mask=mask)
    await (await harness.start()).submit(call, Heard())
    assert [*harness.fake.stored.values()] == [LARGE.data, mask.data]  # white = editable there too
    assert "x-model-version" not in harness.fake.orders[-1].headers


async def test_pictures_have_seeds_in_a_row_and_tell_them(harness: FireflyHarness) -> None:
    result = await (await harness.start()).submit(replace(CALL, seed=2**32 - 2, count=3), Heard())
    assert [image.seed for image in result.images] == [2**31 - 2, 2**31 - 1, 0]


async def test_a_custom_model_is_named_by_its_id(harness: FireflyHarness) -> None:
    await (await harness.start()).submit(replace(CALL, model="image4_custom:urn:aaid:1"), Heard())
    assert harness.fields_sent() == {"prompt": "a red fox", "customModelId": "urn:aaid:1"}
    assert harness.fake.orders[-1].headers["x-model-version"] == "image4_custom"


async def test_both_controls_at_once(harness: FireflyHarness) -> None:
    controls = (ControlImage("style", SOURCE), ControlImage("structure", SOURCE, 1.0))
    await (await harness.start()).submit(replace(CALL, operation="CONTROL", controls=controls), Heard())
    assert harness.fields_sent() == {
        "prompt": "a red fox",
        "style": {"imageReference": source()},
        "structure": {"imageReference": source(), "strength": 100},
    }


async def test_similar_pictures_need_no_prompt(harness: FireflyHarness) -> None:
    call = replace(CALL, operation="IMAGE_TO_IMAGE", images=(SOURCE,), options={"similar": True}, count=2)
    assert len((await (await harness.start()).submit(call, Heard())).images) == 2
    assert harness.fields_sent() == {"image": source(), "numVariations": 2}


async def test_options_are_named_as_the_services_do(harness: FireflyHarness, image5: FireflyImage5Harness) -> None:
    options = {"content_class": "art", "visual_intensity": 4, "locale": "de-DE"}
    await (await harness.start()).submit(replace(CALL, options=options), Heard())
    sent = {"contentClass": "art", "visualIntensity": 4, "promptBiasingLocaleCode": "de-DE"}
    assert harness.fields_sent() == {"prompt": "a red fox", **sent}
    options = {"locale": "de-DE", "prompt_reasoner": "quality"}
    await (await image5.start()).submit(replace(CALL, model="image5", options=options), Heard())
    payload = {"localeCode": "de-DE", "prompt_reasoner": "quality"}
    assert image5.fields_sent() == {"prompt": "a red fox", "modelSpecificPayload": payload}


@pytest.mark.parametrize(
    ("size", "shape"),
    [((1024, 1024), ("1:1", "1MP")), ((2048, 1152), ("16:9", "2.4MP")), ((1776, 2368), ("3:4", "4MP"))],
)
async def test_image5_takes_shapes(image5: FireflyImage5Harness, size: tuple[int, int], shape: tuple[str, str]) -> None:
    await (await image5.start()).submit(replace(CALL, model="image5", width=size[0], height=size[1]), Heard())
    assert image5.fields_sent() == {"prompt": "a red fox", "aspectRatio": shape[0], "resolutionLevel": shape[1]}


@pytest.mark.parametrize("prompt", ["poll:overloaded:2", "poll:rate_limited:1", "poll:bad_gateway:1", "url:flaky"])
async def test_polls_and_downloads_are_repeated(harness: FireflyHarness, prompt: str) -> None:
    assert len((await (await harness.start()).submit(replace(CALL, prompt=prompt), Heard())).images) == 1
    assert harness.times_asked(prompt) == 1


@pytest.mark.parametrize(
    ("told", "asked"),
    [
        ("https://firefly-epo854.adobe.io/v3/status/urn:ff:jobs:eu:1", "https://firefly-epo854.adobe.io/v3/"),
        ("https://firefly.adobe.io.evil.example/v3/status/urn:ff:jobs:eu:1", f"{BASE}/v3/"),
        ("http://firefly-epo854.adobe.io/v3/status/urn:ff:jobs:eu:1", f"{BASE}/v3/"),
        (f"{BASE}/v3/status/urn%3Aff%3Ajobs%3Aeu%3A1", f"{BASE}/v3/"),
    ],
)
async def test_polls_at_the_address_told_if_it_is_adobes(told: str, asked: str) -> None:
    http, heard = Scripted(TOKEN, order(told), DONE, draw(16, 4), {}), Heard()
    provider = scripted(http)
    await provider.submit(CALL, heard)
    assert http.asked[0].url == f"{IMS}/ims/token/v3"
    assert http.asked[2].url == f"{asked}status/urn:ff:jobs:eu:1"
    assert not {"Authorization", "x-api-key"} & {*http.asked[3].headers}  # the signed address of the picture
    await provider.cancel(heard.ids[0])
    assert (http.asked[4].method, http.asked[4].url) == ("PUT", f"{asked}cancel/urn:ff:jobs:eu:1")
    again = Scripted(TOKEN, DONE, draw(16, 4))
    await scripted(again).resume(CALL, heard.ids[0], Heard())
    assert again.asked[1].url == http.asked[2].url


@pytest.mark.parametrize(
    "change",
    [
        {"model": "image9"},
        {"model": "image5", "operation": "INPAINT", "images": (LARGE,), "mask": LARGE},
        {"model": "image5", "operation": "EDIT", "images": (LARGE,), "width": 1024, "height": 1024},
        {"model": "image5", "width": 600, "height": 600},
        {"model": "image5", "width": 3000, "height": 1000},
        {"model": "image5", "count": 2},
        {"model": "fill", "operation": "INPAINT", "images": (SOURCE,), "mask": SOURCE},
        {
            "model": "fill",
            "operation": "INPAINT",
            "images": (LARGE,),
            "mask": LARGE,
            "width": 2048,
            "height": 2048,
        },
        {"model": "expand", "operation": "OUTPAINT", "images": (LARGE,), "margins": Margins(left=3000)},
        {"model": "expand", "operation": "OUTPAINT", "images": (SOURCE,), "negative_prompt": "blur"},
        {"operation": "CONTROL", "controls": (ControlImage("structure", SOURCE, 1.5),)},
        {"operation": "CONTROL", "controls": (ControlImage("style", SOURCE), ControlImage("style", SOURCE))},
        {"operation": "IMAGE_TO_IMAGE", "images": (SOURCE,), "options": {"similar": True}, "negative_prompt": "x"},
        {"model": "image3_custom:m1", "negative_prompt": "blur"},
        {"steps": 20},
        {"output_format": "png"},
    ],
)
async def test_what_a_service_does_not_take_is_never_sent(harness: FireflyHarness, change: dict[str, object]) -> None:
    await harness.start()
    account = Account("f", harness.fake.origin, SecretStr(harness.fake.key), settings={"ims": harness.fake.origin})
    provider = Firefly(replace(account, secrets={"client_secret": SecretStr(CLIENT_SECRET)}), harness.http)
    with pytest.raises(ProviderError) as caught:
        await provider.submit(replace(CALL, **change), Heard())  # type: ignore[arg-type]
    assert caught.value.kind is ErrorKind.BAD_REQUEST
    assert not harness.fake.orders
    assert not harness.fake.stored


async def test_an_upload_without_an_id_is_asked_again_elsewhere() -> None:
    http = Scripted(TOKEN, {"images": []})
    with pytest.raises(ProviderError) as caught:
        await scripted(http).submit(replace(CALL, operation="IMAGE_TO_IMAGE", images=(SOURCE,)), Heard())
    assert caught.value.kind is ErrorKind.OVERLOADED
    assert len(http.asked) == 2
