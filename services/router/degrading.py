"""What a candidate may leave out of a spec where the caller allowed it, and the nearest size it can draw. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Final

from services.router.capabilities import Capabilities, Misfit, sizes_of_ratio
from services.router.specs import GenerationSpec, Size

SIZE: Final = "size"
"""Stands for `size` and `aspect_ratio`: never left out, but the nearest that the route takes is drawn instead."""

LEFT_OUT: Mapping[str, Callable[[GenerationSpec], GenerationSpec]] = {
    "negative_prompt": lambda spec: replace(spec, negative_prompt=""),
    "seed": lambda spec: replace(spec, seed=None),
    "steps": lambda spec: replace(spec, steps=None),
    "guidance": lambda spec: replace(spec, guidance=None),
    "scheduler": lambda spec: replace(spec, scheduler=""),
    "strength": lambda spec: replace(spec, strength=None),
    "upscale_factor": lambda spec: replace(spec, upscale_factor=0),
    "output.format": lambda spec: replace(spec, output=replace(spec.output, format="", quality=0)),
    "output.transparent_background": lambda spec: replace(
        spec, output=replace(spec.output, transparent_background=False)
    ),
    SIZE: lambda spec: spec,
}
"""The fields that `Routing.may_drop` may name, and a spec without each."""

_NAMES = {"spec.aspect_ratio": SIZE, **{f"spec.{name}": name for name in LEFT_OUT}}


def split(found: Iterable[Misfit], may_drop: Collection[str]) -> tuple[tuple[str, ...], tuple[Misfit, ...]]:
    """What a route would leave out of the spec, and the misfits that are left then."""
    dropped: dict[str, None] = {}
    left = []
    for misfit in found:
        name = _NAMES.get(misfit.field, "")
        if name in may_drop:
            dropped[name] = None
        else:
            left.append(misfit)
    return tuple(dropped), tuple(left)


def without(spec: GenerationSpec, dropped: Iterable[str]) -> GenerationSpec:
    """The spec as a route gets it that leaves these fields out; its size is the caller's still."""
    for name in dropped:
        spec = LEFT_OUT[name](spec)
    return spec


def nearest_size(spec: GenerationSpec, route: Capabilities) -> Size:
    """The size the route takes that is nearest to what was asked for, edge by edge, as factors."""
    return _nearest(spec.size or _of_ratio(spec.aspect_ratio, route.default_size), route)


@lru_cache(maxsize=1024)
def _nearest(wanted: Size, route: Capabilities) -> Size:
    ratio = wanted.width / wanted.height
    if route.max_ratio:
        ratio = min(max(ratio, 1 / route.max_ratio), route.max_ratio)

    def distance(size: Size) -> float:
        return abs(math.log(size.width / wanted.width)) + abs(math.log(size.height / wanted.height))

    near = [size for size in (_clamped(wanted, route), route.default_size) if route.takes(size)]
    return min([*near, *sizes_of_ratio(ratio, route)], key=distance)


def _of_ratio(ratio_text: str, default: Size) -> Size:
    """A size of that ratio with about as many pixels as the default."""
    width, height = (int(part) for part in ratio_text.split(":"))
    scale = math.sqrt(default.pixels / (width * height))
    return Size(max(1, round(width * scale)), max(1, round(height * scale)))


def _clamped(wanted: Size, route: Capabilities) -> Size:
    def edge(pixels: int) -> int:
        step = route.edge_step
        low, high = math.ceil(route.min_edge / step) * step, route.max_edge // step * step
        return min(max(round(pixels / step) * step, low), high)

    return Size(edge(wanted.width), edge(wanted.height))
