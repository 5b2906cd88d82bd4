"""No text reaches a provider unjudged, whichever field it came in."""

from services.router.judging import texts_of
from services.router.specs import GenerationSpec


def test_texts_in_provider_options_are_judged() -> None:
    options = {"stability": {"search_prompt": "a dog", "grow_mask": 3}, "bedrock": {"search_prompt": "a cat"}}
    texts = texts_of(GenerationSpec("a fox", negative_prompt="blur", provider_options=options))
    assert texts == {"PROMPT": "a fox", "NEGATIVE_PROMPT": "blur", "STYLE": "a dog\na cat"}


def test_a_plain_job_has_its_prompt_alone() -> None:
    assert [kind for kind, text in texts_of(GenerationSpec("a fox")).items() if text] == ["PROMPT"]
