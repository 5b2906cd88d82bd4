"""A local folder with an ONNX classifier, as the hub has them: a tiny one that is made here."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from mesh.errors import Unavailable
from services.moderation.classifiers import Caller, ClassifierError, Plugged, plug
from services.moderation.classifiers.huggingface_local import LocalTexts
from services.moderation.decoding import inspect
from services.moderation.plug_ins import Meaning, PlugIn, PlugInOptions
from services.moderation.verdicts import Category, Text, TextKind
from tests.moderation.pictures import encode, flat

LABELS = {"bad": Meaning(category=Category.HATE, weight=0.9)}


def saved(folder: Path, nodes: list[Any], given: list[Any], constants: list[Any]) -> None:
    """A graph whose last node's output is `logits` with two columns: good and bad."""
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 2])
    graph = helper.make_graph(nodes, "tiny", given, [logits], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, str(folder / "model.onnx"))
    (folder / "config.json").write_text(json.dumps({"id2label": {"0": "good", "1": "bad"}, "_name_or_path": "tiny"}))


def text_model(folder: Path) -> None:
    """Bad from the sum of the token ids on: each `bad` counts 20."""
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["floats", "ones"], ["sum"]),
        helper.make_node("MatMul", ["sum", "weights"], ["scaled"]),
        helper.make_node("Add", ["scaled", "bias"], ["logits"]),
    ]
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, [1, 3])
    constants = [
        numpy_helper.from_array(np.ones((3, 1), np.float32), "ones"),
        numpy_helper.from_array(np.array([[0, 1]], np.float32), "weights"),
        numpy_helper.from_array(np.array([10, 0], np.float32), "bias"),
    ]
    saved(folder, nodes, [ids], constants)
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0, "cat": 1, "bad": 20}, "[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    (folder / "tokenizer.json").write_text(tokenizer.to_str())


def picture_model(folder: Path, weight: float = 8) -> None:
    """Bad where the picture is bright."""
    nodes = [
        helper.make_node("ReduceMean", ["pixel_values"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "weights"], ["logits"]),
    ]
    pixels = helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, [1, 3, 32, 32])
    saved(folder, nodes, [pixels], [numpy_helper.from_array(np.array([[0, weight]], np.float32), "weights")])
    config = {"size": {"width": 32, "height": 32}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(config))


def made(folder: Path, content: str, **options: Any) -> Plugged:
    given = {"labels": LABELS, "content": (content,), **options}
    return plug(PlugIn(PlugInOptions(name="tiny", kind="huggingface-local", path=folder, **given)), Caller())


async def test_texts(tmp_path: Path) -> None:
    text_model(tmp_path)
    plugged = made(tmp_path, "texts")
    assert plugged.texts is not None
    assert plugged.pictures is None
    [found] = await plugged.texts.judge([Text(2, TextKind.STYLE, "cat bad bad")])
    assert (found.category, found.layer, found.entry) == (Category.HATE, "tiny", "tiny/bad")
    assert found.score == pytest.approx(0.9, abs=0.001)
    assert found.span is not None
    assert (found.span.text_index, found.span.end) == (2, 11)
    assert await plugged.texts.judge([Text(0, TextKind.PROMPT, "cat cat cat")]) == []
    assert not plugged.texts.capability.external
    await plugged.texts.close()
    await plugged.texts.close()


async def test_the_end_of_a_text_of_very_many_tokens_is_judged(tmp_path: Path) -> None:
    text_model(tmp_path)
    plugged = made(tmp_path, "texts", timeout=60)
    assert isinstance(plugged.texts, LocalTexts)
    plugged.texts._tokenizer.enable_truncation(3, stride=0)  # what the tiny model takes
    text = " ".join(["cat"] * 1_500 + ["bad"] * 3)
    [found] = await plugged.texts.judge([Text(0, TextKind.PROMPT, text)])
    assert found.score > 0.85
    await plugged.texts.close()


async def test_pictures(tmp_path: Path) -> None:
    picture_model(tmp_path)
    plugged = made(tmp_path, "pictures")
    assert plugged.pictures is not None
    [found] = await plugged.pictures.judge(inspect(encode(flat(level=250))).picture)
    assert found.score > 0.85
    assert found.model_version.startswith("tiny-")
    assert all(f.score < 0.1 for f in await plugged.pictures.judge(inspect(encode(flat(level=0))).picture))
    await plugged.pictures.close()


async def test_a_model_that_answers_no_number_has_not_judged(tmp_path: Path) -> None:
    picture_model(tmp_path, weight=np.nan)
    plugged = made(tmp_path, "pictures")
    assert plugged.pictures is not None
    with pytest.raises(Unavailable):
        await plugged.pictures.judge(inspect(encode(flat(level=250))).picture)
    await plugged.pictures.close()


def test_the_file_can_be_pinned(tmp_path: Path) -> None:
    picture_model(tmp_path)
    digest = hashlib.sha256((tmp_path / "model.onnx").read_bytes()).hexdigest()
    made(tmp_path, "pictures", sha256=digest)
    with pytest.raises(ClassifierError, match="sha256"):
        made(tmp_path, "pictures", sha256="0" * 64)


@pytest.mark.parametrize("missing", ["config.json", "model.onnx", "preprocessor_config.json"])
def test_missing_files_are_told(missing: str, tmp_path: Path) -> None:
    picture_model(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(ClassifierError, match="tiny"):
        made(tmp_path, "pictures")


def test_labels_that_the_model_lacks_are_told(tmp_path: Path) -> None:
    picture_model(tmp_path)
    with pytest.raises(ClassifierError, match="good, bad"):
        made(tmp_path, "pictures", labels={"evil": Meaning(category=Category.HATE)})
