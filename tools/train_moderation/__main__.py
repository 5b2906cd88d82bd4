"""The command line: `python -m tools.train_moderation train|evaluate`."""

from __future__ import annotations

from pathlib import Path

import click

from tools.train_moderation import training

_ENCODER = click.option("--encoder", type=click.Path(path_type=Path), default=Path(".cache/encoder"), show_default=True)


@click.group()
def main() -> None:
    """Heads of moderation's text classifier."""


@main.command()
@_ENCODER
def train(encoder: Path) -> None:
    """Fits the heads and writes them with their model card."""
    click.echo(training.train(encoder))


if __name__ == "__main__":
    main()
