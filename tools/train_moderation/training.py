"""`make train-moderation`: from the prompts to the heads' file and the model card."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from services.moderation.classifiers.sentence import SentenceModel
from services.moderation.classifiers.sentence_encoder import MODEL_NAME, SOURCE_SHA256, Encoder
from services.moderation.classifiers.sentence_heads import FORMAT, HEADS, Heads
from services.moderation.classifiers.sentence_restoring import Restorer
from services.moderation.language import ENGLISH_WORDS
from services.moderation.normalise import normalise
from tools.train_moderation import card, corpus, fitting
from tools.train_moderation.corpus import LEARNED, Prompt

DIGITS = 4


def train(encoder_folder: Path, heads_file: Path = HEADS) -> str:
    """Writes the heads and their card; returns the card. The same data and encoder give the same bytes."""
    prompts = corpus.read("train")
    encoder = Encoder.load(encoder_folder)
    model = SentenceModel(encoder, _none(), Restorer(encoder.vocabulary()))
    shown = fitting.show(model, prompts, _styled(prompts, corpus.styles()))
    fitted, unseen = fitting.fit(prompts, shown)
    heads_file.write_text(_stored(fitted, prompts))
    ENGLISH_WORDS.write_text("\n".join(_words(prompts)) + "\n")
    text = card.written(prompts, fitted, unseen, Heads.load(heads_file).version)
    heads_file.with_suffix(".md").write_text(text)
    return text


def _words(prompts: Sequence[Prompt]) -> list[str]:
    """Every word of the prompts: what the language gate takes for English."""
    words = {word.text for prompt in prompts for word in normalise(prompt.text).readings[0].tokens}
    return sorted(word for word in words if word.isalpha() and len(word) > 1)


def _none() -> Heads:
    empty = np.zeros((0,), np.float32)
    return Heads((), "", np.zeros((384, 0), np.float32), empty, empty, empty)


def _styled(prompts: Sequence[Prompt], styles: Sequence[str]) -> list[list[str]]:
    """Each prompt as it is and in a style; those that have one already only as they are."""
    texts = []
    for index, prompt in enumerate(prompts):
        styled = f"{prompt.text}, {styles[index % len(styles)]}"
        texts.append([prompt.text] if prompt.kind == "combined" else [prompt.text, styled])
    return texts


def _stored(fitted: fitting.Fitted, prompts: Sequence[Prompt]) -> str:
    digest = hashlib.sha256("\n".join(f"{prompt.kind}\t{prompt.text}" for prompt in prompts).encode()).hexdigest()
    content = {
        "format": FORMAT,
        "version": f"heads-{digest[:8]}",
        "encoder": MODEL_NAME,
        "source_sha256": SOURCE_SHA256,
        "data_sha256": digest,
        "categories": [category.value for category in LEARNED],
        **{name: np.round(getattr(fitted, name), DIGITS).tolist() for name in ("bias", "slope", "shift", "weights")},
    }
    return json.dumps(content).replace("], [", "],\n[") + "\n"
