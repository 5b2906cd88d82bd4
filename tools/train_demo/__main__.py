"""The command line: `python -m tools.train_demo STEP`."""

from pathlib import Path

import click
import torch

from tools.train_demo import evaluate as evaluating
from tools.train_demo import export as exporting
from tools.train_demo import sheet as sheets
from tools.train_demo import text as reading
from tools.train_demo import tokenizer as tokenizing
from tools.train_demo import unet as painting
from tools.train_demo import vae as autoencoding

_FOLDER = click.Path(path_type=Path)
_WORK = click.option("--work", type=_FOLDER, default=Path(".cache/train_demo"), show_default=True)
_TARGET = click.option("--target", type=_FOLDER, default=Path("models/demo"), show_default=True)
_RANKS = click.option("--ranks", default=2, show_default=True, help="One-thread training processes.")
_HOURS = click.option("--hours", default=1.2, show_default=True, help="Wall time; annealed at its end.")


@click.group()
def main() -> None:
    """Trains the demo model: tokenizer, vae, text, unet, export, evaluate; or `all` of them."""
    torch.set_num_threads(1)  # on shared cores, more threads wait for one another


@main.command()
@_WORK
def tokenizer(work: Path) -> None:
    """Trains the tokenizer on captions."""
    click.echo(f"{len(tokenizing.train(work))} tokens")


@main.command()
@_WORK
@_RANKS
@click.option("--minutes", default=7.0, show_default=True)
def vae(work: Path, ranks: int, minutes: float) -> None:
    """Trains the autoencoder."""
    autoencoding.train(work, minutes, ranks)


@main.command()
@_WORK
@_RANKS
@click.option("--minutes", default=2.3, show_default=True)
def text(work: Path, ranks: int, minutes: float) -> None:
    """Teaches the text encoder to read captions."""
    reading.train(work, minutes, ranks)


@main.command()
@_WORK
@_RANKS
@_HOURS
@click.option("--samples", default=0, help="Stop, annealed, after so many; 0: by time alone.")
def unet(work: Path, ranks: int, hours: float, samples: int) -> None:
    """Trains the UNet and the text encoder together; resumes from a checkpoint."""
    painting.train(work, painting.Plan(hours=hours, samples=samples, ranks=ranks))


@main.command()
@_WORK
@_TARGET
def export(work: Path, target: Path) -> None:
    """Writes the pipeline in the diffusers layout."""
    exporting.export(work, target)


@main.command()
@_TARGET
@click.option("--count", default=96, show_default=True, help="Prompts a group.")
@click.option("--seen", is_flag=True, help="Score combinations that training draws, not those held out.")
def evaluate(target: Path, count: int, seen: bool) -> None:
    """Prints the evaluation table."""
    click.echo(evaluating.table(evaluating.evaluate(target, count, unseen=not seen)))


@main.command()
@_TARGET
@click.argument("path", type=_FOLDER)
def sheet(target: Path, path: Path) -> None:
    """Writes a contact sheet to PATH."""
    sheets.write(target, path)


@main.command("all")
@_WORK
@_TARGET
@_RANKS
@_HOURS
def everything(work: Path, target: Path, ranks: int, hours: float) -> None:
    """Trains from nothing, exports and evaluates."""
    tokenizing.train(work)
    autoencoding.train(work, 7.0, ranks)
    reading.train(work, 2.3, ranks)
    painting.train(work, painting.Plan(hours=hours, ranks=ranks))
    exporting.export(work, target)
    click.echo(evaluating.table(evaluating.evaluate(target, 96, unseen=True)))


if __name__ == "__main__":
    main()
