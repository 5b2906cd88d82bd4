"""A Hugging Face classifier as an ONNX file in a local folder: texts or pictures, no server, no torch.

Options: `path` (a folder as the hub has it after an export to ONNX: `config.json`, `model.onnx` or `onnx/model.onnx`,
and `tokenizer.json` for texts or `preprocessor_config.json` for pictures), `labels`, `content: [texts]` or
`[pictures]`, `sha256` of the ONNX file to pin it. Runs in threads of its own with one core each.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from PIL import Image
from tokenizers import Tokenizer

from mesh.errors import Unavailable
from services.moderation.classifiers.base import (
    Capability,
    ClassifierError,
    Picture,
    Pixels,
    Plugged,
)
from services.moderation.classifiers.huggingface import meanings, one_content
from services.moderation.classifiers.vendor import Label, Meanings, counted, needed
from services.moderation.plug_ins import PlugIn
from services.moderation.verdicts import Finding, Span, Text

KIND = "huggingface-local"
THREADS, WAITING = 2, 256
TOKENS, OVERLAP = 512, 64

Floats = npt.NDArray[np.float32]


class LocalModel:
    """Session and labels. Raises ClassifierError for a folder that is not as it should be."""

    def __init__(self, plug_in: PlugIn) -> None:
        path = plug_in.options.path
        assert path is not None
        self.folder = path
        try:
            config = self.read("config.json")
            self.labels = [config["id2label"][str(index)] for index in range(len(config["id2label"]))]
            weights = _weights(path).read_bytes()
        except (OSError, ValueError, KeyError) as error:
            raise ClassifierError(f"classifier {plug_in.name}: {path}: {error!r}") from error
        digest = hashlib.sha256(weights).hexdigest()
        if plug_in.options.sha256 not in ("", digest):
            raise ClassifierError(f"classifier {plug_in.name}: sha256 is {digest}, not {plug_in.options.sha256}")
        if not set(plug_in.options.labels) <= set(self.labels):
            raise ClassifierError(f"classifier {plug_in.name}: labels: the model has {', '.join(self.labels)}")
        self.several = config.get("problem_type") == "multi_label_classification" or len(self.labels) == 1
        self.version = f"{config.get('_name_or_path') or path.name}-{digest[:8]}"
        self._session = _session(weights)
        self.inputs = [given.name for given in self._session.get_inputs()]

    def read(self, name: str) -> Any:
        """A JSON file of the folder."""
        return json.loads((self.folder / name).read_bytes())

    def scores(self, inputs: Mapping[str, npt.NDArray[Any]]) -> list[Label]:
        """The labels with their probabilities; the highest of the batch."""
        logits: Floats = self._session.run(None, {name: inputs[name] for name in self.inputs})[0]
        if self.several:
            probabilities = 1 / (1 + np.exp(-logits))
        else:
            shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
            probabilities = shifted / shifted.sum(axis=1, keepdims=True)
        try:
            return [Label(*pair) for pair in zip(self.labels, map(float, probabilities.max(axis=0)), strict=True)]
        except ValueError as error:
            raise Unavailable("the model's answer is no number") from error


class _Threads:
    """What both have: a name, a capability, a bounded pool."""

    def __init__(self, plug_in: PlugIn, model: LocalModel, labels: Meanings) -> None:
        self.name = plug_in.name
        self.model = model
        self.labels = labels
        categories = frozenset(counts.category for meaning in labels.values() for counts in meaning)
        on_demand = plug_in.options.use == "required"
        self.capability = Capability(categories, model.version, plug_in.options.timeout, on_demand=on_demand)
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix=plug_in.name)
        self._room = THREADS + WAITING

    async def run(self, work: Callable[[], list[Finding]]) -> list[Finding]:
        """In a thread; Unavailable when too many calls wait already."""
        if self._room <= 0:
            raise Unavailable(f"too many calls wait for the classifier {self.name}", retry_after=0.5)
        self._room -= 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._room += 1

    async def close(self) -> None:
        """Ends the threads; calls that wait are dropped."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class LocalTexts(_Threads):
    """Texts in pieces of at most 512 tokens."""

    def __init__(self, plug_in: PlugIn, model: LocalModel, labels: Meanings) -> None:
        super().__init__(plug_in, model, labels)
        try:
            self._tokenizer = Tokenizer.from_buffer((model.folder / "tokenizer.json").read_bytes())
        except (OSError, ValueError) as error:
            raise ClassifierError(f"classifier {plug_in.name}: tokenizer.json: {error!r}") from error
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(TOKENS, stride=OVERLAP)

    async def judge(self, texts: Sequence[Text]) -> Sequence[Finding]:
        """What it finds in each of the texts."""
        return await self.run(lambda: [finding for text in texts for finding in self._judge(text)])

    def _judge(self, text: Text) -> list[Finding]:
        encoding = self._tokenizer.encode(text.text)
        pieces = [encoding, *encoding.overflowing]  # all of them: 32,000 characters make 300 at most
        found = [label for piece in pieces for label in self.model.scores(_tensors(piece.ids, piece.type_ids))]
        span = Span(text.index, text.kind, 0, len(text.text))
        return list(counted((self.name, self.model.version), self.labels, found, span))


class LocalPictures(_Threads):
    """All views of a picture."""

    def __init__(self, plug_in: PlugIn, model: LocalModel, labels: Meanings) -> None:
        super().__init__(plug_in, model, labels)
        try:
            self._prepare = _preparation(model.read("preprocessor_config.json"))
        except (OSError, ValueError, KeyError) as error:
            raise ClassifierError(f"classifier {plug_in.name}: preprocessor_config.json: {error!r}") from error

    async def judge(self, picture: Picture) -> Sequence[Finding]:
        """What it finds in the picture."""
        return await self.run(lambda: self._judge(picture.views))

    def _judge(self, views: Sequence[Pixels]) -> list[Finding]:
        found = [label for view in views for label in self.model.scores({"pixel_values": self._prepare(view)})]
        return list(counted((self.name, self.model.version), self.labels, found, None))


def _weights(folder: Path) -> Path:
    flat = folder / "model.onnx"
    return flat if flat.exists() else folder / "onnx" / "model.onnx"


def _session(weights: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False
    return onnxruntime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])


def _tensors(ids: Sequence[int], type_ids: Sequence[int]) -> dict[str, npt.NDArray[np.int64]]:
    row = np.array([ids], np.int64)
    return {"input_ids": row, "attention_mask": np.ones_like(row), "token_type_ids": np.array([type_ids], np.int64)}


def _preparation(config: Mapping[str, Any]) -> Callable[[Pixels], Floats]:
    """Resize, scale, normalise, as the folder's configuration says."""
    size = config["size"]
    sides = (size, size) if isinstance(size, int) else (size["width"], size["height"])
    mean, deviation = (np.array(config.get(key, [0.5] * 3), np.float32) for key in ("image_mean", "image_std"))
    factor = np.float32(config.get("rescale_factor", 1 / 255))

    def prepare(pixels: Pixels) -> Floats:
        small = Image.fromarray(np.ascontiguousarray(pixels)).resize(sides, Image.Resampling.BICUBIC)
        values: Floats = (np.asarray(small, np.float32) * factor - mean) / deviation
        return np.ascontiguousarray(values.transpose(2, 0, 1)[np.newaxis])

    return prepare


def make(plug_in: PlugIn) -> Plugged:
    """Raises ClassifierError."""
    needed(plug_in, "path")
    one_content(plug_in)
    model = LocalModel(plug_in)
    if plug_in.options.content == ("texts",):
        return Plugged(_well, LocalTexts(plug_in, model, meanings(plug_in, "texts")))
    return Plugged(_well, pictures=LocalPictures(plug_in, model, meanings(plug_in, "pictures")))


async def _well() -> None:
    """It is in this process."""
