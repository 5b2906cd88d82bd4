"""Seconds per picture on a GPU, through the engine: SDXL and FLUX.1-dev with random weights.

    python -m benchmarks.gpu                   everything that makes it fast, both models
    python -m benchmarks.gpu --eager           nothing compiled
    python -m benchmarks.gpu --tiny --device cpu   a minute's check that this script works; its figures mean nothing

A picture is timed from its submission to the engine to its PNG: text encoding, all steps, decoding. The rate counts the
denoiser's operations alone, over the time of the steps alone, beside what the card reaches on large bf16 matrix
products in the same run.
"""

from __future__ import annotations

import argparse
import queue
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from benchmarks.gpu_models import CONFIGURATIONS, TINY, Configuration, denoiser_flop, family_of, manifest_of
from services.inference.engine.admission import Limits
from services.inference.engine.engine import StepEngine
from services.inference.engine.errors import EngineError
from services.inference.engine.facts import Fact, Finished
from services.inference.engine.loading import quiet
from services.inference.engine.request import DrawRequest

MATRIX = 8192  # rows and columns of the products that tell the card's rate
PRODUCTS = 20
DEADLINE_S = 600.0
NANO = 1e9


@dataclass(frozen=True)
class Run:
    """Seconds of one picture: its share of the time in which all drawn at once were done, and its own stages."""

    total: float
    encode: float
    denoise: float
    decode: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints; 0 also where there is no GPU, after saying so."""
    options = _options(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        print("no GPU here: nothing measured (run this on a machine with a CUDA card, or --tiny --device cpu)")
        return 0
    quiet()
    side = 256 if options.tiny else MATRIX
    card = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    rate = matrix_rate(options.device, side)
    print(f"{card}, torch {torch.__version__}: {rate / 1e12:.3g} TFLOP/s on {side} x {side} matrix products in bf16")
    print(HEAD)
    for name in options.models:
        shape = (TINY if options.tiny else CONFIGURATIONS)[name]
        for company in options.company:
            print(_row(name, shape, measure(name, shape, options, company), company, rate), flush=True)
    return 0


def matrix_rate(device: str, side: int) -> float:
    """Operations per second of a bf16 matrix product of this size: the best of five rounds."""
    left, right = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    rounds = []
    for _ in range(5):
        _wait(device)
        began = time.perf_counter()
        for _ in range(PRODUCTS):
            left @ right
        _wait(device)
        rounds.append((time.perf_counter() - began) / PRODUCTS)
    return 2 * side**3 / min(rounds)


def measure(name: str, shape: Configuration, options: argparse.Namespace, company: int) -> list[Run]:
    """`options.runs` rounds of `company` pictures asked for at once, after the warm-up."""
    fast = not options.eager and options.device == "cuda"
    switches = {"compile": fast, "cuda_graphs": fast and options.graphs, "fuse_qkv": fast}
    with tempfile.TemporaryDirectory() as folder:
        manifest = manifest_of(name, shape, switches)
        family = family_of(shape, manifest, options.device, Path(folder))
        began = time.perf_counter()
        family.warm_up()
        print(f"  {name}: warm after {time.perf_counter() - began:.0f} s", file=sys.stderr)
        engine = StepEngine(family, Limits(slots=company, waiting=company, rows=2 * company))
        engine.start()
        request = DrawRequest(
            request_id="",
            model_id=name,
            prompt="",
            negative_prompt="",
            width=shape.side,
            height=shape.side,
            count=1,
            seed=0,
            steps=shape.steps,
            guidance=shape.guidance,
            scheduler=shape.scheduler,
        )
        try:
            rounds = [_round(engine, request, number, company) for number in range(options.runs + 1)]
        finally:
            engine.stop()
    return [run for runs in rounds[1:] for run in runs]  # the first round warms up what company needs


def _round(engine: StepEngine, request: DrawRequest, number: int, company: int) -> list[Run]:
    """Every request has words of its own, so that none finds its prompt encoded already."""
    facts: queue.SimpleQueue[Fact | EngineError] = queue.SimpleQueue()
    began = time.perf_counter()
    for mate in range(company):
        words = " ".join("abcdefghij"[int(digit)] for digit in f"{number}{mate}")
        engine.submit(replace(request, request_id=words, prompt=words, seed=mate), facts.put)
    finished: list[Finished] = []
    while len(finished) < company:
        fact = facts.get(timeout=DEADLINE_S)
        if isinstance(fact, EngineError):
            raise fact
        if isinstance(fact, Finished):
            finished.append(fact)
    total = (time.perf_counter() - began) / company
    return [_run(fact, total) for fact in finished]


def _run(finished: Finished, total: float) -> Run:
    seconds = {stage.name: (stage.end_ns - stage.start_ns) / NANO for stage in finished.stages}
    return Run(total, seconds["encode"], seconds["denoise"], seconds["decode"])


COLUMNS = (
    "model",
    "at once",
    "s/picture: median [range]",
    "encode s",
    "steps s",
    "decode s",
    "TFLOP/s",
    "of matrix rate",
)
HEAD = f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}"


def _row(name: str, shape: Configuration, runs: Sequence[Run], company: int, rate: float) -> str:
    """The rate is that of all pictures drawn at once."""
    totals = [run.total for run in runs]
    encode, denoise, decode = (
        statistics.median(getattr(run, stage) for run in runs) for stage in ("encode", "denoise", "decode")
    )
    flop, parameters = denoiser_flop(shape)
    done = flop * shape.steps * company / denoise
    return (
        f"| {name} {shape.side}², {shape.steps} steps, {parameters / 1e9:.2f} B | {company} "
        f"| {statistics.median(totals):.3f} [{min(totals):.3f}–{max(totals):.3f}] "
        f"| {encode:.3f} | {denoise:.3f} | {decode:.3f} | {done / 1e12:.3g} | {100 * done / rate:.0f} % |"
    )


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=list(CONFIGURATIONS), default=list(CONFIGURATIONS))
    parser.add_argument("--company", nargs="+", type=int, default=[1, 4], help="pictures asked for at once")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--eager", action="store_true", help="compile and fuse nothing")
    parser.add_argument("--graphs", action="store_true", help="record passes as CUDA graphs")
    parser.add_argument("--tiny", action="store_true", help="models of a few thousand weights")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
