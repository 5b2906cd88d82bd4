"""The text encoder, first taught to read: to tell a caption's facts from its end token.

A few minutes of this save the UNet most of an hour, in which the words would mean nothing to it.
"""

import itertools
import time
from pathlib import Path
from typing import Final

import torch
from torch import nn
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel

from tools.train_demo import vocabulary as words
from tools.train_demo.drawing import examples
from tools.train_demo.facts import Facts
from tools.train_demo.parallel import Rank, launch
from tools.train_demo.tokenizer import LENGTH, encode, load

WIDTH: Final = 128
_BATCH: Final = 64
_SYNC_STEPS: Final = 8

_NOUNS: Final = (*words.SHAPES, *words.OBJECTS)
# What the heads tell; None stands for "the caption does not say".
_QUESTIONS: Final[dict[str, tuple[object, ...]]] = {
    "first noun": (None, *_NOUNS),
    "first colour": (None, *words.COLOURS),
    "second noun": (None, *_NOUNS),
    "second colour": (None, *words.COLOURS),
    "background": (None, *words.BACKGROUNDS),
    "count": (1, 2, 3, 4),
    "relation": (None, *words.RELATIONS),
    "scene": (None, *words.SCENES),
    "style": (None, *words.STYLES),
    "size": (None, *words.SIZES),
}


class Reader(nn.Module):
    """Linear heads over the text encoder's last hidden state."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.Linear(WIDTH, sum(len(answers) for answers in _QUESTIONS.values()))

    def loss(self, hidden: torch.Tensor, ids: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
        """Cross-entropy at one random place from the end token on, averaged over the questions."""
        end = ids.argmax(dim=1)
        place = end + (torch.rand(len(ids)) * (LENGTH - end)).long()
        scores = self.heads(hidden[torch.arange(len(ids)), place]).split([len(a) for a in _QUESTIONS.values()], dim=1)
        losses = [functional.cross_entropy(score, answers[:, k]) for k, score in enumerate(scores)]
        return torch.stack(losses).mean()


def build(vocabulary: int) -> CLIPTextModel:
    """A text encoder of 2 layers; the last two tokens of the vocabulary are start and end."""
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=LENGTH,
        projection_dim=WIDTH,
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
    )
    return CLIPTextModel(config)


def answers(facts: Facts) -> list[int]:
    """The right answer of each question, as indices."""
    first, second = (*facts.things, None, None)[:2]
    told = {
        "first noun": first and first.noun,
        "first colour": first.colour if first and first.named else None,
        "second noun": second and second.noun,
        "second colour": second.colour if second and second.named else None,
        "background": facts.background if facts.background_named else None,
        "count": facts.count,
        "relation": facts.relation,
        "scene": facts.scene,
        "style": facts.style,
        "size": facts.size,
    }
    return [choices.index(told[question]) for question, choices in _QUESTIONS.items()]


def train(folder: Path, minutes: float, ranks: int) -> None:
    """Teaches the text encoder to read and writes it to `folder`/text_encoder."""
    launch(_train, ranks, folder, minutes)


def _train(rank: Rank, folder: Path, minutes: float) -> None:
    torch.manual_seed(0)
    tokenizer = load(folder)
    encoder, reader = build(len(tokenizer)), Reader()
    parameters = [*encoder.parameters(), *reader.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=1e-3, betas=(0.9, 0.98))
    stream, started, share, steps = examples(2000 + rank.index), time.monotonic(), 0.0, 0
    while share < 1:
        for _ in range(_SYNC_STEPS):
            batch = list(itertools.islice(stream, _BATCH))
            ids = encode(tokenizer, [e.caption for e in batch])
            loss = reader.loss(encoder(ids).last_hidden_state, ids, torch.tensor([answers(e.facts) for e in batch]))
            optimiser.param_groups[0]["lr"] = 1e-3 * (1 - share)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        steps += _SYNC_STEPS
        rank.average(parameters, 1)
        share = rank.total(time.monotonic() - started) / rank.size / (minutes * 60)
        if rank.leads and steps % 40 == 0:
            print(f"{steps:6d} steps  loss {loss.item():.4f}", flush=True)
    if rank.leads:
        encoder.save_pretrained(folder / "text_encoder")
