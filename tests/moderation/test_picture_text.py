"""Text in pictures: read where the settings ask for it, and judged as texts are."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import pyvips

from mesh.errors import MeshError, Unavailable
from services.moderation.classifiers.base import Capability, Picture
from services.moderation.decoding import inspect
from services.moderation.image_pipeline import ImagePipeline, Reading
from services.moderation.perceptual import EMPTY_TABLE
from services.moderation.picture_text import CHARACTERS, SIDE, OcrReader, open_reader
from services.moderation.policies import Policy
from services.moderation.rule_shelf import RuleShelf
from services.moderation.text_pipeline import TextPipeline
from services.moderation.verdicts import Category, Decision, Safety, TextKind, judge
from tests.moderation.pictures import encode, scene


class FakeReader:
    """Reads one text in every picture, or fails."""

    name = "picture-text"
    capability = Capability(frozenset(), "fake", 5.0)

    def __init__(self, text: str, failure: MeshError | None = None) -> None:
        self._text = text
        self._failure = failure

    async def read(self, _picture: Picture) -> str:
        if self._failure is not None:
            raise self._failure
        return self._text

    async def close(self) -> None:
        """Holds nothing."""


async def judged(reader: FakeReader, policy: Policy) -> Any:
    with ThreadPoolExecutor(1) as pool:
        reading = Reading(reader, TextPipeline(RuleShelf([policy]), [], pool))
        return await ImagePipeline([], reading=reading).judge(inspect(encode(scene(1))), policy, EMPTY_TABLE)


async def test_what_it_says_is_judged_as_text_in_a_picture(policy: Policy) -> None:
    outcome = await judged(FakeReader("hardcore porn"), policy)
    assert judge(outcome.findings, policy.rules, Safety()).decision is Decision.BLOCK
    assert {finding.span.kind for finding in outcome.findings} == {TextKind.IMAGE_TEXT}
    assert Category.SEXUAL in outcome.not_evaluated  # the picture itself was not looked at


@pytest.mark.parametrize("text", ["", "Cinnamon & Sons, est. 1911", "Lorbem dolur zit ammet konsek tuir elite vos hum"])
async def test_harmless_and_senseless_letters_pass(text: str, policy: Policy) -> None:
    outcome = await judged(FakeReader(text), policy)
    assert judge(outcome.findings, policy.rules, Safety()).decision is Decision.ALLOW


async def test_a_reader_that_fails_fails_as_the_policy_says(policy: Policy) -> None:
    failing = FakeReader("", Unavailable("away"))
    with pytest.raises(Unavailable):
        await judged(failing, policy)
    opened = policy.model_copy(update={"document": policy.document.model_copy(update={"failure_mode": "OPEN"})})
    assert (await judged(failing, opened)).findings == ()


@pytest.mark.parametrize("size", [(1, 1), (3_000, 2), (2, 3_000), (200, 100)])
async def test_the_engine_gets_bounded_pictures_and_gives_bounded_text(size: tuple[int, int]) -> None:
    shapes = []

    def engine(pixels: Any, use_cls: bool) -> Any:
        shapes.append(pixels.shape)
        return [(None, "word " * 1_000, 0.9)] * 10, None

    width, height = size
    reader = OcrReader(engine)
    text = await reader.read(Picture(encode(pyvips.Image.black(width, height, bands=4)), "png", width, height))
    await reader.close()
    assert len(text) == CHARACTERS
    [(high, wide, bands)] = shapes
    assert bands == 3
    assert max(high, wide) <= max(SIDE, 8)
    assert max(high, wide) <= 9 * min(high, wide)


async def test_a_bounded_number_waits() -> None:
    reader = OcrReader(lambda _pixels, use_cls: (None, None), waiting=1)
    picture = Picture(encode(scene(1, 64)), "png", 64, 64)
    calls = [asyncio.ensure_future(reader.read(picture)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await reader.read(picture)
    assert await asyncio.gather(*calls) == ["", ""]
    await reader.close()


async def test_the_real_engine_reads_printed_words() -> None:
    pytest.importorskip("rapidocr_onnxruntime", exc_type=ImportError)
    words = pyvips.Image.text("buy hard drugs here", dpi=150).invert().colourspace("srgb")
    data = encode(words.gravity("centre", 640, 480, extend="white"))
    reader = open_reader()
    text = await reader.read(inspect(data).picture)
    await reader.close()
    assert text.lower().replace(" ", "") == "buyharddrugshere"
