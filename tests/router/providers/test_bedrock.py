"""What only Bedrock does: signatures, Amazon's names of models, base64 in JSON."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from pydantic import SecretStr

from services.router.providers.base import Account, ProviderCall
from services.router.providers.bedrock import Bedrock
from services.router.providers.errors import ErrorKind, ProviderError
from tests.router.fakes import bedrock as fake
from tests.router.fakes.pictures import draw
from tests.router.providers.harness_base import MASK, SOURCE, Heard
from tests.router.providers.harness_bedrock import BedrockHarness
from tests.router.providers.scripted import Scripted
from tests.router.providers.test_stability import BY_SERVICE

CALL = ProviderCall("att_1", "acme", "stability.stable-image-core-v1:1", "a red fox", timeout=20.0)
DRAWN = {"images": [base64.b64encode(draw(16, 4)).decode()], "seeds": [5], "finish_reasons": [None]}
SERVICE_OF = {
    "generate/sd3": "sd3.5-large",
    **{path: path.split("/")[1] for path in fake.MODELS.values() if path != "generate/sd3"},
}


@pytest.fixture
async def harness() -> AsyncIterator[BedrockHarness]:
    made = BedrockHarness()
    yield made
    await made.stop()


def opened(harness: BedrockHarness, key: str, **secrets: str) -> Bedrock:
    hidden = {name: SecretStr(value) for name, value in secrets.items()}
    return Bedrock(
        Account("stub", harness.fake.origin, SecretStr(key), region=fake.REGION, secrets=hidden), harness.http
    )


@pytest.mark.parametrize("model", list(fake.MODELS))
async def test_every_model_takes_what_it_is_sent(harness: BedrockHarness, model: str) -> None:
    fields = BY_SERVICE[SERVICE_OF[fake.MODELS[model]]]
    result = await (await harness.start()).submit(replace(CALL, model=model, **fields), Heard())  # type: ignore[arg-type]
    assert result.images[0].seed in (41, 5)


async def test_temporary_credentials_are_signed_with_their_token(harness: BedrockHarness) -> None:
    await harness.start()
    provider = opened(harness, fake.SECRET, access_key_id=fake.ACCESS_KEY_ID, session_token=fake.TOKEN)
    await provider.submit(CALL, Heard())
    headers = harness.fake.orders[0].headers
    assert headers["X-Amz-Security-Token"] == fake.TOKEN
    assert "x-amz-security-token" in headers["Authorization"].split("SignedHeaders=")[1]


async def test_a_bedrock_key_is_a_bearer(harness: BedrockHarness) -> None:
    await harness.start()
    await opened(harness, harness.fake.key).submit(CALL, Heard())
    assert "X-Amz-Date" not in harness.fake.orders[0].headers


@pytest.mark.parametrize("secrets", [{}, {"access_key_id": fake.ACCESS_KEY_ID}, {"access_key_id": "AKIAOTHER"}])
async def test_wrong_credentials_are_authentication(harness: BedrockHarness, secrets: dict[str, str]) -> None:
    await harness.start()
    with pytest.raises(ProviderError) as caught:
        await opened(harness, "wrong", **secrets).submit(CALL, Heard())
    assert caught.value.kind is ErrorKind.AUTHENTICATION


async def test_large_pictures_are_signed_too(harness: BedrockHarness) -> None:
    large = replace(SOURCE, data=draw(1024, 1))
    call = replace(CALL, model="us.stability.stable-fast-upscale-v1:0", operation="UPSCALE", images=(large,), prompt="")
    assert (await (await harness.start()).submit(call, Heard())).images
    assert len(large.data) > 1_000_000


async def test_asks_amazon_in_the_accounts_region_and_keeps_the_mask() -> None:
    http = Scripted(DRAWN)
    call = replace(
        CALL, model="us.stability.stable-image-inpaint-v1:0", operation="INPAINT", images=(SOURCE,), mask=MASK
    )
    await Bedrock(Account("bedrock", api_key=SecretStr("k"), region="us-east-1"), http).submit(call, Heard())
    assert http.asked[0].url == (
        "https://bedrock-runtime.us-east-1.amazonaws.com/model/us.stability.stable-image-inpaint-v1:0/invoke"
    )
    assert base64.b64decode(json.loads(http.asked[0].body or b"")["mask"]) == MASK.data  # white = change there too


@pytest.mark.parametrize("model", ["amazon.nova-canvas-v1:0", "stability.stable-diffusion-xl-v1:0", "x/stability.core"])
async def test_an_unknown_model_is_never_asked(harness: BedrockHarness, model: str) -> None:
    provider = await harness.start()
    with pytest.raises(ProviderError) as caught:
        await provider.submit(replace(CALL, model=model), Heard())
    assert caught.value.kind is ErrorKind.BAD_REQUEST
    assert not harness.fake.orders


async def test_tells_the_models_it_sees(harness: BedrockHarness) -> None:
    assert await (await harness.start()).check() == "16 image models in us-west-2"
