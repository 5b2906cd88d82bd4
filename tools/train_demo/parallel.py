"""Training in several one-thread processes that average their weights every few seconds.

Faster than one process with several threads wherever the cores are shared, and no rank waits for a slower one:
each makes as many steps as it can between two averages, and counts for as many.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

# Without these glibc returns and asks again for each large tensor, which halves the speed of training.
_MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 34), "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Rank:
    """One of `size` training processes."""

    index: int
    size: int

    @property
    def leads(self) -> bool:
        """Whether this rank logs and saves."""
        return self.index == 0

    def average(self, parameters: Iterable[torch.Tensor], weight: float) -> None:
        """Replaces the tensors by their mean over the ranks, each counting `weight`."""
        tensors = list(parameters)
        flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors] + [torch.ones(1)]) * weight
        if self.size > 1:
            dist.all_reduce(flat)
        start = 0
        with torch.no_grad():
            for tensor in tensors:
                tensor.copy_((flat[start : start + tensor.numel()] / flat[-1]).view_as(tensor))
                start += tensor.numel()

    def total(self, value: float) -> float:
        """The sum of `value` over the ranks."""
        box = torch.tensor([value], dtype=torch.float64)
        if self.size > 1:
            dist.all_reduce(box)
        return float(box)


def launch(train: Callable[..., None], ranks: int, *args: Any) -> None:
    """Runs `train(rank, *args)` in `ranks` fresh processes; raises if one fails."""
    spawn: Any = torch.multiprocessing.spawn  # type: ignore[attr-defined]
    os.environ.update(_MALLOC)
    with tempfile.TemporaryDirectory() as folder:
        spawn(_enter, (ranks, os.path.join(folder, "store"), train, args), nprocs=ranks)


def _enter(index: int, size: int, store: str, train: Callable[..., None], args: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=index, world_size=size)
    train(Rank(index, size), *args)
    dist.destroy_process_group()


@dataclass
class Budget:
    """Wall time to spend; survives a restart, since `spent` is kept in the checkpoint.

    The learning rate depends on the share that is spent, so it is always annealed at the end.
    """

    seconds: float
    spent: float = 0.0
    _since: float | None = None

    def share(self) -> float:
        """How much of the budget is spent, 0 to 1."""
        now = time.monotonic()
        if self._since is not None:
            self.spent += now - self._since
        self._since = now
        return min(1.0, self.spent / self.seconds)
