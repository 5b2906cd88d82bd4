"""A short soak of the real engine; `benchmarks/engine_soak.py` is the long one, on the demo model."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from services.inference.engine.admission import Limits
from services.inference.engine.engine import StepEngine
from services.inference.engine.families import load_family, use_threads
from services.inference.engine.manifest import read_model
from tests.inference.soak import pool, soak
from tests.inference.tiny_extras import write_tiny_model_with_extras

REQUESTS = 40


@pytest.mark.filterwarnings("ignore:Already found a `peft_config` attribute")
def test_nothing_hangs_and_no_request_sees_anothers_seed(tmp_path: Path) -> None:
    model = read_model(write_tiny_model_with_extras(tmp_path / "tiny"))
    use_threads(1)
    engine = StepEngine(load_family(model, "cpu"), Limits(slots=6, waiting=20), partial(use_threads, 1))
    engine.start()
    try:
        outcome = soak(engine, pool("tiny", turns=1), REQUESTS, at_once=12)
    finally:
        engine.stop()
    assert outcome.ends.total() == REQUESTS
    assert min(outcome.ends[name] for name in ("Finished", "Canceled", "RequestRefused")) > 0
