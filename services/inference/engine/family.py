"""The port of a model family: the stages of drawing, each of which the engine calls when it sees fit.

    load → (per request) begin → predict/advance, step by step (look, where previews are wanted) → picture

`predict` takes several requests of one `shape` at once: that is where requests share the device.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Protocol, TypeVar

from services.inference.engine.request import DrawRequest

Prediction = Any  # a tensor; only the family looks inside
Look = Any  # an array (height, width, 3) of bytes in host memory: a small, rough picture


class Sampling(Protocol):
    """A request's own state between two steps."""

    @property
    def shape(self) -> Hashable:
        """Requests of equal shape may share a forward pass."""

    @property
    def rows(self) -> int:
        """How many rows of the device's batch one step takes."""

    @property
    def steps(self) -> int:
        """Denoising steps in all."""


S = TypeVar("S", bound=Sampling)


class Family(Protocol[S]):
    """A loaded model.

    `begin`, `predict`+`advance`+`look` and `picture` are each called by one thread at a time.
    """

    device: str

    def begin(self, request: DrawRequest) -> S:
        """Reads the prompt and the images and draws the first noise."""

    def predict(self, batch: Sequence[S]) -> list[Prediction]:
        """One forward pass for the next step of each; changes none of them, so it may be repeated."""

    def advance(self, sampling: S, prediction: Prediction) -> None:
        """Applies a prediction: the sampling is one step further."""

    def look(self, sampling: S) -> list[Look]:
        """A rough look at each of its unfinished pictures; must be cheap beside a step."""

    def picture(self, sampling: S, index: int) -> bytes:
        """Decodes picture `index` of a finished sampling to PNG."""
