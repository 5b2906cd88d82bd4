"""Scores the LoRA and the ControlNet by automatic judges, beside chance, true drawings and the model without them."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from diffusers import ControlNetModel, StableDiffusionControlNetPipeline
from PIL import Image

from tools.train_demo import control, lora
from tools.train_demo import facts as fact
from tools.train_demo.captions import caption
from tools.train_demo.drawing import draw
from tools.train_demo.edges import Agreement, agreement, guide
from tools.train_demo.evaluate import GROUPS, GUIDANCE, STEPS, paint, prompts
from tools.train_demo.export import Pipeline, load
from tools.train_demo.facts import Facts
from tools.train_demo.judge import judge
from tools.train_demo.neon import judge_neon, judgeable, neon
from tools.train_demo.styles import STYLE_FILTERS, Pixels, edges

_BATCH: Final = 16
# The judge's words for the same question of one thing and of two.
_QUESTIONS: Final = {"background": ("background",), "colours": ("colour", "colours"), "shapes": ("shape", "bound")}


@dataclass(frozen=True)
class Row:
    """Shares from 0 to 1, or distances in pixels: of chance, of true drawings, of the model without and with."""

    question: str
    scores: tuple[float, ...]
    share: bool = True


def with_lora(target: Path) -> Pipeline:
    """The exported model with its LoRA, in fp32."""
    pipeline = load(target)
    pipeline.load_lora_weights(target / lora.FOLDER)
    return pipeline


def with_control(target: Path) -> Any:
    """The exported model with its ControlNet, in fp32."""
    classes: tuple[Any, Any] = (ControlNetModel, StableDiffusionControlNetPipeline)
    net = classes[0].from_pretrained(target / control.FOLDER).to(torch.float32)
    pipeline = classes[1](**load(target).components, controlnet=net, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def paint_guided(pipeline: Any, captions: list[str], guides: list[Pixels], seed: int) -> list[Pixels]:
    """The pictures of a pipeline `with_control`; picture k has seed `seed + k`, as those of `paint`."""
    made: list[Pixels] = []
    for start in range(0, len(captions), _BATCH):
        batch = captions[start : start + _BATCH]
        seeds = [torch.Generator().manual_seed(seed + start + k) for k in range(len(batch))]
        images = pipeline(
            batch,
            [Image.fromarray(pixels) for pixels in guides[start : start + _BATCH]],
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            generator=seeds,
            output_type="np",
        ).images
        made += list((images * 255).round().astype(np.uint8))
    return made


def score_lora(target: Path, count: int) -> list[Row]:
    """One shape on a background, held-out combinations.

    Chance is the score of drawings in the style for other prompts; for the style itself, of drawings in other styles.
    """
    asked = _single_shapes(count)
    rng = random.Random(22)
    plain = [draw(facts, rng) for facts in asked]
    captions = [caption(facts, rng) for facts in asked]
    drawn = [neon(pixels) for pixels in plain]
    looks: list[Callable[[Pixels], Pixels]] = [lambda pixels: pixels, *STYLE_FILTERS.values()]
    others = _judged([looks[k % len(looks)](pixels) for k, pixels in enumerate(plain)], asked)
    shuffled = _judged(rng.sample(drawn, len(drawn)), asked)
    columns = [
        [{**other, "style": look["style"]} for other, look in zip(shuffled, others, strict=True)],
        _judged(drawn, asked),
        _judged(paint(load(target), captions, seed=23), asked),
        _judged(paint(with_lora(target), captions, seed=23), asked),
    ]
    return [
        Row(question, tuple(_mean([verdict[question] for verdict in column]) for column in columns))
        for question in ("style", "colour", "shape")
    ]


def score_control(target: Path, count: int) -> list[Row]:
    """One shape, one object, 2 to 4 shapes and two shapes in turn, guided by the edges of true drawings.

    "True drawings" have been through the autoencoder, so that edges are as sharp as the model can draw them.
    """
    asked = [facts for group in GROUPS[:4] for facts in prompts(group, unseen=True, count=count // 4)]
    rng = random.Random(32)
    drawn = [draw(facts, rng) for facts in asked]
    captions = [caption(facts, rng) for facts in asked]
    guides = [guide(pixels) for pixels in drawn]
    pipeline = with_control(target)
    columns = [
        rng.sample(drawn, len(drawn)),
        _through_autoencoder(pipeline, drawn),
        paint(load(target), captions, seed=33),
        paint_guided(pipeline, captions, guides, seed=33),
    ]
    kept = [[_kept(pixels, wanted) for pixels, wanted in zip(column, guides, strict=True)] for column in columns]
    verdicts = [[judge(pixels, facts) for pixels, facts in zip(column, asked, strict=True)] for column in columns]
    return [
        Row("edges: overlap", tuple(_mean([one.overlap for one in column]) for column in kept)),
        Row("edges: distance, pixels", tuple(_mean([one.distance for one in column]) for column in kept), share=False),
        *(Row(name, tuple(_answered(column, keys) for column in verdicts)) for name, keys in _QUESTIONS.items()),
    ]


def table(rows: list[Row], what: str) -> str:
    """The rows in Markdown; `what` heads the last column."""
    lines = [f"| what must be right | chance | true drawings | without | {what} |", "|---|---|---|---|---|"]
    for row in rows:
        scores = (f"{score:.0%}" if row.share else f"{score:.1f}" for score in row.scores)
        lines.append(f"| {row.question} | {' | '.join(scores)} |")
    return "\n".join(lines)


def _single_shapes(count: int) -> list[Facts]:
    rng, asked = random.Random(21), list[Facts]()
    while len(asked) < count:
        facts = replace(fact.single(rng, 0.0), style=None)
        named = facts.background_named and facts.things[0].named
        if named and judgeable(facts) and fact.held_out(facts):
            asked.append(facts)
    return asked


def _judged(pictures: list[Pixels], asked: list[Facts]) -> list[dict[str, bool]]:
    return [judge_neon(pixels, facts) for pixels, facts in zip(pictures, asked, strict=True)]


def _kept(pixels: Pixels, wanted: Pixels) -> Agreement:
    return agreement(edges(pixels), wanted[..., 0] > 0)


@torch.no_grad()
def _through_autoencoder(pipeline: Any, pictures: list[Pixels]) -> list[Pixels]:
    inputs = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
    decoded = pipeline.vae.decode(pipeline.vae.encode(inputs).latent_dist.mode()).sample.clamp(-1, 1)
    return list(((decoded + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy())


def _answered(verdicts: list[dict[str, bool]], keys: tuple[str, ...]) -> float:
    return _mean([verdict[key] for verdict in verdicts for key in keys if key in verdict])


def _mean(values: list[float] | list[bool]) -> float:
    return float(np.mean(values))
