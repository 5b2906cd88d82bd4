"""The language gate: foreign texts go to the review tier, and nothing English or short is taken for foreign."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from services.moderation import language
from services.moderation.classifiers import Capability
from services.moderation.language import BOUND, language_of
from services.moderation.normalise import normalise
from services.moderation.policies import Policy
from services.moderation.rule_shelf import RuleShelf
from services.moderation.text_pipeline import TextPipeline
from services.moderation.verdicts import Decision, Finding, Safety, Text, TextKind, judge

ENGLISH = (
    "a cat",
    "cat",
    "猫",
    "portrait of Jean-Luc Moreau",
    "Müller Schneider Weber Fischer",
    "Kurosawa Akira, Hokusai, Utamaro",
    "masterpiece, best quality, 1girl, solo, absurdres",
    "voronoi hypermaximalist kodak portra",
    "а саt іn thе hоusе",
    "n u d e w o m a n",
    "k1ll 4ll th3 p30pl3",
    "ａ ｃａｔ ｉｎ ａ ｈａｔ",
    "café 你好 restaurant sign on a wall at night",
    "",
    "1234 !!",
)
FOREIGN = (
    ("un chat noir assis sur un mur", "fr"),
    ("ein Hund schläft auf dem Sofa", "de"),
    ("un perro corre por la playa con un niño", "es"),
    ("猫が窓のそばに座っている", "ja"),
    ("большая собака бежит по белому снегу и лает на человека", "ru"),
)


class Polyglot:
    """A classifier of every category in the languages it is given; none: all."""

    name = "polyglot"

    def __init__(self, *languages: str) -> None:
        self.capability = Capability(frozenset(BOUND), "1", languages=frozenset(languages))

    async def judge(self, _texts: Sequence[Text]) -> Sequence[Finding]:
        return []

    async def close(self) -> None:
        """Holds nothing."""


@pytest.mark.parametrize("text", ENGLISH)
def test_not_foreign(text: str) -> None:
    assert language_of(normalise(text)) == "en"


@pytest.mark.parametrize(("text", "tag"), FOREIGN)
def test_foreign(text: str, tag: str) -> None:
    assert language_of(normalise(text)) == tag


def with_languages(policy: Policy, *languages: str) -> Policy:
    changes = {"languages": languages, "review_decision": "REVIEW"}
    return policy.model_copy(update={"document": policy.document.model_copy(update=changes)})


@pytest.mark.parametrize(
    ("languages", "classifier", "decision"),
    [
        (("en",), Polyglot("en"), Decision.REVIEW),
        (("en",), Polyglot("en", "fr"), Decision.ALLOW),
        (("en",), Polyglot(), Decision.ALLOW),
        (("en", "fr-CA"), Polyglot("en"), Decision.ALLOW),
        ((), Polyglot("en"), Decision.ALLOW),
    ],
)
async def test_the_policy_decides(
    policy: Policy, languages: tuple[str, ...], classifier: Polyglot, decision: Decision
) -> None:
    changed = with_languages(policy, *languages)
    texts = [Text(0, TextKind.PROMPT, "un chat noir assis sur un mur")]
    with ThreadPoolExecutor(1) as pool:
        outcome = await TextPipeline(RuleShelf(), [classifier], pool).judge(texts, changed)
    judgement = judge(outcome.findings, changed.rules, Safety())
    assert judgement.decision is decision
    if decision is Decision.REVIEW:
        assert judgement.layer == language.LAYER
        assert {evidence.finding.entry for evidence in judgement.evidence} == {"language/fr"}
        assert set(BOUND) <= set(outcome.not_evaluated)
    else:
        assert not set(BOUND) & set(outcome.not_evaluated)
