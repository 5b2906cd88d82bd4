"""From an installed package's weights to the int8 file that moderation runs; every step checked."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from services.moderation.classifiers import sentence_encoder as running
from tools.encoder import graph, weights

KEPT = ("LICENSE", "NOTICE", "tokenizer.json")
SOURCE_NAME = "model.safetensors"


class EncoderError(Exception):
    """Weights that are not the expected ones, or an encoder that is not close to them."""


def find_weights(folder: Path) -> Path:
    """The folder below this one that holds the weights and their licence."""
    found = sorted(path.parent for path in folder.rglob(SOURCE_NAME) if (path.parent / "LICENSE").is_file())
    if not found:
        raise EncoderError(f"{folder}: there is no {SOURCE_NAME} with a LICENSE beside it")
    return found[0]


def make(source: Path, target: Path) -> None:
    """Writes the encoder, its tokenizer, licence and notice to `target`, all or nothing."""
    _expect(source / SOURCE_NAME, running.SOURCE_SHA256)
    _expect(source / "tokenizer.json", running.TOKENIZER_SHA256)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".encoder-") as name:
        made = Path(name) / "encoder"
        made.mkdir()
        _quantised(source, made / running.MODEL_FILE)
        for kept in KEPT:
            shutil.copyfile(source / kept, made / kept)
        manifest = {
            "model": running.MODEL_NAME,
            "source_sha256": running.SOURCE_SHA256,
            "file_sha256": hashlib.sha256((made / running.MODEL_FILE).read_bytes()).hexdigest(),
            "made_by": {name: version(name) for name in ("onnx", "onnxruntime")},
        }
        (made / running.MANIFEST_FILE).write_text(json.dumps(manifest, indent=1) + "\n")
        running.Encoder.load(made)  # raises when its vectors are not those that are stored
        shutil.rmtree(target, ignore_errors=True)
        made.rename(target)


def _expect(path: Path, sha256: str) -> None:
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        raise EncoderError(f"{path}: sha256 is {found}, not {sha256}: these are not the expected weights")


def _quantised(source: Path, target: Path) -> None:
    """One scale for each output; 7 bits, or the sums overflow on processors without VNNI."""
    exact = target.with_suffix(".fp32")
    onnx.save(graph.build(weights.read(source / SOURCE_NAME)), exact)
    logging.disable(logging.WARNING)  # it recommends a pre-processing that changes nothing here
    quantize_dynamic(exact, target, weight_type=QuantType.QInt8, per_channel=True, reduce_range=True)
    logging.disable(logging.NOTSET)
    exact.unlink()
