"""The command line: `python -m tools.train_moderation train|evaluate`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from services.moderation.classifiers.sentence_encoder import Encoder
from tools.train_moderation import corpus, evaluating, report, training

_ENCODER = click.option("--encoder", type=click.Path(path_type=Path), default=Path(".cache/encoder"), show_default=True)


@click.group()
def main() -> None:
    """Heads of moderation's text classifier."""


@main.command()
@_ENCODER
def train(encoder: Path) -> None:
    """Fits the heads and writes them with their model card."""
    click.echo(training.train(encoder))


@main.command()
@_ENCODER
@click.option("--report", "target", type=click.Path(path_type=Path), default=Path("docs/moderation-report.md"))
def evaluate(encoder: Path, target: Path) -> None:
    """Judges the prompts held apart, all three sets, and writes the report."""
    splits = ("eval", "eval2", "eval3")
    trained = evaluating.vectors(Encoder.load(encoder), corpus.read("train"))
    text = report.written(
        [asyncio.run(evaluating.Evaluation(encoder).run(corpus.read(split), trained)) for split in splits]
    )
    target.write_text(text)
    click.echo(text)


if __name__ == "__main__":
    main()
