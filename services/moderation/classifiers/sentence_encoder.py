"""The sentence encoder: MiniLM-L6-v2 as int8 ONNX, made at set-up by `tools/setup.sh` (see tools/encoder).

It is trusted only when the manifest names the pinned weights, the file is the one the manifest describes, and the
vectors of stored texts come out close to those of the exact weights.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
from tokenizers import Encoding, Tokenizer

MODEL_NAME = "minilm-l6-v2-int8"
MODEL_FILE = "encoder.onnx"
MANIFEST_FILE = "encoder.json"
SOURCE_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
REFERENCE = Path(__file__).parents[1] / "models" / "encoder_reference.json"
LEAST_COSINE = 0.98
TOKENS = 128  # of one text; what comes later is read in windows
BATCH_TOKENS = 2_048  # of one run, padding included: keeps its working memory at a few MiB

Vectors = npt.NDArray[np.float32]


class EncoderFileError(Exception):
    """An encoder that is missing or not the expected one; the text says what to do."""


class Encoder:
    """Texts to vectors of length 1, 384 numbers each. Safe in many threads; each run uses one core."""

    def __init__(self, session: onnxruntime.InferenceSession, tokenizer: Tokenizer, version: str) -> None:
        self._session = session
        self._tokenizer = tokenizer
        self.version = version

    @classmethod
    def load(cls, folder: Path) -> Encoder:
        """The encoder in this folder. Raises EncoderFileError when it is missing or not the expected one."""
        try:
            manifest = json.loads((folder / MANIFEST_FILE).read_bytes())
            model = (folder / MODEL_FILE).read_bytes()
            tokenizer = (folder / "tokenizer.json").read_bytes()
        except (OSError, ValueError) as error:
            raise EncoderFileError(f"{folder}: no sentence encoder ({error}); run tools/setup.sh") from error
        _expect(folder, "weights", manifest.get("source_sha256"), SOURCE_SHA256)
        _expect(folder, MODEL_FILE, hashlib.sha256(model).hexdigest(), manifest.get("file_sha256"))
        _expect(folder, "tokenizer.json", hashlib.sha256(tokenizer).hexdigest(), TOKENIZER_SHA256)
        encoder = cls(_session(model), _tokenizer(tokenizer), f"{MODEL_NAME}-{manifest['file_sha256'][:8]}")
        encoder._check_vectors(folder)
        return encoder

    def vocabulary(self) -> dict[str, int]:
        """Words and pieces of words with their ranks; more common ones come first."""
        return self._tokenizer.get_vocab(with_added_tokens=False)

    def encode(self, texts: Sequence[str]) -> Vectors:
        """One row for each text.

        The numbers between layers are scaled by the largest of a run, so a row moves in its third digit with the other
        texts of the call: the same call gives the same rows, and texts of different callers do not share one.
        """
        encodings = self._tokenizer.encode_batch(list(texts))
        order = sorted(range(len(texts)), key=lambda index: len(encodings[index].ids))
        vectors = np.empty((len(texts), 384), np.float32)
        for batch in _batches(order, encodings):
            vectors[batch] = self._run([encodings[index] for index in batch])
        return vectors

    def _run(self, encodings: Sequence[Encoding]) -> Vectors:
        longest = max(len(encoding.ids) for encoding in encodings)
        ids = np.zeros((len(encodings), longest), np.int64)
        mask = np.zeros_like(ids)
        for row, encoding in enumerate(encodings):
            ids[row, : len(encoding.ids)] = encoding.ids
            mask[row, : len(encoding.ids)] = 1
        vectors: Vectors = self._session.run(["vectors"], {"ids": ids, "mask": mask})[0]
        return vectors

    def _check_vectors(self, folder: Path) -> None:
        stored = json.loads(REFERENCE.read_bytes())
        vectors = self.encode([entry["text"] for entry in stored])
        least = float((vectors * np.array([entry["vector"] for entry in stored], np.float32)).sum(axis=1).min())
        if not least >= LEAST_COSINE:
            text = f"{folder}: its vectors are {least:.3f} close to the stored ones, less than {LEAST_COSINE}"
            raise EncoderFileError(f"{text}; remove the folder and run tools/setup.sh")


def _expect(folder: Path, what: str, found: object, expected: object) -> None:
    if found != expected:
        text = f"{folder}: {what}: sha256 is {found}, not {expected}; remove the folder and run tools/setup.sh"
        raise EncoderFileError(text)


def _session(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False  # the arena never gives back what the longest text needed
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _tokenizer(data: bytes) -> Tokenizer:
    tokenizer = Tokenizer.from_buffer(data)
    tokenizer.no_padding()
    tokenizer.enable_truncation(TOKENS)
    return tokenizer


def _batches(order: Sequence[int], encodings: Sequence[Encoding]) -> list[list[int]]:
    """Texts of like length together, as many as their padded tokens allow."""
    batches: list[list[int]] = []
    for index in order:
        length = len(encodings[index].ids)
        if not batches or (len(batches[-1]) + 1) * length > BATCH_TOKENS:
            batches.append([])
        batches[-1].append(index)
    return batches
