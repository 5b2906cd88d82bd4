"""The command line: `python -m tools.train_moderation train|evaluate`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

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
@click.option("--split", default="eval", show_default=True, help="`train` shows what the heads were fitted to.")
@click.option("--report", "target", type=click.Path(path_type=Path), default=Path("docs/moderation-report.md"))
@click.option("--wrong", is_flag=True, help="Also list the prompts judged wrongly; never for tuning on `eval`.")
def evaluate(encoder: Path, split: str, target: Path, wrong: bool) -> None:
    """Judges the prompts held apart and writes the report."""
    results = asyncio.run(evaluating.Evaluation(encoder).run(corpus.read(split)))
    text = report.written(results)
    target.write_text(text)
    click.echo(text)
    for judged in results.plain if wrong else ():
        if judged.caught == (judged.prompt.category is None):
            click.echo(f"{judged.prompt.kind}: {judged.prompt.text}: {judged.decision.name} {judged.scores}")


if __name__ == "__main__":
    main()
