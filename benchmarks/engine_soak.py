"""1,000 requests on the demo model, a third canceled, some broken, of mixed sizes and operations, twelve at once.

    python -m benchmarks.engine_soak [REQUESTS]

Every picture is compared with the one that its request gives alone. Prints how the requests ended and the process's
memory on the way; exits with 1 when memory grew by more than 5 % after the first fifth.
"""

from __future__ import annotations

import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from services.inference.engine.admission import Limits
from services.inference.engine.engine import StepEngine
from services.inference.engine.families import load_family, use_threads
from services.inference.engine.manifest import read_model
from tests.inference.soak import pool, soak
from tests.inference.tiny_extras import write_demo_model_with_extras

REQUESTS = 1000
AT_ONCE = 12
MOST_GROWTH = 0.05
MIB = 2**20


def main(requests: int) -> int:
    """The exit status."""
    with tempfile.TemporaryDirectory() as folder:
        model = read_model(write_demo_model_with_extras(Path(folder) / "demo"))
        use_threads(1)
        limits = Limits(slots=8, waiting=32)
        engine = StepEngine(load_family(model, "cpu"), limits, partial(use_threads, 1))
        engine.start()
        begun = time.perf_counter()
        outcome = soak(engine, pool("demo", turns=5), requests, AT_ONCE)
        seconds = time.perf_counter() - begun
        load = engine.load()
        engine.stop()
    print(f"{requests} requests in {seconds:.0f} s, {load.rows_done / load.passes:.1f} rows a pass")
    print("ends:", ", ".join(f"{name} {count}" for name, count in outcome.ends.most_common()))
    print("memory, MiB:", " ".join(f"{size / MIB:.0f}" for size in outcome.memory))
    print(f"growth after the first fifth: {outcome.growth:+.1%} (at most {MOST_GROWTH:.0%})")
    return int(outcome.growth > MOST_GROWTH)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else REQUESTS))
