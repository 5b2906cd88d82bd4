"""The trainer's parts that can be checked in a moment."""

import itertools
from pathlib import Path

import pytest
import torch

from tools.train_demo import text, tokenizer, vae
from tools.train_demo.drawing import examples
from tools.train_demo.parallel import Budget, Rank
from tools.train_demo.unet import learning_rate

MODEL = Path(__file__).parents[2] / "models" / "demo"


def test_the_learning_rate_is_annealed() -> None:
    rates = [learning_rate(share / 100, peak=1.0) for share in range(101)]
    assert rates[0] == 0
    assert rates[1] == rates[30] == 1
    assert rates[100] == pytest.approx(0)
    assert all(later <= earlier for earlier, later in itertools.pairwise(rates[1:]))


def test_a_budget_goes_on_where_its_checkpoint_stopped() -> None:
    assert Budget(seconds=100, spent=50).share() == pytest.approx(0.5, abs=0.01)
    assert Budget(seconds=100, spent=200).share() == 1


def test_a_lone_rank_averages_to_itself() -> None:
    weights = torch.tensor([1.0, 2.0])
    Rank(0, 1).average([weights], weight=3)
    assert weights.tolist() == [1.0, 2.0]


def test_the_autoencoder_starts_as_a_plain_reduction() -> None:
    torch.manual_seed(0)
    assert vae.psnr(vae.build(), count=16) > 12


def test_captions_fit_the_tokenizer() -> None:
    tokens = tokenizer.load(MODEL)
    for example in itertools.islice(examples(9), 200):
        assert len(tokens(example.caption).input_ids) < tokenizer.LENGTH, example.caption


def test_every_question_about_a_caption_has_an_answer() -> None:
    for example in itertools.islice(examples(10), 300):
        assert len(text.answers(example.facts)) == 10
