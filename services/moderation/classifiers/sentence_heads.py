"""The heads: a logistic regression for each category over the encoder's vectors, as `make train-moderation` made them.

A head's logit becomes a score through two numbers fitted so that 0.6 and 0.85 are reached by the shares of benign
prompts that the model card names; so one scale of thresholds serves lists and heads alike.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from services.moderation.classifiers.sentence_encoder import MODEL_NAME, SOURCE_SHA256, Vectors
from services.moderation.verdicts import Category

HEADS = Path(__file__).parents[1] / "models" / "heads.json"
FORMAT = 1


class HeadsError(Exception):
    """Heads that cannot be used with the encoder; the text says why."""


@dataclass(frozen=True)
class Heads:
    """weights: [384, categories]. bias, slope, shift: one for each category; score = sigmoid(slope * logit + shift)."""

    categories: tuple[Category, ...]
    version: str
    weights: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    slope: npt.NDArray[np.float32]
    shift: npt.NDArray[np.float32]

    @classmethod
    def load(cls, path: Path = HEADS) -> Heads:
        """The heads in this file. Raises HeadsError for one that was made for another encoder or is damaged."""
        try:
            stored = json.loads(path.read_bytes())
            if (stored["format"], stored["encoder"], stored["source_sha256"]) != (FORMAT, MODEL_NAME, SOURCE_SHA256):
                raise HeadsError(f"{path}: made for another encoder; run make train-moderation")
            categories = tuple(Category(name) for name in stored["categories"])
            arrays = [np.array(stored[key], np.float32) for key in ("weights", "bias", "slope", "shift")]
            heads = cls(categories, str(stored["version"]), arrays[0].T, arrays[1], arrays[2], arrays[3])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise HeadsError(f"{path}: {error!r}; run make train-moderation") from error
        heads._check(path)
        return heads

    def _check(self, path: Path) -> None:
        count = len(self.categories)
        shapes = [self.weights.shape, self.bias.shape, self.slope.shape, self.shift.shape]
        if shapes != [(384, count), (count,), (count,), (count,)]:
            raise HeadsError(f"{path}: the numbers are not those of {count} heads; run make train-moderation")
        if not (np.isfinite(self.weights).all() and np.isfinite(self.shift).all() and (self.slope > 0).all()):
            raise HeadsError(f"{path}: a number is not finite or a slope not positive; run make train-moderation")

    def logits(self, vectors: Vectors) -> npt.NDArray[np.float32]:
        """[texts, categories], uncalibrated."""
        return vectors @ self.weights + self.bias

    def scores(self, vectors: Vectors) -> npt.NDArray[np.float32]:
        """[texts, categories], from 0 to 1."""
        calibrated = self.logits(vectors) * self.slope + self.shift
        return np.asarray(1 / (1 + np.exp(-calibrated)), np.float32)
