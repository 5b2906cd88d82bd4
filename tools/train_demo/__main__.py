"""The command line: `python -m tools.train_demo STEP`."""

from dataclasses import replace
from pathlib import Path

import click
import torch

from tools.train_demo import control as controlling
from tools.train_demo import evaluate as evaluating
from tools.train_demo import export as exporting
from tools.train_demo import extension_scores as scoring
from tools.train_demo import extension_sheets
from tools.train_demo import lora as styling
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
    """Trains the demo model: tokenizer, vae, decoder, text, unet, export, lora, control, evaluate; or `all`."""
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
@click.option("--minutes", default=15.0, show_default=True)
def decoder(work: Path, ranks: int, minutes: float) -> None:
    """Refines the autoencoder's decoder; its latents stay as they are."""
    autoencoding.refine(work, minutes, ranks)


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
@click.option("--samples", default=styling.PLAN.samples, show_default=True)
def lora(target: Path, samples: int) -> None:
    """Trains the style LoRA for the exported model; four minutes of one core."""
    styling.train(target, replace(styling.PLAN, samples=samples))


@main.command()
@_TARGET
@click.option("--samples", default=controlling.PLAN.samples, show_default=True)
def control(target: Path, samples: int) -> None:
    """Trains the edge ControlNet for the exported model; about eight minutes of one core."""
    controlling.train(target, replace(controlling.PLAN, samples=samples))


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


@main.command("evaluate-extensions")
@_TARGET
@click.option("--count", default=64, show_default=True, help="Prompts a table.")
def evaluate_extensions(target: Path, count: int) -> None:
    """Prints the tables of the LoRA and the ControlNet."""
    click.echo(scoring.table(scoring.score_lora(target, count), "with the LoRA"))
    click.echo(scoring.table(scoring.score_control(target, count), "with the ControlNet"))


@main.command("extension-sheets")
@_TARGET
@click.argument("folder", type=_FOLDER)
def sheets_of_extensions(target: Path, folder: Path) -> None:
    """Writes the contact sheets of the LoRA and the ControlNet to FOLDER."""
    extension_sheets.write_lora(target, folder / "demo-lora.png")
    extension_sheets.write_control(target, folder / "demo-control.png")


@main.command("all")
@_WORK
@_TARGET
@_RANKS
@_HOURS
def everything(work: Path, target: Path, ranks: int, hours: float) -> None:
    """Trains from nothing, exports and evaluates."""
    tokenizing.train(work)
    autoencoding.train(work, 7.0, ranks)
    autoencoding.refine(work, 15.0, ranks)
    reading.train(work, 2.3, ranks)
    painting.train(work, painting.Plan(hours=hours, ranks=ranks))
    exporting.export(work, target)
    styling.train(target)
    controlling.train(target)
    click.echo(evaluating.table(evaluating.evaluate(target, 96, unseen=True)))
    click.echo(scoring.table(scoring.score_lora(target, 64), "with the LoRA"))
    click.echo(scoring.table(scoring.score_control(target, 64), "with the ControlNet"))


if __name__ == "__main__":
    main()
