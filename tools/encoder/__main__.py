"""The command line: `python -m tools.encoder TARGET [PACKAGE_FOLDER]`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from services.moderation.classifiers.sentence_encoder import Encoder, EncoderFileError
from tools.encoder import making

_FOLDER = click.Path(path_type=Path)


@click.command()
@click.argument("target", type=_FOLDER)
@click.argument("package", type=_FOLDER, required=False)
def main(target: Path, package: Path | None) -> None:
    """Makes the int8 sentence encoder in TARGET from the weights below PACKAGE; without PACKAGE only checks it."""
    try:
        if package is None:
            Encoder.load(target)
        else:
            making.make(making.find_weights(package), target)
    except (making.EncoderError, EncoderFileError, OSError) as error:
        sys.stderr.write(f"the sentence encoder: {error}\n")
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
