"""A CLIP tokenizer (byte-level BPE) trained on the captions."""

import itertools
import json
from pathlib import Path
from typing import Any, Final

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from tools.train_demo.drawing import examples

LENGTH: Final = 32
_CAPTIONS: Final = 30_000
_START: Final = "<|startoftext|>"
_END: Final = "<|endoftext|>"
_SUFFIX: Final = "</w>"


def train(folder: Path) -> CLIPTokenizer:
    """Trains the tokenizer and writes it to `folder`/tokenizer."""
    merges = _merges()
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = letters + [letter + _SUFFIX for letter in letters] + ["".join(pair) for pair in merges] + [_START, _END]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = CLIPTokenizer(
        vocab=vocabulary,
        merges=[tuple(pair) for pair in merges],  # type: ignore[misc]
        model_max_length=LENGTH,
    )
    tokenizer.save_pretrained(folder / "tokenizer")
    return tokenizer


def load(folder: Path) -> CLIPTokenizer:
    """The tokenizer that `train` wrote."""
    tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    return tokenizer


def encode(tokenizer: Any, captions: list[str]) -> Any:
    """Token ids, (n, LENGTH), padded as the pipeline pads them."""
    options = {"padding": "max_length", "max_length": LENGTH, "truncation": True, "return_tensors": "pt"}
    return tokenizer(captions, **options).input_ids


def _merges() -> list[list[str]]:
    """Merges that make one token of every word the captions use."""
    learner = Tokenizer(models.BPE(end_of_word_suffix=_SUFFIX))
    learner.normalizer = normalizers.Lowercase()
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=2000, min_frequency=3, end_of_word_suffix=_SUFFIX, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    learner.train_from_iterator((e.caption for e in itertools.islice(examples(5), _CAPTIONS)), trainer)
    merges: list[list[str]] = json.loads(learner.to_str())["model"]["merges"]
    return merges
