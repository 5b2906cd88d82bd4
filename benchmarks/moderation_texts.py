"""How fast texts are judged: one at a time, many at once, and what memory it takes. One core."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil

from services.moderation.assembly import layers
from services.moderation.classifiers import sentence
from services.moderation.config import DEFAULT_POLICY, ModerationSettings
from services.moderation.policy_files import load_policies
from services.moderation.rule_shelf import RuleShelf
from services.moderation.text_pipeline import TextPipeline
from services.moderation.verdicts import Text, TextKind

DATA = Path(__file__).parents[1] / "tools" / "train_moderation" / "data" / "eval"
AT_ONCE = 64
ROUNDS = 3


@dataclass(frozen=True)
class TextsReport:
    """Milliseconds of one text at a time; texts a second of CPU, many at once; resident MiB afterwards."""

    p50: float
    p99: float
    rate: float
    resident: float


def measure(with_classifier: bool = True) -> TextsReport:
    """The whole text pipeline over the prompts of the evaluation, harmful and benign; without storing verdicts."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    return asyncio.run(_measure(with_classifier))


async def _measure(with_classifier: bool) -> TextsReport:
    settings = ModerationSettings(encoder=ModerationSettings().encoder if with_classifier else "")
    policy = load_policies(DEFAULT_POLICY, layers(settings)).for_tenant("")
    made = sentence.make(settings)
    classifiers = [made] if made is not None else []
    prompts = [line for path in sorted(DATA.rglob("*.txt")) for line in path.read_text().splitlines() if line]
    with ThreadPoolExecutor(1) as pool:
        pipeline = TextPipeline(RuleShelf([policy]), classifiers, pool)

        async def one(prompt: str) -> None:
            await pipeline.judge([Text(0, TextKind.PROMPT, prompt)], policy)

        await one(prompts[0])
        times = [await _timed(one(prompt)) for _ in range(ROUNDS) for prompt in prompts]
        rate = await _rate(one, prompts)
    for classifier in classifiers:
        await classifier.close()
    cuts = statistics.quantiles(times, n=100)
    return TextsReport(cuts[49] * 1e3, cuts[98] * 1e3, rate, psutil.Process().memory_info().rss / 2**20)


async def _timed(call: Awaitable[None]) -> float:
    start = time.perf_counter()
    await call
    return time.perf_counter() - start


async def _rate(one: Callable[[str], Awaitable[None]], prompts: Sequence[str]) -> float:
    """Texts a second of the process's own CPU time, so that other work on the machine does not count."""
    start = time.process_time()
    for place in range(0, len(prompts), AT_ONCE):
        await asyncio.gather(*(one(prompt) for prompt in prompts[place : place + AT_ONCE]))
    return len(prompts) / (time.process_time() - start)
