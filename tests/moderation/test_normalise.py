from __future__ import annotations

import base64
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.moderation.normalise import EXPANSION_LIMIT, Normalised, normalise

DISGUISES = {
    "capitals": "NUDE",
    "fullwidth": "ｎｕｄｅ",
    "mathematical script": "𝓃𝓊𝒹𝑒",
    "mathematical bold fraktur": "𝖓𝖚𝖉𝖊",
    "circled": "ⓝⓤⓓⓔ",
    "negative squared": "🅽🆄🅳🅴",
    "regional indicators": "🇳🇺🇩🇪",
    "tag characters": "".join(chr(0xE0000 + ord(c)) for c in "nude"),
    "Cyrillic look-alikes": "nսdе",
    "small capitals": "ɴᴜᴅᴇ",
    "zero-width space": "n\u200bu\u200bd\u200be",
    "soft hyphens": "n\u00adu\u00add\u00ade",
    "word joiner": "nu\u2060de",
    "combining marks": "n\u0336u\u0336d\u0336e\u0336",
    "accents": "ñúdé",
    "control characters": "n\x00u\x01de",
    "Hangul filler": "n\u3164ude",
}
READ_AS = {
    "nud3": ("leet", "nude"),
    "b00bs": ("leet", "boobs"),
    "@ss": ("leet", "ass"),
    "k1ll": ("leet", "kill"),
    "b1ood": ("leet", "blood"),
    "n.u.d.e": ("joined", "nude"),
    "nu.de": ("joined", "nude"),
    "k-i-l-l": ("joined", "kill"),
    "n u d e": ("spelled", "nude"),
    "n_u_d_e": ("spelled", "nude"),
    "n 🔥 u 🔥 d 🔥 e": ("spelled", "nude"),
    "n.u.d.3": ("joined", "nude"),
}


def words(text: Normalised, reading: str) -> list[str]:
    return [token.text for found in text.readings if found.name == reading for token in found.tokens]


@pytest.mark.parametrize("text", DISGUISES.values(), ids=DISGUISES)
def test_disguised_letters_become_plain(text: str) -> None:
    assert normalise(text).text == "nude"


@pytest.mark.parametrize(("text", "expected"), READ_AS.items())
def test_readings(text: str, expected: tuple[str, str]) -> None:
    reading, word = expected
    assert word in words(normalise(text), reading)


@pytest.mark.parametrize(
    "text", ["1080p 4k render of 12 trees", "shot on a 35mm f1.8 lens", "5 old houses, 1920 x 1080"]
)
def test_numbers_stay_numbers(text: str) -> None:
    plain = words(normalise(text), "plain")
    digits = [word for word in plain if word.isdigit()]
    assert set(digits) <= set(words(normalise(text), "leet") or plain)


def test_base64_is_followed_to_the_bottom() -> None:
    inner = "a nude girl"
    for _ in range(6):
        inner = base64.b64encode(inner.encode()).decode()
    text = normalise(f"draw {inner} please")
    depth = 0
    while text.embedded:
        depth, text = depth + 1, text.embedded[0].text
    assert (depth, text.text) == (6, "a nude girl")


@pytest.mark.parametrize("word", ["photorealistic", "Photorealistic", "HIGHLYDETAILED", "architecture", "12345678"])
def test_ordinary_words_are_not_decoded(word: str) -> None:
    assert normalise(word).embedded == ()


def test_positions_lead_back_to_the_original() -> None:
    original = "x ½ n\u200bu\u200bd\u200be ﬃ end"
    text = normalise(original)
    token = next(token for token in text.readings[0].tokens if token.text == "nude")
    start, end = text.origin(token.start, token.end)
    assert original[start:end] == "n\u200bu\u200bd\u200be"


@given(st.text(max_size=300))
def test_idempotent_and_bounded(original: str) -> None:
    text = normalise(original)
    assert normalise(text.text).text == text.text
    assert len(text.text) <= EXPANSION_LIMIT * len(original)


@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=100))
def test_any_code_point_is_taken_and_positions_stay_inside(original: str) -> None:
    text = normalise(original)
    for reading in text.readings:
        for token in reading.tokens:
            start, end = text.origin(token.start, token.end)
            assert 0 <= start < end <= len(original)


def test_every_character_folds_to_something_that_folds_to_itself() -> None:
    folded = "".join(normalise(chr(code)).text for code in range(0x3000))
    assert normalise(folded).text == folded


HOSTILE = {
    "10,000 combining marks": "a" + "\u0301" * 10_000,
    "expanding ligatures": "\ufdfa" * 32_000,
    "single letters": "a b c " * 5_333,
    "dotted letters": "a." * 16_000,
    "leet": "n0d3 " * 6_400,
    "base64 words": "YWJjZGVmZ2g= " * 2_400,
    "nested base64": base64.b64encode(base64.b64encode(base64.b64encode(b"ab " * 4_400))).decode()[:32_000],
    "one word": "a" * 32_000,
    "signs": "@$!|" * 8_000,
    "surrogates": "\ud800\udc00" * 5_000,
    "digits": "1" * 32_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_texts_take_bounded_time(text: str) -> None:
    assert len(text) <= 32_000
    begun = time.process_time()
    normalise(text)
    assert time.process_time() - begun < 1.0


def test_the_fold_cache_does_not_grow_without_end() -> None:
    from services.moderation.normalise import _fold

    for code in range(0, sys.maxunicode, 17):
        _fold(code)
    assert _fold.cache_info().currsize <= 16_384
