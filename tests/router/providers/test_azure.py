"""What only Azure does: addresses by deployment, its own headers and api versions, several sources by number."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import SecretStr

from services.router.providers.azure import AzureImages
from services.router.providers.azure_tokens import EntraTokens
from services.router.providers.base import Account, InputImage, ProviderCall
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.http import HttpAnswer, HttpRequest, PooledHttpClient
from tests.router.fakes.azure import AzureStub
from tests.router.fakes.pictures import draw
from tests.router.providers.harness_base import SOURCE, Heard


@pytest.fixture
async def stub() -> AsyncIterator[AzureStub]:
    running = AzureStub()
    await running.start()
    yield running
    await running.stop()


@pytest.fixture
async def http() -> AsyncIterator[PooledHttpClient]:
    client = PooledHttpClient()
    yield client
    await client.close()


def adapter(stub: AzureStub, http: Any, variant: str = "", **settings: str) -> AzureImages:
    return AzureImages(Account("azure", stub.origin, SecretStr("sk-stub"), variant, settings=settings), http)


def call(prompt: str, model: str = "azure-image", **fields: Any) -> ProviderCall:
    return ProviderCall("att_1", "acme", model, prompt, timeout=20.0, **fields)


class Sent:
    """Remembers requests and answers none of them."""

    def __init__(self) -> None:
        self.requests: list[HttpRequest] = []

    async def send(self, request: HttpRequest) -> HttpAnswer:
        self.requests.append(request)
        return HttpAnswer(500, {}, b"")


@pytest.mark.parametrize(
    ("variant", "model", "settings", "address"),
    [
        ("", "pictures", {}, "/openai/v1/images/generations?api-version=preview"),
        ("v1", "pictures", {"api_version": "2026-01-01"}, "/openai/v1/images/generations?api-version=2026-01-01"),
        (
            "classic",
            "my pictures/1",
            {},
            "/openai/deployments/my%20pictures%2F1/images/generations?api-version=2025-04-01-preview",
        ),
        ("flux-2", "FLUX.2-flex", {}, "/providers/blackforestlabs/v1/flux-2-flex?api-version=preview"),
    ],
)
async def test_addresses(variant: str, model: str, settings: dict[str, str], address: str) -> None:
    sent = Sent()
    account = Account("azure", "https://acme.openai.azure.com/", SecretStr("k"), variant, settings=settings)
    with pytest.raises(ProviderError):
        await AzureImages(account, sent).submit(call("a fox", model), Heard())  # type: ignore[arg-type]
    assert sent.requests[0].url == f"https://acme.openai.azure.com{address}"
    assert sent.requests[0].headers["api-key"] == "k"
    assert "Authorization" not in sent.requests[0].headers


@pytest.mark.parametrize("variant", ["v1", "classic", "flux-2"])
async def test_a_check_lists_models(stub: AzureStub, http: PooledHttpClient, variant: str) -> None:
    assert (await adapter(stub, http, variant).check()).startswith("7 models: model-0")


async def test_the_attempt_and_azures_own_id_are_told(stub: AzureStub, http: PooledHttpClient) -> None:
    result = await adapter(stub, http).submit(call("a fox"), Heard())
    assert stub.attempts == {"att_1": 1}
    assert result.provider_request_id.startswith("req_")


async def test_streams_unfinished_pictures(stub: AzureStub, http: PooledHttpClient) -> None:
    heard = Heard()
    await adapter(stub, http, "classic", partial_images="2").submit(call("a fox"), heard)
    assert len(heard.previews) == 2


async def test_flux_takes_several_sources_by_number(stub: AzureStub, http: PooledHttpClient) -> None:
    sources = (SOURCE, InputImage(draw(32, 4), "image/png"), InputImage(draw(16, 4), "image/png"))
    await adapter(stub, http, "flux-2").submit(call("mix", "FLUX.2-pro", operation="EDIT", images=sources), Heard())
    told = {name: value for name, value in stub.bodies[-1].items() if name.startswith("input_image")}
    assert told == {"input_image": "png 64x64", "input_image_2": "png 32x32", "input_image_3": "png 16x16"}


async def test_a_filtered_prompt_is_named_by_azures_inner_code(stub: AzureStub, http: PooledHttpClient) -> None:
    with pytest.raises(ProviderError) as caught:
        await adapter(stub, http).submit(call("fail:inner_filter"), Heard())
    assert caught.value.kind is ErrorKind.REFUSED
    assert "ResponsibleAIPolicyViolation" in caught.value.message


async def test_a_filtered_picture_leaves_the_others(stub: AzureStub, http: PooledHttpClient) -> None:
    result = await adapter(stub, http).submit(call("fail:some_filtered", count=2), Heard())
    assert (len(result.images), result.places) == (1, (1,))


def signing_in(stub: AzureStub, http: Any, secret: str = "s3cret", authority: str = "") -> AzureImages:
    settings = {"tenant_id": "tenant-1", "client_id": "client-1", "authority": authority or f"{stub.origin}/entra"}
    account = Account("azure", stub.origin, secrets={"client_secret": SecretStr(secret)}, settings=settings)
    return AzureImages(account, http)


async def test_signs_in_once_for_many_calls(stub: AzureStub, http: PooledHttpClient) -> None:
    provider = signing_in(stub, http)
    for prompt in ("one", "two"):
        assert (await provider.submit(call(prompt), Heard())).images
    assert (await provider.check()).startswith("7 models")
    assert stub.tokens_given == 1


async def test_a_token_that_was_refused_is_replaced(stub: AzureStub, http: PooledHttpClient) -> None:
    provider = signing_in(stub, http)
    await provider.submit(call("one"), Heard())
    stub.token = "revoked"
    with pytest.raises(ProviderError) as caught:
        await provider.submit(call("two"), Heard())
    assert caught.value.kind is ErrorKind.AUTHENTICATION
    assert (await provider.submit(call("three"), Heard())).images
    assert stub.tokens_given == 2


async def test_a_token_is_replaced_before_it_ends(stub: AzureStub, http: PooledHttpClient) -> None:
    now = [0.0]
    settings = {"tenant_id": "tenant-1", "client_id": "client-1", "authority": f"{stub.origin}/entra"}
    account = Account("azure", secrets={"client_secret": SecretStr("s3cret")}, settings=settings)
    tokens = EntraTokens(account, http, clock=lambda: now[0])
    first = await tokens.bearer()
    now[0] = 3400.0
    assert await tokens.bearer() == first
    now[0] = 3500.0
    assert await tokens.bearer() != first


async def test_a_wrong_secret_is_authentication_and_orders_nothing(stub: AzureStub, http: PooledHttpClient) -> None:
    with pytest.raises(ProviderError, match="invalid_client") as caught:
        await signing_in(stub, http, secret="wrong").submit(call("a fox"), Heard())
    assert caught.value.kind is ErrorKind.AUTHENTICATION
    assert "wrong" not in caught.value.message
    assert not stub.posts


async def test_nobody_at_the_authority_is_unreachable(stub: AzureStub, http: PooledHttpClient) -> None:
    with pytest.raises(ProviderError) as caught:
        await signing_in(stub, http, authority="http://127.0.0.1:9").submit(call("a fox"), Heard())
    assert caught.value.kind is ErrorKind.UNREACHABLE
    assert not stub.posts
