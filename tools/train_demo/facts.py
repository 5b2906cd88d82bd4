"""What a picture shows, as data: drawn by `drawing`, worded by `captions`, checked by `judge`."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from tools.train_demo import vocabulary as words
from tools.train_demo.vocabulary import Rgb

# Relations that take longest to learn, and how much oftener than the others they are drawn.
_HARDER: Final = {"inside": 3.0, "and": 1.5, "on": 1.5}


@dataclass(frozen=True)
class Thing:
    """A shape or an object."""

    noun: str
    colour: str
    named: bool = True  # whether the caption names the colour


@dataclass(frozen=True)
class Facts:
    """One picture. `count` things of one kind, or two things in a `relation`, or a `scene`, perhaps with a thing."""

    things: tuple[Thing, ...] = ()
    background: str | None = None
    background_named: bool = True
    count: int = 1
    relation: str | None = None
    scene: str | None = None
    style: str | None = None
    size: str | None = None


def held_out(facts: Facts) -> bool:
    """Whether any attribute combination of the picture is reserved for the evaluation."""
    first = facts.things[0] if facts.things else None
    if first is not None and (facts.count, first.noun) in words.HELD_OUT_COUNTS:
        return True
    if len(facts.things) == 2:
        pair = (facts.things[0].colour, facts.things[1].colour)
        if pair in words.HELD_OUT_COLOUR_PAIRS:
            return True
    return any(
        (thing.colour, thing.noun) in words.HELD_OUT_THINGS
        or (thing.colour, facts.background) in words.HELD_OUT_BACKGROUNDS
        for thing in facts.things
    )


def contrast(one: Rgb, other: Rgb) -> float:
    """Euclidean distance of two colours, 0 to 441."""
    return float(sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) ** 0.5)


def visible(colour: str, background: str) -> bool:
    """Whether a thing of `colour` stands out from `background`."""
    return contrast(words.COLOURS[colour], words.BACKGROUNDS[background]) > 100


def sample(rng: random.Random) -> Facts:
    """Facts of one training picture; never a held-out combination."""
    while True:
        facts = rng.choices(_KINDS, _SHARES)[0](rng)
        if not held_out(facts):
            return facts


def sample_thing(rng: random.Random, objects: float) -> Thing:
    """A shape, or with probability `objects` an object, in any colour."""
    if rng.random() >= objects:
        noun = rng.choices(list(words.SHAPES), list(words.SHAPES.values()))[0]
        return Thing(noun, rng.choice(list(words.COLOURS)))
    noun = rng.choice(list(words.OBJECTS))
    if rng.random() < 0.3 or noun == "tree":
        return Thing(noun, rng.choice(words.OBJECTS[noun]), named=False)
    return Thing(noun, rng.choice(list(words.COLOURS)))


def sample_background(rng: random.Random, things: tuple[Thing, ...]) -> str:
    """A background on which every one of `things` can be seen."""
    names = [name for name in words.BACKGROUNDS if all(visible(thing.colour, name) for thing in things)]
    return rng.choice(names)


def single(rng: random.Random, objects: float = 0.35) -> Facts:
    """One thing on a background, at times in a style."""
    thing = sample_thing(rng, objects)
    facts = Facts((thing,), size=rng.choice(words.SIZES) if rng.random() < 0.2 else None)
    return _styled(_on_background(facts, rng), rng)


def several(rng: random.Random) -> Facts:
    """One to four things of a kind."""
    thing = sample_thing(rng, objects=0.12)
    return _on_background(Facts((thing,), count=rng.choices((1, 2, 3, 4), (1, 2, 6, 7))[0]), rng)


def related(rng: random.Random) -> Facts:
    """Two things of different colours, and where the first one is."""
    relation = rng.choices(list(words.RELATIONS), [_HARDER.get(relation, 1.0) for relation in words.RELATIONS])[0]
    first = sample_thing(rng, objects=0.12)
    second = sample_thing(rng, objects=0.0 if relation == "inside" else 0.12)
    while first.colour == second.colour or not visible(first.colour, second.colour) or second.noun == first.noun:
        first, second = sample_thing(rng, objects=0.12), replace(second, colour=rng.choice(list(words.COLOURS)))
    if relation == "inside":
        second = replace(second, noun=rng.choice(("circle", "square", "heart", "diamond")))
    return _on_background(Facts((first, second), relation=relation), rng)


def scenic(rng: random.Random) -> Facts:
    """A scene, half the time with a thing in it, at times in a style."""
    scene = rng.choice(list(words.SCENES))
    things: tuple[Thing, ...] = ()
    if rng.random() < 0.5:
        noun = rng.choice(words.SCENE_OBJECTS[scene][1])
        named = noun != "tree" and rng.random() < 0.6
        colour = rng.choice(list(words.COLOURS) if named else words.OBJECTS[noun])
        things = (Thing(noun, colour, named=named),)
    return _styled(Facts(things, scene=scene), rng)


def _on_background(facts: Facts, rng: random.Random) -> Facts:
    if rng.random() < 0.08 and all(visible(thing.colour, "white") for thing in facts.things):
        return replace(facts, background="white", background_named=False)
    return replace(facts, background=sample_background(rng, facts.things))


def _styled(facts: Facts, rng: random.Random) -> Facts:
    return replace(facts, style=rng.choice(words.STYLES)) if rng.random() < 0.12 else facts


_KINDS: tuple[Callable[[random.Random], Facts], ...] = (single, several, related, scenic)
_SHARES = (0.32, 0.22, 0.39, 0.07)
