"""Encoded prompts are kept within their bound, under all that they depend on."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from services.inference.catalog import Models
from services.inference.engine.families import load_family
from services.inference.engine.manifest import read_models
from services.inference.engine.prompt_cache import Conditions, PromptCache
from services.inference.engine.request import Wanted
from tests.inference.tiny_families import write_tiny_family

BYTES = 100 * 4  # of one encoded prompt here


class Reader:
    """Encodes; counts how often each text was read."""

    def __init__(self, cache: PromptCache) -> None:
        self._cache = cache
        self.read: list[str] = []

    def __call__(self, text: str, numbers: int = 100) -> Conditions:
        def encode() -> Conditions:
            self.read.append(text)
            return {"words": torch.full((numbers,), float(len(text)))}

        return self._cache.get(text, encode)


def test_what_was_read_is_not_read_again() -> None:
    read = Reader(PromptCache(2 * BYTES))
    assert read("a") is read("a")
    assert read.read == ["a"]


def test_what_was_not_asked_for_the_longest_leaves_first() -> None:
    read = Reader(PromptCache(2 * BYTES))
    for text in ("a", "b", "a", "c", "a", "b"):
        read(text)
    assert read.read == ["a", "b", "c", "b"]


def test_what_is_too_large_is_read_each_time_and_pushes_nothing_out() -> None:
    read = Reader(PromptCache(2 * BYTES))
    for text, numbers in (("a", 100), ("huge", 1000), ("huge", 1000), ("a", 100)):
        read(text, numbers)
    assert read.read == ["a", "huge", "huge"]


def test_an_encoder_that_fails_leaves_nothing() -> None:
    cache = PromptCache()

    def fail() -> Conditions:
        raise ValueError("no words")

    with pytest.raises(ValueError, match="no words"):
        cache.get("a", fail)
    assert Reader(cache)("a")["words"].shape == (100,)


def test_a_model_reads_a_prompt_once_for_all_seeds_and_sizes(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path_factory.mktemp("families")
    write_tiny_family(root / "sdxl", "sdxl")
    models = Models(read_models(root), draw_seed=lambda: 1)
    family: Any = load_family(models.by_id["sdxl"], "cpu")
    read: list[str] = []
    encode = family._pipe.encode_prompt

    def counted(prompt: str, **rest: Any) -> Any:
        read.append(prompt)
        return encode(prompt, **rest)

    monkeypatch.setattr(family._pipe, "encode_prompt", counted)
    wanted: list[dict[str, Any]] = [{"seed": 1}, {"seed": 2, "count": 2}, {"width": 64}, {"guidance": 7.0}]
    for each in wanted:
        family.begin(models.settle(Wanted("sdxl", "red star", **each), ""))
    assert read == ["red star"]
    others: list[dict[str, Any]] = [{"negative_prompt": "blue"}, {"guidance": 1.0}]
    for each in others:
        family.begin(models.settle(Wanted("sdxl", "red star", **each), ""))
    assert read == ["red star"] * 3
