"""The GPU's benchmark: its configurations are those of the published models, and it runs where no GPU is."""

from __future__ import annotations

import pytest
import torch

from benchmarks.gpu import main
from benchmarks.gpu_models import CONFIGURATIONS, denoiser_flop
from services.inference.engine.families import use_threads


def test_the_configuration_has_the_published_size() -> None:
    flop, parameters = denoiser_flop(CONFIGURATIONS["flux-dev"])
    assert parameters / 1e9 == pytest.approx(11.901, abs=0.001)
    assert flop / 1e12 == pytest.approx(74.4, rel=0.01)


def test_without_a_gpu_it_says_so_and_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main([]) == 0
    assert "no GPU here" in capsys.readouterr().out


@pytest.mark.parametrize("name", list(CONFIGURATIONS))
def test_it_measures_tiny_models_anywhere(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    use_threads(1)
    assert main(["--tiny", "--device", "cpu", "--runs", "1", "--company", "2", "--models", name]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith(f"| {name} ")]
    assert len(rows) == 1
    assert rows[0].count("|") == 9
