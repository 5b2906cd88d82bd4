"""The model that is shipped: small, loadable by plain diffusers, and the same for the same seed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from services.inference.engine.manifest import read_model
from tools.train_demo.evaluate import GUIDANCE, STEPS, paint
from tools.train_demo.export import load
from tools.train_demo.judge import background

MODEL = Path(__file__).parents[2] / "models" / "demo"


@pytest.fixture(scope="module")
def pipeline() -> Iterator[Any]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on shared cores, more threads wait for one another
    yield load(MODEL)
    torch.set_num_threads(threads)


def test_it_fits_in_12_mb() -> None:
    files = [path for path in MODEL.rglob("*") if path.is_file()]
    beside = ("loras", "controls")  # what is added to the model, and measured in `test_extensions`
    assert sum(path.stat().st_size for path in files if path.relative_to(MODEL).parts[0] not in beside) <= 12_000_000


def test_it_is_scored_as_it_is_served() -> None:
    defaults = read_model(MODEL).manifest.defaults
    assert (defaults.steps, defaults.guidance) == (STEPS, GUIDANCE)


def test_it_draws_64_by_64(pipeline: Any) -> None:
    (picture,) = paint(pipeline, ["a red circle on a yellow background"], seed=1)
    assert picture.shape == (64, 64, 3)
    assert background(picture) == "yellow"


def test_the_same_seed_gives_the_same_picture(pipeline: Any) -> None:
    one, other, third = (paint(pipeline, ["a blue star"], seed=seed)[0] for seed in (3, 3, 4))
    assert np.array_equal(one, other)
    assert not np.array_equal(one, third)


def test_a_picture_does_not_depend_on_its_batch(pipeline: Any) -> None:
    (alone,) = paint(pipeline, ["a tree"], seed=5)
    batched = paint(pipeline, ["a tree", "a cat", "a beach"], seed=5)[0]
    assert np.abs(alone.astype(int) - batched.astype(int)).max() <= 2
