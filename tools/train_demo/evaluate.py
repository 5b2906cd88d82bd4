"""Scores the exported model by the automatic judge, beside chance and true drawings."""

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch

from tools.train_demo import facts as fact
from tools.train_demo import vocabulary as words
from tools.train_demo.captions import caption
from tools.train_demo.drawing import draw
from tools.train_demo.export import Pipeline, load
from tools.train_demo.facts import Facts
from tools.train_demo.judge import judge
from tools.train_demo.styles import Pixels

STEPS: Final = 20
GUIDANCE: Final = 3.0
_BATCH: Final = 16


Keep = Callable[[Facts], bool]


@dataclass(frozen=True)
class Group:
    """Prompts of one kind, as many of each of `parts`, and what is asked of their pictures; a row for each question.

    "all" means all that the judge knows to ask; "count of 3" looks only at prompts for three.
    """

    name: str
    sample: Callable[[random.Random], Facts]
    questions: tuple[str, ...]
    parts: tuple[Keep, ...]
    unseen: bool = True  # whether the group has held-out combinations


def _shapes_only(facts: Facts) -> bool:
    return all(thing.noun in words.SHAPES for thing in facts.things)


def _counted(number: int) -> Keep:
    return lambda facts: facts.count == number and _shapes_only(facts)


def _related(relation: str) -> Keep:
    return lambda facts: facts.relation == relation and _shapes_only(facts)


# Colours that none of the objects' details have, so that the judge sees the whole object.
_CLEAR: Final = ("yellow", "purple", "pink", "turquoise", "light green")

GROUPS: Final = (
    Group("one shape", lambda rng: fact.single(rng, 0.0), ("background", "colour", "shape", "all"), (_shapes_only,)),
    Group(
        "one object",
        lambda rng: fact.single(rng, 1.0),
        ("background", "colour", "shape", "all"),
        (lambda facts: facts.background in _CLEAR,),
    ),
    Group(
        "1 to 4 shapes",
        fact.several,
        ("count", "count of 1", "count of 2", "count of 3", "count of 4", "colour", "shape", "all"),
        tuple(_counted(number) for number in words.COUNTS),
    ),
    Group(
        "two shapes",
        fact.related,
        ("colours", "bound", "position", "all"),
        tuple(_related(relation) for relation in words.RELATIONS),
    ),
    Group("scene", fact.scenic, ("scene",), (lambda facts: not facts.things,), unseen=False),
)


@dataclass(frozen=True)
class Row:
    """Scores are shares from 0 to 1. `chance`: true drawings of other prompts of the group."""

    group: str
    question: str
    chance: float
    drawn: float
    model: float


def prompts(group: Group, unseen: bool, count: int) -> list[Facts]:
    """Facts that can be judged: held-out combinations if `unseen`, else such as training draws."""
    share = count // len(group.parts)
    asked = [itertools.islice(_prompts(group, part, unseen and group.unseen), share) for part in group.parts]
    return list(itertools.chain(*zip(*asked, strict=True)))


def evaluate(target: Path, count: int, unseen: bool) -> list[Row]:
    """Scores `target` on `count` prompts a group."""
    pipeline = load(target)
    return [row for group in GROUPS for row in _score(group, prompts(group, unseen, count), pipeline)]


def _score(group: Group, asked: list[Facts], pipeline: Pipeline) -> list[Row]:
    rng = random.Random(12)
    drawn = [draw(facts, rng) for facts in asked]
    made = paint(pipeline, [caption(facts, rng) for facts in asked], seed=13)
    others = rng.sample(drawn, len(drawn))
    verdicts = [_judge_all(pictures, asked) for pictures in (others, drawn, made)]
    rows = []
    for question in group.questions:
        chance, true, model = (_share(verdict, asked, question) for verdict in verdicts)
        rows.append(Row(group.name, question, chance, true, model))
    return rows


def _prompts(group: Group, part: Keep, unseen: bool) -> Iterator[Facts]:
    rng = random.Random(11)
    while True:
        facts = replace(group.sample(rng), style=None)
        named = facts.scene is not None or (facts.background_named and all(thing.named for thing in facts.things))
        if named and part(facts) and fact.held_out(facts) == unseen:
            yield facts


def paint(pipeline: Pipeline, captions: list[str], seed: int) -> list[Pixels]:
    """The model's pictures; picture k has seed `seed + k`."""
    made: list[Pixels] = []
    for start in range(0, len(captions), _BATCH):
        batch = captions[start : start + _BATCH]
        seeds = [torch.Generator().manual_seed(seed + start + k) for k in range(len(batch))]
        images = pipeline(
            batch, num_inference_steps=STEPS, guidance_scale=GUIDANCE, generator=seeds, output_type="np"
        ).images
        made += list((images * 255).round().astype(np.uint8))
    return made


def table(rows: list[Row]) -> str:
    """The rows in Markdown."""
    lines = ["| prompt | what must be right | chance | true drawings | model |", "|---|---|---|---|---|"]
    for row in rows:
        scores = (f"{score:.0%}" for score in (row.chance, row.drawn, row.model))
        lines.append(f"| {row.group} | {row.question} | {' | '.join(scores)} |")
    return "\n".join(lines)


def _judge_all(pictures: list[Pixels], asked: list[Facts]) -> list[dict[str, bool]]:
    return [judge(pixels, facts) for pixels, facts in zip(pictures, asked, strict=True)]


def _share(verdicts: list[dict[str, bool]], asked: list[Facts], question: str) -> float:
    if question.startswith("count of "):
        chosen = [v["count"] for v, facts in zip(verdicts, asked, strict=True) if question.endswith(str(facts.count))]
    else:
        chosen = [all(verdict.values()) if question == "all" else verdict[question] for verdict in verdicts]
    return sum(chosen) / len(chosen)
