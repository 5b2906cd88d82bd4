"""Vendors that serve several families of models: what all of them can do together, and what one of them cannot."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from typing import Any

from services.router.providers.base import Capabilities, ProviderCall
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.retouch import size_of

Asked = Callable[[ProviderCall], object]

FLAGS: tuple[tuple[str, Asked], ...] = (
    ("negative_prompt", lambda call: call.negative_prompt),
    ("steps", lambda call: call.steps is not None),
    ("guidance", lambda call: call.guidance is not None),
    ("scheduler", lambda call: call.scheduler),
    ("strength", lambda call: call.strength is not None),
    ("transparent_background", lambda call: call.transparent_background),
    ("loras", lambda call: call.loras),
    ("mask", lambda call: call.mask is not None and call.operation != "INPAINT"),
)
"""What a call may ask for, by the capability that it needs. A seed is not among them: the mesh draws one itself."""


def union(families: Iterable[Capabilities]) -> Capabilities:
    """What at least one of the families can do."""
    known = tuple(families)
    return Capabilities(
        **{field.name: _together([getattr(one, field.name) for one in known]) for field in fields(Capabilities)}
    )


def _together(values: list[Any]) -> Any:
    first = values[0]
    if isinstance(first, bool):
        return any(values)
    if isinstance(first, int):
        return max(values)
    if isinstance(first, frozenset):
        return frozenset().union(*values)
    if isinstance(first, tuple):
        return tuple(dict.fromkeys(item for value in values for item in value))
    return {key: rule for value in values for key, rule in value.items()}


def refuse_unfit(call: ProviderCall, able: Capabilities) -> None:
    """Nothing that was asked for is left out silently: the catalog says what a route takes, and this is its check.

    Raises:
        ProviderError: BAD_REQUEST, naming everything that the model does not take.
    """
    if missing := [*_missing(call, able)]:
        raise ProviderError(ErrorKind.BAD_REQUEST, f"{call.model} takes no {', no '.join(missing)}")


def _missing(call: ProviderCall, able: Capabilities) -> Iterator[str]:
    if call.operation not in able.operations:
        yield call.operation
    yield from (name for name, asked in FLAGS if asked(call) and not getattr(able, name))
    yield from (f"control {control.kind}" for control in call.controls if control.kind not in able.controls)
    yield from (f"option {name}" for name in call.options if name not in able.options)
    if call.count > able.max_count:
        yield f"{call.count} pictures a call"
    if len(call.images) > able.max_images:
        yield f"{len(call.images)} images"
    if call.upscale_factor and call.upscale_factor not in able.upscale_factors:
        yield f"factor {call.upscale_factor}"
    if call.output_format and call.output_format not in able.formats:
        yield f"format {call.output_format}"


async def refuse_other_size(call: ProviderCall) -> None:
    """For models whose picture is as large as its source: any other size would be silently wrong.

    Raises:
        ProviderError: BAD_REQUEST when a size is asked for that does not follow from the first image or control.
    """
    sources = (*call.images, *(control.image for control in call.controls))
    if not call.width or not sources:
        return
    width, height = await size_of(sources[0])
    at = call.margins
    if (call.width, call.height) != (width + at.left + at.right, height + at.top + at.bottom):
        raise ProviderError(ErrorKind.BAD_REQUEST, f"{call.model} keeps the size of its source image")
