"""SEXUAL_MINORS over two signals, where a picture shows the one, and text in it or its prompt says the other."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from imagemesh.moderation.v1 import verdict_pb2

from services.moderation.classifiers.base import Capability, Picture
from services.moderation.image_pipeline import Reading
from services.moderation.verdicts import Category, Finding
from tests.moderation.people_rig import ALLOW, BLOCK
from tests.moderation.pictures import encode, scene
from tests.moderation.policy_rig import LIVE, Rig
from tests.moderation.running import Running
from tests.moderation.test_picture_text import FakeReader

DATA = encode(scene(1))
MINORS = verdict_pb2.CATEGORY_SEXUAL_MINORS
AGE = "a girl, 12 years old, at the beach"


class Seen:
    """A classifier that gives every picture one score for SEXUAL."""

    name = "seen"
    capability = Capability(frozenset({Category.SEXUAL}), "1")

    def __init__(self, score: float) -> None:
        self._finding = Finding("seen", Category.SEXUAL, score, "seen/sexual", "1")

    async def judge(self, _picture: Picture) -> Sequence[Finding]:
        return (self._finding,)

    async def close(self) -> None:
        """Holds nothing."""


async def adults_only(service: Running) -> None:
    """Makes it a mesh for adults: its policy lets sexual content out."""
    rig = Rig(service)
    policy = await rig.get()
    for limits in policy.thresholds:
        if limits.category == verdict_pb2.CATEGORY_SEXUAL:
            for tier in ("flag", "review", "block"):
                limits.ClearField(tier)
    await rig.move(await rig.set(policy, (await rig.newest()).etag), LIVE)


@pytest.fixture
async def adult(moderation_on_each: Running) -> Running:
    await adults_only(moderation_on_each)
    return moderation_on_each


def shows(service: Running, score: float, text: str = "") -> None:
    pictures = service.moderation._pictures
    pictures._classifiers = (Seen(score),)
    pictures._reading = Reading(FakeReader(text), service.moderation.judge._texts) if text else None


def minors(verdict: verdict_pb2.Verdict) -> list[verdict_pb2.Evidence]:
    return [each for each in verdict.evidence if each.category == MINORS]


async def test_a_sexual_picture_is_let_out_there(adult: Running) -> None:
    shows(adult, 0.9, "Hotel Riviera")
    assert (await adult.prompt("a woman at the beach", job_id="job_1")).decision == ALLOW
    assert (await adult.image(DATA, job_id="job_1")).decision == ALLOW


async def test_an_age_that_is_written_in_it_blocks_it(adult: Running) -> None:
    shows(adult, 0.9, "Lucy, 12 years old")
    verdict = await adult.image(DATA)
    assert verdict.decision == BLOCK
    assert minors(verdict)[0].entry == "seen/sexual x floor-minor-age/under-18"


async def test_a_child_in_the_jobs_prompt_blocks_it(adult: Running) -> None:
    shows(adult, 0.9)
    assert (await adult.prompt(AGE, job_id="job_1")).decision != BLOCK
    verdict = await adult.image(DATA, job_id="job_1")
    assert (verdict.decision, len(minors(verdict))) == (BLOCK, 1)
    assert (await adult.image(DATA, job_id="job_2")).decision == ALLOW
    assert (await adult.image(DATA)).decision == ALLOW
    shows(adult, 0.1)  # a beach and nothing else
    assert (await adult.image(encode(scene(2)), job_id="job_1")).decision == ALLOW


async def test_a_child_that_is_not_wanted_in_it_does_not(adult: Running) -> None:
    shows(adult, 0.9)
    await adult.prompt("child, 12 years old", verdict_pb2.TEXT_KIND_NEGATIVE_PROMPT, job_id="job_1")
    assert (await adult.image(DATA, job_id="job_1")).decision == ALLOW


async def test_a_sexual_prompt_and_an_age_written_in_the_picture(adult: Running) -> None:
    """The text was judged alone before: nothing in the picture itself is sexual to the classifier."""
    shows(adult, 0.0, "Lucy, 12 years old")
    prompt = await adult.prompt("a nude woman on a sofa", job_id="job_1")
    assert not minors(prompt)
    assert (await adult.image(DATA, job_id="job_1")).decision == BLOCK
    assert (await adult.image(DATA)).decision == ALLOW
