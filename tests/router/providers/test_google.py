"""What only Google does: service accounts, exact sizes by name, drafts among the pictures, tokens by kind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from services.router.providers.base import Account, InputImage, Margins, ProviderCall
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.google import Google
from services.router.providers.google_answers import usage_of
from services.router.providers.google_models import shape_of
from services.router.providers.retouch import size_of
from tests.router.fakes.pictures import draw
from tests.router.providers.harness_base import MASK, SOURCE, Heard
from tests.router.providers.harness_google import GeminiHarness, ImagenHarness, VertexHarness
from tests.router.providers.scripted import Scripted

CALL = ProviderCall("att_1", "acme", "gemini-3-pro-image", "a red fox", timeout=20.0)


@pytest.fixture
async def vertex() -> AsyncIterator[VertexHarness]:
    made = VertexHarness()
    yield made
    await made.stop()


@pytest.fixture
async def gemini() -> AsyncIterator[GeminiHarness]:
    made = GeminiHarness()
    yield made
    await made.stop()


@pytest.fixture
async def imagen() -> AsyncIterator[ImagenHarness]:
    made = ImagenHarness()
    yield made
    await made.stop()


@pytest.mark.parametrize(
    ("model", "size", "shape"),
    [
        ("gemini-3-pro-image", (1024, 1024), ("1:1", "1K")),
        ("gemini-3-pro-image", (1584, 672), ("21:9", "1K")),
        ("gemini-3-pro-image", (3072, 5504), ("9:16", "4K")),
        ("gemini-3.1-flash-image", (512, 512), ("1:1", "512")),
        ("gemini-3.1-flash-image", (632, 424), ("3:2", "512")),
        ("gemini-3.1-flash-image", (3072, 384), ("8:1", "1K")),
        ("gemini-3.1-flash-lite-image", (1024, 1024), ("1:1", "")),
        ("gemini-2.5-flash-image", (1344, 768), ("16:9", "")),
        ("imagen-4.0-fast-generate-001", (896, 1280), ("3:4", "")),
        ("imagen-4.0-ultra-generate-001", (2048, 2048), ("1:1", "2K")),
    ],
)
def test_a_size_is_named_if_it_is_exactly_drawn(model: str, size: tuple[int, int], shape: tuple[str, str]) -> None:
    assert shape_of(replace(CALL, model=model, width=size[0], height=size[1])) == shape


@pytest.mark.parametrize(
    ("model", "size"),
    [
        ("gemini-3-pro-image", (512, 512)),
        ("gemini-3-pro-image", (1344, 768)),
        ("gemini-2.5-flash-image", (2048, 2048)),
        ("gemini-3.1-flash-lite-image", (2048, 2048)),
        ("imagen-4.0-fast-generate-001", (2048, 2048)),
    ],
)
def test_another_size_is_refused(model: str, size: tuple[int, int]) -> None:
    with pytest.raises(ProviderError, match=f"{size[0]}x{size[1]}") as caught:
        shape_of(replace(CALL, model=model, width=size[0], height=size[1]))
    assert caught.value.kind is ErrorKind.BAD_REQUEST


async def test_nothing_but_the_prompt_is_sent_unless_asked_for(gemini: GeminiHarness) -> None:
    await (await gemini.start()).submit(CALL, Heard())
    assert gemini.fields_sent() == {
        "contents": [{"role": "user", "parts": [{"text": "a red fox"}]}],
        "generationConfig": {"responseModalities": ["IMAGE"]},
    }


async def test_a_thoughts_picture_is_not_the_result(gemini: GeminiHarness) -> None:
    result = await (await gemini.start()).submit(CALL, Heard())
    assert len(result.images) == 1
    assert b"%016x" % 2 in result.images[0].data  # the second of the two that the fake sends


async def test_tokens_and_version_are_told(gemini: GeminiHarness) -> None:
    result = await (await gemini.start()).submit(CALL, Heard())
    assert result.model_version == "gemini-3-pro-image-001"
    assert result.usage == {"input_tokens": 12, "output_image_tokens": 1120, "output_text_tokens": 105}


@pytest.mark.parametrize(
    "told", [{}, {"promptTokenCount": 1, "candidatesTokenCount": 2}, {"candidatesTokensDetails": 3}]
)
def test_tokens_are_told_whole_or_not_at_all(told: dict[str, object]) -> None:
    assert usage_of(told) == {}


async def test_a_large_seed_is_sent_as_a_signed_one_and_told_as_ours(gemini: GeminiHarness) -> None:
    result = await (await gemini.start()).submit(replace(CALL, seed=2**32 - 2), Heard())
    config = gemini.fields_sent()["generationConfig"]
    assert isinstance(config, dict)
    assert config["seed"] == -2
    assert result.images[0].seed == 2**32 - 2


async def test_several_images_follow_the_prompt_in_order(gemini: GeminiHarness) -> None:
    images = tuple(InputImage(draw(side, 4), "image/png") for side in (16, 32))
    await (await gemini.start()).submit(replace(CALL, operation="EDIT", images=images), Heard())
    assert gemini.fake.pictures == [image.data for image in images]


async def test_options_are_named_as_the_vendor_does(gemini: GeminiHarness) -> None:
    call = replace(CALL, options={"temperature": 0.5, "top_p": 0.9})
    await (await gemini.start()).submit(call, Heard())
    config = gemini.fields_sent()["generationConfig"]
    assert config == {"responseModalities": ["IMAGE"], "temperature": 0.5, "topP": 0.9}


async def test_a_jpeg_has_its_quality(vertex: VertexHarness) -> None:
    await (await vertex.start()).submit(replace(CALL, output_format="jpeg", compression=80), Heard())
    config = vertex.fields_sent()["generationConfig"]
    assert isinstance(config, dict)
    assert config["imageConfig"] == {"imageOutputOptions": {"mimeType": "image/jpeg", "compressionQuality": 80}}


@pytest.mark.parametrize(
    "change",
    [
        {"operation": "INPAINT", "images": (SOURCE,), "mask": MASK},
        {"operation": "EDIT", "images": (SOURCE,), "mask": MASK},
        {"negative_prompt": "blur"},
        {"output_format": "png"},
        {"count": 2},
        {"options": {"safetySettings": "none"}},
        {"width": 1000, "height": 1000},
    ],
)
async def test_what_gemini_does_not_take_is_never_sent(gemini: GeminiHarness, change: dict[str, object]) -> None:
    provider = await gemini.start()
    with pytest.raises(ProviderError) as caught:
        await provider.submit(replace(CALL, **change), Heard())  # type: ignore[arg-type]
    assert caught.value.kind is ErrorKind.BAD_REQUEST
    assert not gemini.fake.orders


async def test_the_lease_is_asked_again_after_the_token(vertex: VertexHarness) -> None:
    def stop() -> None:
        raise ProviderError(ErrorKind.UNREACHABLE, "the lease is over")

    provider = await vertex.start()
    with pytest.raises(ProviderError, match="lease"):
        await provider.submit(replace(CALL, before_sending=stop), Heard())
    assert vertex.fake.tokens_given == 1
    assert not vertex.fake.orders


async def test_one_token_serves_many_calls_and_a_refused_one_is_replaced(vertex: VertexHarness) -> None:
    provider = await vertex.start()
    await provider.submit(CALL, Heard())
    await provider.submit(CALL, Heard())
    assert vertex.fake.tokens_given == 1
    vertex.fake.revoked = True
    with pytest.raises(ProviderError) as caught:
        await provider.submit(CALL, Heard())
    assert caught.value.kind is ErrorKind.AUTHENTICATION
    vertex.fake.revoked = False
    await provider.submit(CALL, Heard())
    assert vertex.fake.tokens_given == 2


async def test_the_attempt_is_a_label(vertex: VertexHarness) -> None:
    await (await vertex.start()).submit(replace(CALL, attempt_id="att_01HZX:9"), Heard())
    assert vertex.fake.attempts == {"att_01hzx-9": 1}


async def test_a_service_accounts_file_may_be_named(vertex: VertexHarness, tmp_path: Path) -> None:
    await vertex.start()
    file = tmp_path / "account.json"
    file.write_text(vertex.fake.service_account())
    account = Account("vertex", vertex.fake.origin, SecretStr(str(file)), "vertex")
    assert (await Google(account, vertex.http).submit(CALL, Heard())).images
    assert "/locations/global/" in vertex.fake.orders[-1].path


@pytest.mark.parametrize("change", [{"client_email": "somebody@else"}, {"private_key": "-----BEGIN no key"}])
async def test_a_service_account_that_is_refused(vertex: VertexHarness, change: dict[str, str]) -> None:
    await vertex.start()
    key = SecretStr(vertex.fake.service_account(**change))
    with pytest.raises(ProviderError) as caught:
        await Google(Account("vertex", vertex.fake.origin, key, "vertex"), vertex.http).submit(CALL, Heard())
    assert caught.value.kind is ErrorKind.AUTHENTICATION
    assert not vertex.fake.orders


@pytest.mark.parametrize("key", ["", "/nowhere/account.json", "{}", '{"private_key": "secret-part'])
async def test_a_key_that_is_no_service_account(key: str) -> None:
    provider = Google(Account("vertex", api_key=SecretStr(key), variant="vertex"), Scripted())
    with pytest.raises(ProviderError) as caught:
        await provider.submit(CALL, Heard())
    assert caught.value.kind is ErrorKind.AUTHENTICATION
    assert "secret" not in caught.value.message
    assert "nowhere" not in caught.value.message


@pytest.mark.parametrize(
    ("region", "settings", "host"),
    [
        ("", {}, "https://aiplatform.googleapis.com/v1/projects/acme-project/locations/global/"),
        (
            "us-central1",
            {"project": "p2"},
            "https://us-central1-aiplatform.googleapis.com/v1/projects/p2/locations/us-",
        ),
    ],
)
async def test_addresses_of_vertex(vertex: VertexHarness, region: str, settings: dict[str, str], host: str) -> None:
    key = SecretStr(vertex.fake.service_account())
    http = Scripted({"access_token": "t", "expires_in": 3600}, {"totalTokens": 1})
    account = Account("vertex", api_key=key, variant="vertex", region=region, settings=settings)
    assert await Google(account, http).check() == "it answers for gemini-2.5-flash-image"
    assert http.asked[1].url.startswith(host)
    assert http.asked[1].url.endswith("/publishers/google/models/gemini-2.5-flash-image:countTokens")


async def test_a_check_draws_nothing(gemini: GeminiHarness) -> None:
    assert "gemini-2.5-flash-image" in await (await gemini.start()).check()
    assert not gemini.fake.orders


async def test_imagen_gives_what_its_filter_left(imagen: ImagenHarness) -> None:
    call = replace(CALL, model="imagen-4.0-generate-001", prompt="partly", count=3)
    result = await (await imagen.start()).submit(call, Heard())
    assert (len(result.images), result.places) == (1, (0,))  # and the others were refused


async def test_imagens_mask_goes_out_as_it_is_and_a_border_is_white(imagen: ImagenHarness) -> None:
    provider = await imagen.start()
    call = replace(CALL, model="imagen-4.0-generate-001", images=(SOURCE,))
    await provider.submit(replace(call, operation="INPAINT", mask=MASK), Heard())
    assert imagen.fake.pictures == [SOURCE.data, MASK.data]
    await provider.submit(replace(call, operation="OUTPAINT", margins=Margins(left=8, top=4)), Heard())
    assert [await size_of(InputImage(data, "image/png")) for data in imagen.fake.pictures] == [(72, 68), (72, 68)]
