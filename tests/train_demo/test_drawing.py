"""What is drawn and said: repeatable, true to the vocabulary, and never what the evaluation asks for."""

import itertools
import random

import numpy as np
import pytest

from tools.train_demo import facts as fact
from tools.train_demo import vocabulary as words
from tools.train_demo.drawing import draw, examples
from tools.train_demo.facts import Facts, Thing
from tools.train_demo.judge import judge
from tools.train_demo.placing import place


def test_the_same_seed_gives_the_same_examples() -> None:
    one, other = (list(itertools.islice(examples(7), 40)) for _ in range(2))
    assert [e.caption for e in one] == [e.caption for e in other]
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(one, other, strict=True))


def test_another_seed_gives_other_examples() -> None:
    one, other = ([e.caption for e in itertools.islice(examples(seed), 40)] for seed in (7, 8))
    assert one != other


def test_pictures_are_64_by_64_bytes() -> None:
    for example in itertools.islice(examples(1), 50):
        assert example.pixels.shape == (64, 64, 3)
        assert example.pixels.dtype == np.uint8


def test_training_never_draws_a_held_out_combination() -> None:
    for example in itertools.islice(examples(2), 3000):
        facts = example.facts
        for thing in facts.things:
            assert (thing.colour, thing.noun) not in words.HELD_OUT_THINGS
            assert (thing.colour, facts.background) not in words.HELD_OUT_BACKGROUNDS
        if facts.things:
            assert (facts.count, facts.things[0].noun) not in words.HELD_OUT_COUNTS
        if len(facts.things) == 2:
            assert tuple(thing.colour for thing in facts.things) not in words.HELD_OUT_COLOUR_PAIRS


@pytest.mark.parametrize(
    ("facts", "held"),
    [
        (Facts((Thing("star", "red"),), "blue"), True),
        (Facts((Thing("star", "yellow"),), "purple"), True),
        (Facts((Thing("circle", "yellow"),), "blue", count=3), True),
        (Facts((Thing("circle", "red"), Thing("square", "blue")), "black", relation="above"), True),
        (Facts((Thing("circle", "blue"), Thing("square", "red")), "black", relation="above"), False),
        (Facts((Thing("star", "yellow"),), "dark blue", count=2), False),
        (Facts(scene="beach"), False),
    ],
)
def test_held_out(facts: Facts, held: bool) -> None:
    assert fact.held_out(facts) is held


def test_every_word_is_drawn_and_said() -> None:
    drawn = list(itertools.islice(examples(3), 6000))
    said = " ".join(example.caption for example in drawn)
    for word in (*words.BACKGROUNDS, *words.SHAPES, *words.OBJECTS, *words.STYLES, *words.SIZES, "crosses"):
        assert f" {word}" in said, word
    assert {example.facts.scene for example in drawn} == {None, *words.SCENES}
    assert {example.facts.relation for example in drawn} == {None, *words.RELATIONS}
    assert {example.facts.count for example in drawn} == {1, 2, 3, 4}


def test_no_kind_of_picture_starves() -> None:
    drawn = [example.facts for example in itertools.islice(examples(4), 2000)]
    pairs, scenes = sum(bool(facts.relation) for facts in drawn), sum(bool(facts.scene) for facts in drawn)
    several = sum(facts.count > 1 for facts in drawn)
    single = len(drawn) - pairs - scenes - several
    assert min(single, pairs, several) > 300
    assert scenes > 100


def test_what_stands_side_by_side_is_drawn_in_the_order_of_the_words() -> None:
    facts = Facts((Thing("circle", "red"), Thing("square", "blue")), "white", relation="and")
    for seed in range(8):
        (first, left, *_), (second, right, *_) = place(facts, random.Random(seed))
        assert (first, second) == facts.things
        assert left < right


@pytest.mark.parametrize("noun", words.SHAPES)
@pytest.mark.parametrize("count", [2, 3, 4])
def test_things_of_a_kind_stand_apart(count: int, noun: str) -> None:
    """So far apart that at 64 x 64 none of them touch."""
    facts = Facts((Thing(noun, "black"),), "white", count=count)
    for seed in range(12):
        assert judge(draw(facts, random.Random(seed)), facts)["count"]
