"""Schedulers by name. Importing this module imports no torch; `build` does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class SchedulerKind:
    """A diffusers class, the settings that make it what its name says, and the most steps it can take."""

    class_name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    max_steps: int = 150
    flow: bool = False  # for models that flow straight from noise to picture, and for no others


SCHEDULERS: Mapping[str, SchedulerKind] = {
    "ddim": SchedulerKind("DDIMScheduler", {"clip_sample": False}),
    "euler": SchedulerKind("EulerDiscreteScheduler"),
    "euler_a": SchedulerKind("EulerAncestralDiscreteScheduler"),
    "dpmpp_2m": SchedulerKind("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "unipc": SchedulerKind("UniPCMultistepScheduler"),
    "lcm": SchedulerKind("LCMScheduler", {"clip_sample": False}, max_steps=50),
    "flow_match_euler": SchedulerKind("FlowMatchEulerDiscreteScheduler", flow=True),
}


def fitting(flow: bool) -> tuple[str, ...]:
    """The names that fit a model which does (or does not) flow straight from noise to picture."""
    return tuple(name for name, kind in SCHEDULERS.items() if kind.flow is flow)


def build(name: str, config: Mapping[str, Any], steps: int, device: str) -> Any:
    """A fresh scheduler of this name over the model's noise schedule, set to `steps`. KeyError for unknown names.

    Every request owns one: schedulers keep the history of the steps they made.
    """
    import diffusers

    kind = SCHEDULERS[name]
    scheduler_class = getattr(diffusers, kind.class_name)
    scheduler = scheduler_class.from_config(dict(config), **kind.settings)
    scheduler.set_timesteps(steps, device=device)
    return scheduler
