"""Words for a picture, in varied phrasing."""

import random
from dataclasses import replace

from tools.train_demo import vocabulary as words
from tools.train_demo.facts import Facts, Thing


def caption(facts: Facts, rng: random.Random) -> str:
    """One of the many ways to say `facts`."""
    text = _on_background(_subject(facts, rng), facts, rng) if facts.scene is None else _scene(facts, rng)
    if facts.style is not None:
        text = rng.choice((f"{text}, {facts.style}", f"{facts.style} of {text}", f"{text} in {facts.style} style"))
    elif rng.random() < 0.1:
        text = rng.choice(("a picture of ", "a drawing of ", "an image of ")) + text
    return text


def plural(noun: str) -> str:
    """The plural of a noun of the vocabulary."""
    return words.PLURALS.get(noun, noun + "s")


def _article(text: str) -> str:
    return f"an {text}" if text[0] in "aeiou" else f"a {text}"


def _name(thing: Thing, size: str | None = None) -> str:
    parts = (size, thing.colour if thing.named else None, thing.noun)
    return " ".join(part for part in parts if part)


def _subject(facts: Facts, rng: random.Random) -> str:
    if facts.relation is not None:
        return _pair(facts, rng)
    thing = facts.things[0]
    if facts.count > 1:
        number = rng.choices(words.COUNTS[facts.count], (3, 1))[0]
        return f"{number} {_name(replace(thing, noun=plural(thing.noun)))}"
    name = _name(thing, facts.size)
    return rng.choices((_article(name), f"one {name}", name), (7, 1, 2))[0]


def _pair(facts: Facts, rng: random.Random) -> str:
    first, second = (_article(_name(thing)) for thing in facts.things)
    relation = rng.choice(words.RELATIONS[facts.relation or "and"])
    verb = " is" if facts.relation != "and" and rng.random() < 0.1 else ""
    return f"{first}{verb} {relation} {second}"


def _on_background(subject: str, facts: Facts, rng: random.Random) -> str:
    if not facts.background_named:
        return subject
    name = facts.background
    templates = (
        f"{subject} on {_article(f'{name} background')}",
        f"{subject}, {name} background",
        f"{subject} with {_article(f'{name} background')}",
        f"{subject} against {name}",
        f"{name} background, {subject}",
    )
    return rng.choices(templates, (6, 2, 1, 1, 1))[0]


def _scene(facts: Facts, rng: random.Random) -> str:
    scene = facts.scene or ""
    if not facts.things:
        return rng.choice(words.SCENES[scene])
    place = words.SCENES[scene][0]
    preposition = words.SCENE_OBJECTS[scene][0]
    return f"{_article(_name(facts.things[0]))} {preposition} {place}"
