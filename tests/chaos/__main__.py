"""`make chaos`: the whole matrix, a line each; exits with 1 when a promise was broken. At most 30 minutes."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.chaos.crashes import OWN, Crashed, Scene, scene
from tests.e2e.stubs import MODEL

STEPS = (
    "bring_inputs",
    "judge_text",
    "judge_inputs",
    "look_in_cache",
    "plan",
    "attempt",
    "store",
    "judge_images",
    "publish",
    "end",
)
TAKE_PICTURES = (MODEL,)
"""Models that change pictures as a prompt says, so that a job has something to bring in."""
JOBS = 50
LIMIT_SECONDS = 30 * 60


async def matrix(folder: Path, console: Console) -> list[Crashed]:
    """Every scenario, on one mesh."""
    done: list[Crashed] = []
    async with scene(folder) as stage:
        for name, model in _kills(stage):
            done.append(await stage.kill_during_jobs(name, model, JOBS))
            _tell(console, done[-1])
        for point in (f"{phase}:{step}" for step in STEPS for phase in ("before", "after")):
            for model in TAKE_PICTURES if point.endswith("_inputs") else (OWN, MODEL):
                done.append(await stage.kill_worker_at(point, model, 4))
                _tell(console, done[-1])
        done.append(await stage.lose_jetstream(100))
        _tell(console, done[-1])
    return done


def _kills(stage: Scene) -> list[tuple[str, str]]:
    return [(name, model) for name in stage.mesh.processes() for model in (OWN, MODEL)]


def _tell(console: Console, crashed: Crashed) -> None:
    console.print(crashed.scenario, crashed.model, f"{crashed.seconds:.0f} s", crashed.broken_promises() or "kept")


def main() -> None:
    """Prints a line for each scenario while it runs, and the table at the end."""
    console = Console(width=140)
    with tempfile.TemporaryDirectory(prefix="imagemesh-chaos-") as name:
        done = asyncio.run(asyncio.wait_for(matrix(Path(name), console), LIMIT_SECONDS))
    table = Table(title="kill -9 with real processes")
    for column in (
        "scenario",
        "model",
        "jobs",
        "succeeded",
        "unknown",
        "debits",
        "POSTed twice",
        "stray",
        "seconds",
        "promises",
    ):
        table.add_column(column)
    for crashed in done:
        numbers = (crashed.jobs, crashed.succeeded, crashed.unknown, crashed.debits, crashed.doubled, crashed.stray)
        verdict = "; ".join(crashed.broken_promises()) or "kept"
        table.add_row(crashed.scenario, crashed.model, *map(str, numbers), f"{crashed.seconds:.1f}", verdict)
    console.print(table)
    sys.exit(any(crashed.broken_promises() for crashed in done))


if __name__ == "__main__":
    main()
