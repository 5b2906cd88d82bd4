"""The command's entry. Every group of commands is one line in COMMANDS."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from imagemesh.cli import audit, catalog, doctor, generate, jobs, keys, later, policies, reviews, trace, up, usage
from imagemesh.cli.failures import FAILED
from imagemesh.cli.session import Session

COMMANDS: tuple[click.Command, ...] = (
    *(up.up, up.down, up.status, up.logs),
    generate.generate,
    *(jobs.jobs, jobs.watch, jobs.cancel),
    trace.trace,
    *(catalog.quote, catalog.models, catalog.providers),
    usage.usage,
    keys.keys,
    policies.policies,
    later.budget,
    reviews.reviews,
    audit.audit,
    doctor.doctor,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--target", envvar="IMAGEMESH_TARGET", default="", help="host:port of a router; default: the local mesh.")
@click.option("--api-key", envvar="IMAGEMESH_API_KEY", default="", help="Default: the local mesh's development key.")
@click.option("--moderation-target", envvar="IMAGEMESH_MODERATION_TARGET", default="", hidden=True)
@click.option("--storage-target", envvar="IMAGEMESH_STORAGE_TARGET", default="", hidden=True)
@click.option(
    "--home",
    envvar="IMAGEMESH_HOME",
    type=click.Path(path_type=Path),
    default=Path("~/.local/share/imagemesh"),
    show_default=True,
    help="Folder of the local mesh.",
)
@click.version_option(package_name="imagemesh")
@click.pass_context
def cli(context: click.Context, /, target: str, api_key: str, home: Path, **targets: str) -> None:
    """Pictures from prompts, on a mesh of your own.

    Exit status: 0 done, 1 failed, 2 usage, 3 blocked by moderation, 4 budget or limit.
    """
    context.obj = Session(
        home.expanduser().absolute(), target, api_key, targets["moderation_target"], targets["storage_target"]
    )


for command in COMMANDS:
    cli.add_command(command)


def main() -> None:
    """Entry point of the `imagemesh` script: whatever happens, one line and never a traceback."""
    try:
        cli(prog_name="imagemesh")
    except Exception as error:
        if os.environ.get("IMAGEMESH_DEBUG"):
            raise
        text = f"a fault of the command itself: {type(error).__name__}: {error} (IMAGEMESH_DEBUG=1 shows where)"
        sys.stderr.write(f"imagemesh: {text}\n")
        sys.exit(FAILED)


if __name__ == "__main__":
    main()
