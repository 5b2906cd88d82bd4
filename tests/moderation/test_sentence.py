"""The built-in text classifier: what it reads, what it refuses to run with, and that it always says the same."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mesh.errors import Unavailable
from services.moderation.assembly import layers
from services.moderation.classifiers import sentence
from services.moderation.classifiers.sentence import SentenceClassifier, SentenceModel
from services.moderation.classifiers.sentence_encoder import MANIFEST_FILE, MODEL_FILE, Encoder, EncoderFileError
from services.moderation.classifiers.sentence_heads import HEADS, Heads, HeadsError
from services.moderation.classifiers.sentence_windows import MOST_WINDOWS, View, views
from services.moderation.config import DEFAULT_POLICY, ENCODER, ModerationSettings
from services.moderation.normalise import normalise
from services.moderation.policy_files import PolicyFileError, load_policies
from services.moderation.verdicts import Category, Finding, Text, TextKind
from tools.train_moderation.corpus import LEARNED, read
from tools.train_moderation.evasions import EVASIONS

HARMFUL = "a man beating his wife in the kitchen"
PADDING = "a red bicycle leans on a wall in the afternoon sun, "


@pytest.fixture(scope="module")
def model() -> SentenceModel:
    return SentenceModel.load(ENCODER)


def text(words: str) -> Text:
    return Text(0, TextKind.PROMPT, words)


def shown(model: SentenceModel, words: str) -> list[View]:
    return views(normalise(words), model.restorer)


def score(found: list[Finding], category: Category) -> float:
    return max((finding.score for finding in found if finding.category is category), default=0.0)


def test_the_learned_categories_are_covered(model: SentenceModel) -> None:
    assert model.heads.categories == LEARNED


@pytest.mark.parametrize("words", ["a cat", HARMFUL, PADDING * 20 + HARMFUL, "", "!!"])
def test_the_same_text_gets_the_same_scores(model: SentenceModel, words: str) -> None:
    assert model.judge([text(words)]) == model.judge([text(words)])


async def test_company_changes_nothing(model: SentenceModel) -> None:
    alone = model.judge([text(HARMFUL)])
    classifier = SentenceClassifier(model, threads=2)
    calls = (classifier.judge([text(words)]) for words in [HARMFUL, "a cat", PADDING * 9, HARMFUL] * 4)
    together = await asyncio.gather(*calls)
    assert all(found == alone for found in together[::4])
    assert model.judge([text("a cat"), Text(1, TextKind.PROMPT, HARMFUL)])[-len(alone) :] == [
        finding_at(finding, 1) for finding in alone
    ]
    await classifier.close()


def finding_at(finding: Finding, index: int) -> Finding:
    assert finding.span is not None
    return replace(finding, span=replace(finding.span, text_index=index))


async def test_a_bounded_number_of_calls_waits(model: SentenceModel) -> None:
    classifier = SentenceClassifier(model, threads=1, waiting=1)
    calls = [asyncio.create_task(classifier.judge([text("a cat")])) for _ in range(3)]  # type: ignore[arg-type]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(answer, Unavailable) for answer in answers] == [False, False, True]
    await classifier.close()
    await classifier.close()


def test_padding_does_not_hide(model: SentenceModel) -> None:
    words = PADDING * 6 + HARMFUL + ", " + PADDING * 6
    found = [finding for finding in model.judge([text(words)]) if finding.category is Category.VIOLENCE]
    assert score(found, Category.VIOLENCE) >= 0.6
    span = found[0].span
    assert span is not None
    assert HARMFUL in words[span.start : span.end]
    assert span.end - span.start < 3 * len(HARMFUL)


@pytest.mark.parametrize("disguise", EVASIONS.values(), ids=EVASIONS.keys())
def test_disguises_are_undone(model: SentenceModel, disguise: Callable[[str], str]) -> None:
    disguised = disguise(HARMFUL)
    found = model.judge([text(disguised)])
    assert score(found, Category.VIOLENCE) >= 0.6
    for finding in found:
        assert finding.span is not None
        assert 0 <= finding.span.start < finding.span.end <= len(disguised)


@pytest.mark.parametrize(
    ("words", "restored"),
    [
        ("k1ll the g!rl with an 3xpl0s1v3", "kill the girl with an explosive"),
        ("a n a k e d w o m a n on a bed", "a naked woman on a bed"),
        ("n.a.k.e.d w-o-m-a-n", "naked woman"),
        ("kiiilll himmmm noooow", "kill him now"),
    ],
)
def test_restored(model: SentenceModel, words: str, restored: str) -> None:
    assert restored in {view.text for view in shown(model, words)}


@pytest.mark.parametrize("words", ["a 1980s photo, 8k, unreal engine 5", "85mm f/1.8, 4k", "a cool moon at noon"])
def test_numbers_and_double_letters_stay(model: SentenceModel, words: str) -> None:
    assert {view.reading for view in shown(model, words)} == {"plain"}


def test_windows_cover_every_word(model: SentenceModel) -> None:
    words = " ".join("word" for _ in range(100))
    pieces = shown(model, words)[1:]
    covered = {place for view in pieces for place in range(view.start, view.end)}
    assert {place for place, character in enumerate(words) if character != " "} <= covered
    assert all(len(view.text.split()) <= 16 for view in pieces)


@pytest.mark.parametrize("words", ["a cat and a dog " * 2000, "word, " * 5333, "n u d e " * 4000, "x" * 32_000])
def test_long_texts_have_a_bounded_number_of_windows(model: SentenceModel, words: str) -> None:
    assert 1 <= len(shown(model, words)) <= 2 * MOST_WINDOWS


def copied(folder: Path) -> Path:
    copy = folder / "encoder"
    shutil.copytree(ENCODER, copy)
    return copy


def test_a_missing_encoder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(EncoderFileError, match=r"tools/setup\.sh"):
        Encoder.load(tmp_path / "nowhere")


@pytest.mark.parametrize("name", [MODEL_FILE, "tokenizer.json"])
def test_a_changed_file_is_refused(tmp_path: Path, name: str) -> None:
    folder = copied(tmp_path)
    (folder / name).write_bytes((folder / name).read_bytes()[:-1] + b"!")
    with pytest.raises(EncoderFileError, match=name):
        Encoder.load(folder)


def test_other_weights_are_refused(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    manifest = json.loads((folder / MANIFEST_FILE).read_text())
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest | {"source_sha256": "0" * 64}))
    with pytest.raises(EncoderFileError, match="weights"):
        Encoder.load(folder)


def test_licence_and_notice_are_kept() -> None:
    assert "Apache License" in (ENCODER / "LICENSE").read_text()
    assert "all-MiniLM-L6-v2" in (ENCODER / "NOTICE").read_text()


@pytest.mark.parametrize(
    "change",
    [
        {"format": 0},
        {"source_sha256": "0" * 64},
        {"categories": ["SEXUAL"]},
        {"categories": ["NOTHING"] * 8},
        {"slope": [-1.0] * 8},
        {"bias": [float("nan")] * 8, "shift": [float("nan")] * 8},
        {"weights": [[0.0] * 383] * 8},
    ],
)
def test_damaged_heads_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "heads.json"
    path.write_text(json.dumps(json.loads(HEADS.read_text()) | change))
    with pytest.raises(HeadsError, match="make train-moderation"):
        Heads.load(path)


def test_switched_off(tmp_path: Path) -> None:
    settings = ModerationSettings(encoder="")
    assert sentence.make(settings) is None
    assert sentence.NAME not in layers(settings)
    policy = tmp_path / "default.yaml"
    policy.write_text(
        DEFAULT_POLICY.read_text().replace("required_layers: [rules", "required_layers: [sentence, rules")
    )
    with pytest.raises(PolicyFileError, match="no sentence here"):
        load_policies(policy, layers(settings))


def test_the_data_is_as_large_as_promised() -> None:
    prompts = read("train")
    assert sum(prompt.category is None for prompt in prompts) >= 3_000
    for category in LEARNED:
        assert len({prompt.text for prompt in prompts if prompt.category is category}) >= 190


@pytest.mark.parametrize("split", ["eval", "eval2", "eval3"])
def test_training_and_evaluation_share_no_prompt(split: str) -> None:
    trained, held = ({prompt.text.casefold() for prompt in read(part)} for part in ("train", split))
    shared = len(trained & held)  # a number: the prompts themselves must not be seen
    assert shared == 0
