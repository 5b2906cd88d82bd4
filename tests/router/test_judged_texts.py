"""What of a spec is judged as text: everything that a provider might draw from."""

from __future__ import annotations

import pytest

from services.router.judging import texts_of
from services.router.specs import GenerationSpec

OPTIONS = {
    "plain": {"style_prompt": "hidden words"},
    "in a list": {"prompts": ["fine", "hidden words"]},
    "in an object": {"text": {"g": "fine", "l": "hidden words"}},
    "deep": {"nodes": [{"6": {"inputs": {"text": "hidden words"}}}]},
    "as a name": {"weights": {"hidden words": 1.4}},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_words_in_options_are_judged(options: dict[str, object]) -> None:
    spec = GenerationSpec("a fox", negative_prompt="blur", provider_options={"acme": options})
    texts = texts_of(spec)
    assert (texts["PROMPT"], texts["NEGATIVE_PROMPT"]) == ("a fox", "blur")
    assert "hidden words" in texts["STYLE"].splitlines()


def test_names_and_numbers_of_options_are_no_texts() -> None:
    spec = GenerationSpec("a fox", provider_options={"acme": {"safety_tolerance": 2, "raw": True, "size": {"w": 8}}})
    assert texts_of(spec)["STYLE"] == ""
