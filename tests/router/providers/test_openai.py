"""What only OpenAI-compatible servers do: addresses instead of bytes, short answers, size caps, usage."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr

from services.router.providers.base import Account, ProviderCall
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.http import HttpConfig, PooledHttpClient
from services.router.providers.openai import OpenAIImages
from tests.router.fakes.openai import OpenAIStub
from tests.router.providers.harness_base import Heard


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


def adapter(stub: OpenAIStub, http: PooledHttpClient, key: str = "sk-stub") -> OpenAIImages:
    return OpenAIImages(Account("stub", stub.base_url, SecretStr(key)), http)


def call(prompt: str, count: int = 1) -> ProviderCall:
    return ProviderCall("att_1", "acme", "sdxl", prompt, timeout=20.0, count=count)


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
    assert result.usage == {"input_tokens": 10, "output_tokens": 100, "total_tokens": 110}
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
