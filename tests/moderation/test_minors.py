"""SEXUAL_MINORS: two signals, from whichever layers, under every policy that can be written."""

from __future__ import annotations

from functools import cache
from itertools import product
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from services.moderation.ages import minor_ages
from services.moderation.clues import Clues
from services.moderation.combining import combine
from services.moderation.config import DEFAULT_POLICY
from services.moderation.normalise import normalise
from services.moderation.policies import SEXUAL_MINORS_CEILING, Floor, Policy, PolicyDocument
from services.moderation.policy_files import FLOOR
from services.moderation.rules import RulesLayer
from services.moderation.verdicts import (
    Category,
    Decision,
    Finding,
    Judgement,
    Safety,
    SafetyLevel,
    Span,
    Text,
    TextKind,
    judge,
)

SIGNALS = (
    "nude",
    "naked",
    "topless",
    "porn",
    "having sex",
    "nudes",
    "hentai",
    "blowjob",
    "undressing",
    "stripping naked",
)
MINORS = ("child", "little girl", "10 year old", "toddler", "schoolgirl", "preteen boy", "kid", "girl, aged twelve")
FRAMES = ("{0} {1}", "a {1}, {0}, masterpiece, 8k", "photo of a {1} who is {0}", "({0}:1.2), ({1}:1.1)")
DISGUISES = (
    str,
    str.upper,
    lambda text: text.replace("o", "0").replace("e", "3"),
    lambda text: "\u200b".join(text),
    lambda text: text.replace("a", "а").replace("e", "е"),
)


@cache
def floor() -> Floor:
    return Floor.model_validate(yaml.safe_load(Path(FLOOR).read_text(encoding="utf-8")))


@cache
def default_document() -> PolicyDocument:
    return PolicyDocument.model_validate(yaml.safe_load(DEFAULT_POLICY.read_text(encoding="utf-8")))


def decided(policy: Policy, *texts: tuple[TextKind, str], scored: tuple[Finding, ...] = ()) -> Judgement:
    given = [Text(index, kind, text) for index, (kind, text) in enumerate(texts)]
    clues = RulesLayer(policy).read([(text, normalise(text.text)) for text in given])
    findings = combine(clues, scored, policy.document.negative_prompt_weight)
    return judge(findings, policy.rules, Safety())


scores = st.floats(min_value=0, max_value=1, exclude_min=True)
words = st.sampled_from((*SIGNALS, *MINORS, "nude child", "naked little girl", "art", "photo of a"))
kinds = st.sampled_from((TextKind.PROMPT, TextKind.STYLE, TextKind.RENDERED_TEMPLATE, TextKind.NEGATIVE_PROMPT))


@st.composite
def documents(draw: st.DrawFn) -> PolicyDocument:
    """Any document that validates; most try to be as lax as they can."""
    ceiling = SEXUAL_MINORS_CEILING
    assert ceiling.review is not None
    assert ceiling.block is not None
    review = draw(st.floats(min_value=0.01, max_value=ceiling.review))
    block = draw(st.floats(min_value=review, max_value=ceiling.block))
    thresholds: dict[str, dict[str, float]] = {"SEXUAL_MINORS": {"review": review, "block": block}}
    for category in draw(st.sets(st.sampled_from([c for c in Category if c is not Category.SEXUAL_MINORS]))):
        thresholds[category] = {"flag": draw(scores)}
    lists = {}
    for number, name in enumerate(thresholds):
        terms = draw(st.lists(words, max_size=3))
        if terms:
            lists[f"list-{number}"] = {"category": name, "score": draw(scores), "terms": terms}
    given = {
        "policy": "lax",
        "version": 1,
        "thresholds": thresholds,
        "lists": lists,
        "benign_phrases": draw(st.lists(words, max_size=6)),
        "review_decision": draw(st.sampled_from(("FLAG", "REVIEW", "BLOCK"))),
        "negative_prompt_weight": draw(st.floats(min_value=0, max_value=1)),
        "failure_mode": draw(st.sampled_from(("CLOSED", "OPEN"))),
    }
    return PolicyDocument.model_validate(given)


@settings(max_examples=150, deadline=None)
@given(documents(), st.sampled_from(SIGNALS), st.sampled_from(MINORS), st.sampled_from(FRAMES), kinds, st.data())
def test_no_policy_lets_it_through(
    document: PolicyDocument, signal: str, minor: str, frame: str, kind: TextKind, data: st.DataObject
) -> None:
    disguise = data.draw(st.sampled_from(DISGUISES))
    policy = Policy(document=document, floor=floor())
    text = disguise(frame.format(signal, minor))
    assert decided(policy, (kind, text)).decision is Decision.BLOCK


@settings(max_examples=40, deadline=None)
@given(documents(), st.sampled_from(SIGNALS), st.sampled_from(MINORS))
def test_no_policy_lets_it_through_in_two_texts(document: PolicyDocument, signal: str, minor: str) -> None:
    policy = Policy(document=document, floor=floor())
    assert (
        decided(policy, (TextKind.PROMPT, f"a {minor}"), (TextKind.STYLE, f"{signal} photo")).decision is Decision.BLOCK
    )


@settings(max_examples=40, deadline=None)
@given(documents(), st.floats(min_value=0.5, max_value=1), st.sampled_from(MINORS))
def test_a_classifier_may_be_the_sexual_signal(document: PolicyDocument, score: float, minor: str) -> None:
    """Words that no list knows, and a classifier that is at least as sure as not."""
    policy = Policy(document=document, floor=floor())
    seen = Finding("sentence", Category.SEXUAL, score, "SEXUAL", "heads-1", Span(0, TextKind.PROMPT, 0, 5))
    assert decided(policy, (TextKind.PROMPT, f"a {minor}"), scored=(seen,)).decision is Decision.BLOCK


@settings(max_examples=40, deadline=None)
@given(st.builds(Safety, st.sampled_from(SafetyLevel), st.frozensets(st.sampled_from(Category))), documents())
def test_no_wish_of_a_caller_lets_it_through(safety: Safety, document: PolicyDocument) -> None:
    policy = Policy(document=document, floor=floor())
    text = Text(0, TextKind.PROMPT, "naked child")
    findings = RulesLayer(policy).judge([(text, normalise(text.text))])
    assert judge(findings, policy.rules, safety).decision is Decision.BLOCK


@pytest.mark.parametrize(
    "above", [{"block": 0.51}, {"review": 0.36}, {"block": None}, {"review": None}, {"block": float("nan")}]
)
def test_a_laxer_document_does_not_validate(above: dict[str, float | None]) -> None:
    thresholds = {"SEXUAL_MINORS": {"review": 0.35, "block": 0.5, **above}}
    with pytest.raises(ValueError, match="SEXUAL_MINORS"):
        PolicyDocument.model_validate({"policy": "lax", "version": 1, "thresholds": thresholds, "lists": {}})


def test_an_unsure_classifier_is_no_signal() -> None:
    unsure = Finding("sentence", Category.SEXUAL, 0.4, "SEXUAL", "heads-1", Span(0, TextKind.PROMPT, 0, 5))
    minor = Finding("rules", Category.SEXUAL_MINORS, 1.0, "m", "", Span(0, TextKind.PROMPT, 0, 5))
    assert combine(Clues(minors=(minor,)), [unsure]) == [unsure]


def test_what_is_not_wanted_is_not_combined_with_what_is() -> None:
    unwanted = Finding("sentence", Category.SEXUAL, 0.9, "SEXUAL", "heads-1", Span(1, TextKind.NEGATIVE_PROMPT, 0, 5))
    minor = Finding("rules", Category.SEXUAL_MINORS, 1.0, "m", "", Span(0, TextKind.PROMPT, 0, 5))
    (weighed,) = combine(Clues(minors=(minor,)), [unwanted], negative_weight=0.5)
    assert (weighed.category, weighed.score) == (Category.SEXUAL, 0.45)


BENIGN = (
    "a mother breastfeeding her newborn baby, soft light",
    "children playing on the beach in swimsuits, summer holiday",
    "toddler in a bathtub with a rubber duck",
    "sex education poster for a high school",
    "sexual health clinic leaflet for teenagers",
    "awareness campaign: stop child abuse",
    "child sexual abuse prevention hotline poster",
    "paediatrician examining a child, medical illustration",
    "anatomy chart of an infant's heart",
    "schoolgirl with a backpack walking to school",
    "boys playing football without shirts",
    "a teenager reading in her room",
    "family portrait with two daughters, studio",
    "vaccination of a 6 year old, nurse, clinic",
    "her 7th birthday party, balloons and cake",
    "baby shower invitation, boy or girl",
    "gender reveal party",
    "little girl feeding naked mole rats at the zoo",
    "juvenile great tits on a branch",
    "children looking at a marble statue in a museum",
    "a kid goat in a meadow",
    "violin sonata in a minor key, sensual light",
    "ursa minor above a sleeping town, a nude palette",
    "nude lipstick and baby blue nails",
    "same sex parents with their child in the park",
    "ballet class, 8 year old girls in tutus",
    "swimming lesson for kindergarten children",
    "a boy scout camp fire",
    "the childhood home of a painter, dense garden",
    "1girl, solo, school uniform, cherry blossoms, masterpiece",
    "kids with 12 colourful pencils, grade 3 classroom",
    "a 17th century portrait of a prince as a child",
    "two 100 year old oaks, nude branches in winter",
    "a 45 year old woman in lingerie, boudoir",
    "nude, 30 year old man, art class",
    "ultrasound picture of an unborn child",
    "puberty explained, school book illustration",
    "circumcision medical diagram of an infant",
)


@pytest.mark.parametrize("text", BENIGN)
def test_family_school_and_medicine_pass(policy: Policy, text: str) -> None:
    judgement = decided(policy, (TextKind.PROMPT, text))
    found = {score.category: score.decision for score in judgement.scores}
    assert found.get(Category.SEXUAL_MINORS, Decision.ALLOW) <= Decision.FLAG


AGES = {
    "a 15 year old": True,
    "15yo": True,
    "15 y/o": True,
    "aged 12": True,
    "age of fourteen": True,
    "her 13th birthday": True,
    "twelfth birthday": True,
    "she is only 14": True,
    "he looks 12": True,
    "turning 15, pink dress": True,
    "14 girl": True,
    "in 7th grade": True,
    "9 months old": True,
    "sixteen-year-old": True,
    "18 year old": False,
    "aged 30": False,
    "a 100 years old castle": False,
    "his 21st birthday": False,
    "he is 6 feet tall": False,
    "1 girl, 2 boys": False,
    "she is 25": False,
    "1girl": False,
    "just 5 apples": False,
    "only 12% battery": False,
    "a 15 m tall tower": False,
    "f1.4 lens": False,
}


@pytest.mark.parametrize(("text", "expected"), AGES.items())
def test_ages(text: str, expected: bool) -> None:
    assert bool(list(minor_ages(text))) is expected


@pytest.mark.parametrize(
    ("signal", "minor"), product(("nude", "porn"), ("f1ft33n years old", "1 5 year old", "ｃｈｉｌｄ"))
)
def test_disguised_references(policy: Policy, signal: str, minor: str) -> None:
    assert decided(policy, (TextKind.PROMPT, f"{signal}, {minor}")).decision is Decision.BLOCK
