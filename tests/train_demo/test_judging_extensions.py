"""The judges of the LoRA and the ControlNet: right about true drawings, and wrong about others."""

import random
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from tools.train_demo import facts as fact
from tools.train_demo.drawing import draw
from tools.train_demo.edges import agreement, guide
from tools.train_demo.facts import Facts, Thing
from tools.train_demo.neon import judge_neon, judgeable, neon
from tools.train_demo.styles import STYLE_FILTERS, edges


def shapes(seed: int, count: int) -> Iterator[Facts]:
    rng = random.Random(seed)
    while count:
        facts = replace(fact.single(rng, 0.0), style=None)
        if judgeable(facts):
            count -= 1
            yield facts


def test_true_neon_drawings_are_right() -> None:
    rng = random.Random(1)
    right = [all(judge_neon(neon(draw(facts, rng)), facts).values()) for facts in shapes(2, 100)]
    assert sum(right) / len(right) >= 0.97


@pytest.mark.parametrize("style", [None, *STYLE_FILTERS])
def test_the_base_models_styles_are_not_neon(style: str | None) -> None:
    rng = random.Random(3)
    drawn = [(draw(replace(facts, style=style), rng), facts) for facts in shapes(4, 50)]
    assert sum(judge_neon(pixels, facts)["style"] for pixels, facts in drawn) <= 1


@pytest.mark.parametrize(
    ("shown", "wrong"), [(Thing("heart", "blue"), {"colour"}), (Thing("square", "pink"), {"shape"})]
)
def test_each_fault_of_a_neon_picture_is_named(shown: Thing, wrong: set[str]) -> None:
    asked = Facts((Thing("heart", "pink"),), "green")
    verdict = judge_neon(neon(draw(replace(asked, things=(shown,)), random.Random(5))), asked)
    assert {question for question, right in verdict.items() if not right} == wrong


def test_an_empty_picture_is_not_neon() -> None:
    verdict = judge_neon(np.zeros((64, 64, 3), np.uint8), Facts((Thing("heart", "pink"),), "green"))
    assert not any(verdict.values())


def test_edges_agree_with_themselves_whatever_the_colours() -> None:
    one, other = (
        draw(Facts((Thing("star", colour),), ground), random.Random(6))
        for colour, ground in (("red", "white"), ("yellow", "blue"))
    )
    assert agreement(edges(one), edges(one)).overlap == 1
    assert agreement(edges(one), edges(one)).distance == 0
    assert agreement(edges(one), edges(other)).overlap > 0.95


def test_edges_elsewhere_agree_little() -> None:
    one = draw(Facts((Thing("star", "red"),), "white", size="small"), random.Random(7))
    other = np.roll(one, 20, axis=1)
    found = agreement(edges(one), edges(other))
    assert found.overlap < 0.3
    assert found.distance > 4


def test_no_edges_are_as_far_as_can_be() -> None:
    some, none = edges(draw(Facts(scene="beach"), random.Random(8))), np.zeros((64, 64), bool)
    assert agreement(some, none).overlap == 0
    assert agreement(none, some).distance == 64


def test_a_guide_is_white_on_black_and_a_thick_one_covers_the_thin() -> None:
    pixels = draw(Facts((Thing("cat", "grey"),), "pink"), random.Random(9))
    thin, thick = guide(pixels), guide(pixels, thick=True)
    assert thin.shape == (64, 64, 3)
    assert set(np.unique(thin)) == {0, 255}
    assert (thick >= thin).all()
    assert thick.sum() > thin.sum()
