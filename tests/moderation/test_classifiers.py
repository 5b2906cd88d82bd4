"""The port for classifiers: what is covered, and what a failing one means."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from mesh.errors import MeshError, Unavailable
from services.moderation.classifiers import IMAGE_CLASSIFIERS, TEXT_CLASSIFIERS, Capability, Picture
from services.moderation.decoding import inspect
from services.moderation.image_pipeline import ImagePipeline
from services.moderation.perceptual import EMPTY_TABLE
from services.moderation.policies import Policy
from services.moderation.rule_shelf import RuleShelf
from services.moderation.text_pipeline import TextPipeline
from services.moderation.verdicts import Category, Finding, Text, TextKind
from tests.moderation.pictures import encode, scene

TEXTS = [Text(0, TextKind.PROMPT, "a cat")]
FOUND = Finding("fake", Category.GORE, 0.7, "label", "fake-1")


class FakeClassifier:
    """Finds one thing in everything, or fails, or never answers."""

    name = "fake"
    capability = Capability(frozenset({Category.GORE, Category.PII}), "fake-1", timeout=0.05)

    def __init__(self, failure: MeshError | None = None, hangs: bool = False) -> None:
        self._failure = failure
        self._hangs = hangs

    async def judge(self, _content: Sequence[Text] | Picture) -> Sequence[Finding]:
        if self._failure is not None:
            raise self._failure
        if self._hangs:
            await asyncio.Event().wait()
        return [FOUND]

    async def close(self) -> None:
        """Holds nothing."""


FAILING = (FakeClassifier(failure=Unavailable("away")), FakeClassifier(hangs=True))


def opened(policy: Policy) -> Policy:
    """Failing open, and without a list for what the classifier covers."""
    lists = {name: terms for name, terms in policy.document.lists.items() if terms.category is not Category.GORE}
    document = policy.document.model_copy(update={"failure_mode": "OPEN", "lists": lists})
    return policy.model_copy(update={"document": document})


def test_the_tables_name_the_layers() -> None:
    assert "sentence" in TEXT_CLASSIFIERS
    assert not set(TEXT_CLASSIFIERS) & set(IMAGE_CLASSIFIERS)


async def test_covered_categories_are_evaluated(policy: Policy) -> None:
    seen = inspect(encode(scene(1)))
    outcome = await ImagePipeline([FakeClassifier()]).judge(seen, policy, EMPTY_TABLE)
    assert outcome.findings == (FOUND,)
    assert set(outcome.not_evaluated) == set(Category) - {Category.GORE, Category.PII}
    with ThreadPoolExecutor(1) as pool:
        texts = await TextPipeline(RuleShelf([policy]), [FakeClassifier()], pool).judge(TEXTS, policy)
    assert (texts.findings, texts.not_evaluated) == ((FOUND,), ())


@pytest.mark.parametrize("failing", FAILING)
async def test_failing_closed(policy: Policy, failing: FakeClassifier) -> None:
    with ThreadPoolExecutor(1) as pool, pytest.raises(Unavailable):
        await TextPipeline(RuleShelf([policy]), [failing], pool).judge(TEXTS, policy)


@pytest.mark.parametrize("failing", FAILING)
async def test_failing_open_says_so(policy: Policy, failing: FakeClassifier) -> None:
    open_policy = opened(policy)
    with ThreadPoolExecutor(1) as pool:
        outcome = await TextPipeline(RuleShelf([open_policy]), [failing], pool).judge(TEXTS, open_policy)
    assert outcome.not_evaluated == (Category.GORE,)


async def test_a_bounded_number_of_pictures_waits() -> None:
    pipeline = ImagePipeline([], working=1, waiting=1)
    async with pipeline.slot():
        queued = asyncio.create_task(_take(pipeline))
        await asyncio.sleep(0)
        with pytest.raises(Unavailable):
            await _take(pipeline)
    await queued


async def _take(pipeline: ImagePipeline) -> None:
    async with pipeline.slot():
        return
