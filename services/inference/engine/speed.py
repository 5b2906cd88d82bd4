"""What makes a pipeline fast on an accelerator, each at its manifest's word. None of it happens on the CPU.

Attention needs no word: diffusers calls `scaled_dot_product_attention`, which takes the fused kernels of the card.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from services.inference.engine.manifest import Manifest

COMPILE_MODE = "max-autotune-no-cudagraphs"  # graphs of its own would tie the denoiser to the thread that warmed it up
WARM_UPS = 3  # passes before one is recorded: libraries choose their kernels in the first ones
MOST_GRAPHS = 6  # shapes recorded at once; each keeps the activations of a pass, the oldest leaves first

Tensors = Mapping[str, torch.Tensor]
Forward = Callable[[Tensors], torch.Tensor]


def quicken(pipeline: Any, part: str, manifest: Manifest, device: str) -> None:
    """Lays weights out for the card and compiles the denoiser, the pipeline's `part`; the first passes then compile."""
    if device == "cpu" or manifest.offload != "none":
        return
    denoiser = getattr(pipeline, part)
    pipeline.vae.to(memory_format=torch.channels_last)
    if part == "unet":
        denoiser.to(memory_format=torch.channels_last)
    if manifest.fuse_qkv:
        denoiser.fuse_qkv_projections()
    if manifest.compile:
        compile_denoiser(denoiser, {"mode": COMPILE_MODE})


def compile_denoiser(denoiser: Any, options: Mapping[str, Any]) -> None:
    """A UNet whole; of a transformer that names them the blocks it repeats: as fast, in a fraction of the time.

    Shapes seen first are compiled for themselves, then once for any number of rows. `options` are torch.compile's.
    """
    if getattr(denoiser, "_repeated_blocks", None) and not hasattr(denoiser, "down_blocks"):
        denoiser.compile_repeated_blocks(**options)
    else:
        denoiser.compile(**options)


@dataclass(frozen=True)
class _Recorded:
    graph: Any
    inputs: dict[str, torch.Tensor]
    output: torch.Tensor


class Beside:
    """Lets one thread's stage run beside the steps: on a CUDA stream of its own, finished when the stage ends.

    Because it is finished then, and so is each step when it ends, no tensor goes from one stream to another, or back to
    its pool, while the card still works on it. On the CPU nothing happens.
    """

    def __init__(self, device: str) -> None:
        make_stream: Any = torch.cuda.Stream
        self._stream = None if device == "cpu" else make_stream()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Around the stage."""
        if self._stream is None:
            yield
            return
        try:
            with torch.cuda.stream(self._stream):
                yield
        finally:
            self._stream.synchronize()


def finish(device: str) -> None:
    """Waits for what this thread has asked the card for."""
    if device != "cpu":
        torch.cuda.current_stream(device).synchronize()


class Graphs:
    """Records a forward pass as a CUDA graph for each shape of its inputs and replays it: one launch for thousands.

    One thread calls it. A pass that cannot be recorded runs as it is, then and later.
    """

    def __init__(self, forward: Forward, most: int = MOST_GRAPHS) -> None:
        self._forward = forward
        self._most = most
        self._recorded: OrderedDict[object, _Recorded] = OrderedDict()
        self._possible = True

    def __call__(self, inputs: Tensors) -> torch.Tensor:
        """The output of a pass over `inputs`, tensors on the card."""
        if not self._possible:
            return self._forward(inputs)
        shape = tuple((name, tensor.shape, tensor.dtype) for name, tensor in sorted(inputs.items()))
        if shape not in self._recorded:
            try:
                self._recorded[shape] = self._record(inputs)
            except RuntimeError:
                self._possible = False
                self._recorded.clear()
                return self._forward(inputs)
        self._recorded.move_to_end(shape)
        if len(self._recorded) > self._most:
            self._recorded.popitem(last=False)
        recorded = self._recorded[shape]
        for name, tensor in inputs.items():
            recorded.inputs[name].copy_(tensor)
        recorded.graph.replay()
        return recorded.output.clone()

    def _record(self, inputs: Tensors) -> _Recorded:
        """See "Whole-network capture" in torch's CUDA notes. Other threads use the card meanwhile: `thread_local`."""
        kept = {name: tensor.clone() for name, tensor in inputs.items()}
        make_stream: Any = torch.cuda.Stream
        beside = make_stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(WARM_UPS):
                self._forward(kept)
        torch.cuda.current_stream().wait_stream(beside)
        graph: Any = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            output = self._forward(kept)
        return _Recorded(graph, kept, output)
