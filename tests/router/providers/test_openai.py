"""What only servers with OpenAI's images API do: addresses instead of bytes, streams, masks by transparency, usage."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pyvips
from pydantic import SecretStr

from mesh.imaging import open_image
from services.router.providers.base import Account, InputImage, Margins, ProviderCall
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.http import HttpConfig, PooledHttpClient
from services.router.providers.openai import OpenAIImages
from services.router.providers.openai_dialects import gpt_draws
from services.router.providers.rates import RateHint
from tests.router.fakes.openai import OpenAIStub
from tests.router.fakes.pictures import draw
from tests.router.providers.harness_base import SOURCE, Heard


@pytest.fixture
async def stub() -> AsyncIterator[OpenAIStub]:
    running = OpenAIStub()
    await running.start()
    yield running
    await running.stop()


@pytest.fixture
async def http() -> AsyncIterator[PooledHttpClient]:
    client = PooledHttpClient()
    yield client
    await client.close()


def adapter(
    stub: OpenAIStub, http: PooledHttpClient, key: str = "sk-stub", variant: str = "", **settings: str
) -> OpenAIImages:
    return OpenAIImages(Account("stub", stub.base_url, SecretStr(key), variant, settings=settings), http)


def call(prompt: str, count: int = 1, **fields: Any) -> ProviderCall:
    return ProviderCall("att_1", "acme", **{"model": "sdxl", "timeout": 20.0, **fields}, prompt=prompt, count=count)


def streamed(stub: OpenAIStub, http: PooledHttpClient) -> OpenAIImages:
    return adapter(stub, http, variant="gpt-image", partial_images="2")


def half_white(side: int) -> InputImage:
    """White (to be changed) on the left, black on the right."""
    white = pyvips.Image.black(side // 2, side) + 255
    mask = white.embed(0, 0, side, side, extend="black").cast("uchar")
    return InputImage(bytes(mask.write_to_buffer(".png")), "image/png")


@pytest.mark.parametrize("prompt", ["fail:url", "fail:url_flaky"])
async def test_fetches_pictures_from_addresses(stub: OpenAIStub, http: PooledHttpClient, prompt: str) -> None:
    result = await adapter(stub, http).submit(call(prompt, count=2), Heard())
    assert [image.media_type for image in result.images] == ["image/png"] * 2
    assert {image.revised_prompt for image in result.images} == {"revised"}
    assert stub.posts[prompt] == 1


async def test_takes_fewer_pictures_than_asked(stub: OpenAIStub, http: PooledHttpClient) -> None:
    result = await adapter(stub, http).submit(call("fail:fewer", count=3), Heard())
    assert len(result.images) == 2


async def test_reports_usage_and_request_id(stub: OpenAIStub, http: PooledHttpClient) -> None:
    result = await adapter(stub, http).submit(call("counted"), Heard())
    assert result.usage == {
        "input_tokens": 10,
        "input_text_tokens": 10,
        "input_image_tokens": 0,
        "output_tokens": 100,
        "total_tokens": 110,
    }
    assert result.provider_request_id.startswith("req_")


async def test_sends_the_attempt_id(stub: OpenAIStub, http: PooledHttpClient) -> None:
    await adapter(stub, http).submit(call("tagged"), Heard())
    assert stub.attempts == {"att_1": 1}


async def test_a_wrong_key_is_authentication(stub: OpenAIStub, http: PooledHttpClient) -> None:
    with pytest.raises(ProviderError) as caught:
        await adapter(stub, http, key="sk-other").submit(call("hello"), Heard())
    assert caught.value.kind is ErrorKind.AUTHENTICATION


async def test_an_answer_above_the_cap_is_broken(stub: OpenAIStub) -> None:
    small = PooledHttpClient(HttpConfig(max_answer_bytes=100))
    try:
        with pytest.raises(ProviderError) as caught:
            await adapter(stub, small).submit(call("big"), Heard())
    finally:
        await small.close()
    assert caught.value.kind is ErrorKind.BROKEN_ANSWER


async def test_a_key_is_never_printed() -> None:
    assert "sk-secret" not in repr(Account("openai", api_key=SecretStr("sk-secret")))


async def test_tells_what_is_left_of_the_limits(stub: OpenAIStub, http: PooledHttpClient) -> None:
    left = RateHint(requests_left=4999, tokens_left=150_000, requests_reset=66.0, tokens_reset=0.02)
    assert (await adapter(stub, http).submit(call("hello"), Heard())).rate == left
    with pytest.raises(ProviderError) as caught:
        await adapter(stub, http).submit(call("fail:rate_limited"), Heard())
    assert caught.value.rate == left


async def test_a_check_lists_models(stub: OpenAIStub, http: PooledHttpClient) -> None:
    told = await adapter(stub, http).check()
    assert told == "7 models: model-0, model-1, model-2, model-3, model-4, …"
    with pytest.raises(ProviderError) as caught:
        await adapter(stub, http, key="sk-other").check()
    assert caught.value.kind is ErrorKind.AUTHENTICATION
    assert not stub.posts


async def test_what_is_white_in_the_mask_becomes_transparent(stub: OpenAIStub, http: PooledHttpClient) -> None:
    wanted = call("fill", model="gpt-image-2", operation="INPAINT", images=(SOURCE,), mask=half_white(64))
    await adapter(stub, http, variant="gpt-image").submit(wanted, Heard())
    mask, _ = open_image(stub.files["mask"])
    assert (mask(5, 5)[3], mask(60, 5)[3]) == (0, 255)
    assert stub.files["image[]"] == SOURCE.data


async def test_what_outpainting_adds_is_transparent_in_the_mask(stub: OpenAIStub, http: PooledHttpClient) -> None:
    wanted = call(
        "widen", model="gpt-image-2", operation="OUTPAINT", images=(SOURCE,), margins=Margins(left=32, top=16)
    )
    await adapter(stub, http, variant="gpt-image").submit(wanted, Heard())
    mask, _ = open_image(stub.files["mask"])
    assert (mask.width, mask.height) == (96, 80)
    assert [mask(*place)[3] for place in ((5, 5), (31, 40), (60, 15), (32, 16), (95, 79))] == [0, 0, 0, 255, 255]
    assert stub.bodies[-1]["size"] == "96x80"


@pytest.mark.parametrize(
    ("variant", "model", "field"), [("vllm-omni", "omni-1", "mask_image"), ("localai",) * 2 + ("mask",)]
)
async def test_self_hosted_servers_get_the_mask_as_it_is(
    stub: OpenAIStub, http: PooledHttpClient, variant: str, model: str, field: str
) -> None:
    mask = half_white(64)
    wanted = call("fill", model=model, operation="INPAINT", images=(SOURCE,), mask=mask)
    await adapter(stub, http, variant=variant).submit(wanted, Heard())
    assert stub.files[field] == mask.data


async def test_several_images_go_together(stub: OpenAIStub, http: PooledHttpClient) -> None:
    other = InputImage(draw(32, 4), "image/png")
    wanted = call("mix", model="gpt-image-2", operation="EDIT", images=(SOURCE, other))
    await adapter(stub, http, variant="gpt-image").submit(wanted, Heard())
    assert stub.bodies[-1]["image[]"] == ["png 64x64", "png 32x32"]


async def test_shows_unfinished_pictures(stub: OpenAIStub, http: PooledHttpClient) -> None:
    heard = Heard()
    result = await streamed(stub, http).submit(call("a fox", model="gpt-image-2"), heard)
    assert heard.steps == [(1, 3), (2, 3)]
    assert len({*heard.previews, result.images[0].data}) == 3
    assert result.usage["output_tokens"] == 100
    assert result.provider_request_id.startswith("req_")


@pytest.mark.parametrize("prompt", ["fail:stream_garbled", "fail:stream_open"])
async def test_a_picture_that_came_is_taken_whatever_else_the_stream_does(
    stub: OpenAIStub, http: PooledHttpClient, prompt: str
) -> None:
    assert len((await streamed(stub, http).submit(call(prompt, model="gpt-image-2"), Heard())).images) == 1


async def test_several_pictures_are_not_streamed(stub: OpenAIStub, http: PooledHttpClient) -> None:
    heard = Heard()
    result = await streamed(stub, http).submit(call("three", 3, model="gpt-image-2"), heard)
    assert len(result.images) == 3
    assert not heard.previews
    assert not {"stream", "partial_images"} & stub.bodies[-1].keys()


async def test_a_job_may_ask_for_unfinished_pictures(stub: OpenAIStub, http: PooledHttpClient) -> None:
    heard = Heard()
    wanted = call("a fox", model="gpt-image-2", options={"partial_images": 1})
    await adapter(stub, http, variant="gpt-image").submit(wanted, heard)
    assert len(heard.previews) == 1
    assert stub.bodies[-1]["partial_images"] == 1


async def test_a_bar_of_the_prompt_starts_no_negative_prompt(stub: OpenAIStub, http: PooledHttpClient) -> None:
    wanted = call("a fox | a hare", model="localai", negative_prompt="blur")
    await adapter(stub, http, variant="localai").submit(wanted, Heard())
    assert stub.bodies[-1]["prompt"] == "a fox , a hare|blur"


async def test_a_size_that_a_path_cannot_take_is_refused_before_it_is_sent(
    stub: OpenAIStub, http: PooledHttpClient
) -> None:
    wanted = call("fill", model="localai", operation="INPAINT", images=(SOURCE,), mask=SOURCE, width=128, height=128)
    with pytest.raises(ProviderError) as caught:
        await adapter(stub, http, variant="localai").submit(wanted, Heard())
    assert caught.value.kind is ErrorKind.BAD_REQUEST
    assert not stub.posts


async def test_nothing_is_sent_once_the_worker_may_not(stub: OpenAIStub, http: PooledHttpClient) -> None:
    def stand_still() -> None:
        raise ProviderError(ErrorKind.UNREACHABLE, "the lease is lost")

    wanted = call("late", model="gpt-image-2", operation="EDIT", images=(SOURCE,), before_sending=stand_still)
    with pytest.raises(ProviderError, match="lease"):
        await adapter(stub, http, variant="gpt-image").submit(wanted, Heard())
    assert not stub.posts


@pytest.mark.parametrize(
    ("model", "free"),
    [
        ("gpt-image-2", True),
        ("gpt-image-2.5-flare-2026-09-08", True),
        ("gpt-image-2.6-flare", False),
        ("gpt-image-1.5", False),
        ("chatgpt-image-latest", False),
    ],
)
def test_free_sizes_are_asked_for_where_they_are_documented(model: str, free: bool) -> None:
    assert gpt_draws(model, 1024, 1536)
    assert gpt_draws(model, 1200, 912) is free
