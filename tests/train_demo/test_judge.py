"""A judge is only as good as its score on true drawings."""

import random

import numpy as np
import pytest

from tools.train_demo.drawing import draw
from tools.train_demo.evaluate import GROUPS, Group, prompts
from tools.train_demo.facts import Facts, Thing
from tools.train_demo.judge import judge


@pytest.mark.parametrize("unseen", [True, False])
@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
def test_true_drawings_are_right(group: Group, unseen: bool) -> None:
    rng = random.Random(5)
    right = [all(judge(draw(facts, rng), facts).values()) for facts in prompts(group, unseen, 64)]
    assert sum(right) / len(right) >= 0.93


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
def test_drawings_of_other_prompts_are_wrong(group: Group) -> None:
    rng = random.Random(6)
    asked = prompts(group, unseen=True, count=64)
    drawn = rng.sample([draw(facts, rng) for facts in asked], len(asked))
    right = [all(judge(pixels, facts).values()) for pixels, facts in zip(drawn, asked, strict=True)]
    assert sum(right) / len(right) <= 0.25


RED_CIRCLE = Facts((Thing("circle", "red"),), "black")


@pytest.mark.parametrize(
    ("shown", "wrong"),
    [
        (Facts((Thing("circle", "blue"),), "white"), {"colour", "background"}),
        (Facts((Thing("square", "red"),), "black"), {"shape"}),
        (Facts((Thing("circle", "red"),), "black", count=2), {"count"}),
    ],
)
def test_each_fault_is_named(shown: Facts, wrong: set[str]) -> None:
    verdict = judge(draw(shown, random.Random(0)), RED_CIRCLE)
    assert {question for question, right in verdict.items() if not right} == wrong


@pytest.mark.parametrize(
    ("relation", "asked", "right"),
    [
        ("left of", "left of", True),
        ("left of", "right of", False),
        ("above", "below", False),
        ("inside", "inside", True),
        ("above", "inside", False),
        ("on", "above", True),
        ("left of", "and", True),
    ],
)
def test_positions(relation: str, asked: str, right: bool) -> None:
    things = (Thing("heart", "yellow"), Thing("square", "blue"))
    pixels = draw(Facts(things, "black", relation=relation), random.Random(1))
    assert judge(pixels, Facts(things, "black", relation=asked))["position"] is right


def test_an_empty_picture_is_wrong_in_all_but_its_background() -> None:
    verdict = judge(np.full((64, 64, 3), 20, np.uint8), RED_CIRCLE)
    assert verdict == {"background": True, "colour": False, "shape": False, "count": False}
