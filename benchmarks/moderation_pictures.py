"""What judging a picture costs: decode, hash, model; drawn pictures of the sizes that providers give."""

from __future__ import annotations

import asyncio
import io
import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import psutil
from PIL import Image

from services.moderation.assembly import layers
from services.moderation.classifiers import TextClassifier
from services.moderation.config import DEFAULT_POLICY, ModerationSettings
from services.moderation.image_pipeline import ImagePipeline
from services.moderation.loaded import Loaded
from services.moderation.perceptual import BlockedHash, HashTable
from services.moderation.policies import Policy
from services.moderation.policy_files import load_policies
from services.moderation.rule_shelf import RuleShelf
from services.moderation.text_pipeline import TextPipeline
from services.moderation.verdicts import Category, Text, TextKind

ROUNDS = 120
BLOCKED = 1_000  # pictures in the table


@dataclass(frozen=True)
class PicturesReport:
    """Milliseconds for each picture, of CPU time on average; resident memory with everything loaded, in MiB."""

    p50: float
    p99: float
    cpu: float
    resident: float


def measure(case: tuple[int, str, bool]) -> PicturesReport:
    """Pictures of this side and format, one after the other on one core; with or without the model."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    return asyncio.run(_measure(*case))


async def _measure(side: int, kind: str, model: bool) -> PicturesReport:
    settings = ModerationSettings()
    policy = load_policies(settings.policy or DEFAULT_POLICY, layers(settings)).for_tenant("bench")
    loaded = Loaded(settings, ())
    await _texts(loaded.texts, policy)
    pipeline = ImagePipeline(loaded.images if model else [])
    rng = np.random.default_rng(5)
    table = HashTable(1, [BlockedHash(str(n), Category.GORE, int(rng.integers(1 << 63))) for n in range(BLOCKED)])
    drawn, times = [_picture(seed, side, kind) for seed in range(8)], []
    cpu = time.process_time()
    for data in drawn * (ROUNDS // 8):
        started = time.perf_counter()
        await pipeline.judge(await pipeline.inspect(data), policy, table)
        times.append((time.perf_counter() - started) * 1000)
    cpu = (time.process_time() - cpu) * 1000 / len(times)
    await loaded.close()
    resident = psutil.Process().memory_info().rss / 2**20
    return PicturesReport(statistics.median(times), sorted(times)[int(len(times) * 0.99)], cpu, resident)


async def _texts(classifiers: list[TextClassifier], policy: Policy) -> None:
    """Loads what judges texts, so that the memory is that of the whole service."""
    with ThreadPoolExecutor(1) as pool:
        pipeline = TextPipeline(RuleShelf([policy]), classifiers, pool)
        await pipeline.judge([Text(0, TextKind.PROMPT, "a lighthouse at dusk, oil on canvas")], policy)


def _picture(seed: int, side: int, kind: str) -> bytes:
    """Smooth shapes with the grain of a photograph, as compressible as what models draw."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), np.float32)
    pixels = np.clip(smooth + rng.normal(0, 6, (side, side, 1)), 0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()
