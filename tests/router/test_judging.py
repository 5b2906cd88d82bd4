"""No text reaches a provider unjudged, whichever field it came in."""

import pytest
from imagemesh.moderation.v1 import verdict_pb2

from services.router.judging import refusal, texts_of
from services.router.peers.moderation import read_verdict
from services.router.specs import GenerationSpec


def test_texts_in_provider_options_are_judged() -> None:
    options = {"stability": {"search_prompt": "a dog", "grow_mask": 3}, "bedrock": {"search_prompt": "a cat"}}
    texts = texts_of(GenerationSpec("a fox", negative_prompt="blur", provider_options=options))
    assert texts == {"PROMPT": "a fox", "NEGATIVE_PROMPT": "blur", "STYLE": "a dog\na cat"}


def test_a_plain_job_has_its_prompt_alone() -> None:
    assert [kind for kind, text in texts_of(GenerationSpec("a fox")).items() if text] == ["PROMPT"]


@pytest.mark.parametrize(
    ("layer", "reason"),
    [("rules", "MODERATION_BLOCKED"), ("review", "MODERATION_BLOCKED"), ("review-expired", "REVIEW_EXPIRED")],
)
def test_a_refusal_tells_whether_anybody_decided(layer: str, reason: str) -> None:
    verdict = read_verdict(verdict_pb2.Verdict(decision=verdict_pb2.DECISION_BLOCK, layer=layer))
    assert refusal("the prompt", verdict).reason == reason
