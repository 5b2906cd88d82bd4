"""Settles a request against a model: fills in defaults, finds the size, names every misfit at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from services.inference.engine.errors import RequestRefused, Violation
from services.inference.engine.images import BadImage, size_of
from services.inference.engine.loras import LoraSource
from services.inference.engine.manifest import Manifest, SizeRule
from services.inference.engine.request import MAX_CONTROLS, MAX_LORAS, MAX_PREVIEWS, DrawRequest, Wanted
from services.inference.engine.schedulers import SCHEDULERS

Size = tuple[int, int]

NO_LORAS: Mapping[str, LoraSource] = {}
MOST_NAMES = 20  # that a message lists

# Operations that begin with an image, and the share of the steps each makes by default. All but the last are the
# defaults of diffusers' pipelines. Refining an enlarged picture must not change what it shows: on the demo model 0.2
# sharpens edges (reduced again, it is within 24 dB of the original), and from 0.3 on new stars appear.
STRENGTHS = {"image_to_image": 0.8, "control": 0.8, "inpaint": 1.0, "outpaint": 1.0, "upscale": 0.2}
MAY_BEGIN = frozenset({"control"})  # with an image, or with noise


def settle(
    wanted: Wanted, manifest: Manifest, draw_seed: Callable[[], int], loras: Mapping[str, LoraSource] = NO_LORAS
) -> DrawRequest:
    """Fills in the model's defaults, snaps the size where the model allows it; RequestRefused names every misfit."""
    size, violations = _size(wanted, manifest)
    violations += [*_operation_violations(wanted, manifest), *_violations(wanted, manifest)]
    violations += _lora_violations(wanted, manifest, loras)
    if violations:
        raise RequestRefused(violations)
    default = manifest.defaults
    return DrawRequest(
        request_id=wanted.request_id,
        model_id=manifest.id,
        prompt=wanted.prompt,
        negative_prompt=wanted.negative_prompt,
        width=manifest.size.snap(size[0]),
        height=manifest.size.snap(size[1]),
        count=wanted.count,
        seed=draw_seed() if wanted.seed is None else wanted.seed,
        steps=_steps(wanted, manifest),
        guidance=default.guidance if wanted.guidance is None else wanted.guidance,
        scheduler=wanted.scheduler or default.scheduler,
        operation=wanted.operation,
        image=wanted.image,
        mask=wanted.mask,
        strength=_strength(wanted, manifest),
        margins=wanted.margins,
        controls=wanted.controls,
        loras=tuple(sorted(wanted.loras, key=lambda use: use.lora_id)),
        lane=wanted.lane,
        previews=wanted.previews,
    )


def _strength(wanted: Wanted, manifest: Manifest) -> float:
    """As asked for, else the operation's own, but enough for one step."""
    if wanted.strength is not None:
        return wanted.strength
    if wanted.image is None:
        return 1.0
    one_step = 1.000001 / max(1, _steps(wanted, manifest))
    return min(1.0, max(STRENGTHS.get(wanted.operation, 1.0), one_step))


def _steps(wanted: Wanted, manifest: Manifest) -> int:
    """As asked for, else the model's own, as far as the scheduler goes."""
    if wanted.steps is not None:
        return wanted.steps
    kind = SCHEDULERS.get(wanted.scheduler)
    return manifest.defaults.steps if kind is None else min(manifest.defaults.steps, kind.max_steps)


def _size(wanted: Wanted, manifest: Manifest) -> tuple[Size, list[Violation]]:
    """The size before snapping, and what is wrong with it or with the images."""
    violations: list[Violation] = []
    sizes = [_image_size(field, data, violations) for field, data in _images(wanted)]
    own = sizes[0] if wanted.image is not None else None
    default = (manifest.defaults.width, manifest.defaults.height)
    if wanted.operation in ("outpaint", "upscale") and own is not None:
        size = _grown(own, wanted)
        violations += [
            Violation("image", f"the result would be {size[0]} x {size[1]} pixels: {violation.field} {violation.fix}")
            for violation in _misfits(size, manifest.size)
        ]
        return size, violations
    if wanted.width is None and wanted.height is None and own is not None:
        size = _fitted(own, manifest.size)
    else:
        size = (wanted.width or default[0], wanted.height or default[1])
    return size, [*violations, *_misfits(size, manifest.size)]


def _images(wanted: Wanted) -> Iterator[tuple[str, bytes]]:
    if wanted.image is not None:
        yield "image", wanted.image
    if wanted.mask is not None:
        yield "mask", wanted.mask
    for number, control in enumerate(wanted.controls):
        yield f"controls[{number}].image", control.image


def _image_size(field: str, data: bytes, violations: list[Violation]) -> Size | None:
    try:
        return size_of(data)
    except BadImage as error:
        violations.append(Violation(field, str(error)))
        return None


def _grown(own: Size, wanted: Wanted) -> Size:
    if wanted.operation == "upscale":
        factor = wanted.upscale_factor or 2
        return own[0] * factor, own[1] * factor
    margins = wanted.margins
    return own[0] + margins.left + margins.right, own[1] + margins.top + margins.bottom


def _fitted(own: Size, rule: SizeRule) -> Size:
    """The image's own size; where the model snaps sizes, scaled into its range."""
    if rule.policy == "refuse":
        return own
    scale = min(1.0, rule.max / max(own))
    scale = max(scale, rule.min / min(own))
    return min(round(own[0] * scale), rule.max), min(round(own[1] * scale), rule.max)


def _misfits(size: Size, rule: SizeRule) -> Iterator[Violation]:
    for field, value in zip(("width", "height"), size, strict=True):
        if not rule.min <= value <= rule.max:
            yield Violation(field, f"must be {rule.min} to {rule.max} pixels")
        elif value % rule.factor and rule.policy == "refuse":
            yield Violation(field, f"must be a multiple of {rule.factor}, for example {rule.snap(value)}")


def _operation_violations(wanted: Wanted, manifest: Manifest) -> Iterator[Violation]:
    operation = wanted.operation
    if operation not in manifest.capabilities:
        yield Violation("operation", f"{manifest.id} can do {', '.join(manifest.capabilities)}")
        return
    given = wanted.image is not None
    needs = {
        "image": (given if operation in MAY_BEGIN else operation in STRENGTHS, given),
        "mask": (operation == "inpaint", wanted.mask is not None),
        "margins": (operation == "outpaint", bool(wanted.margins)),
    }
    for field, (needed, given) in needs.items():
        if needed != given:
            yield Violation(field, f"is needed to {operation}" if needed else f"leave it unset to {operation}")
    if min(vars(wanted.margins).values()) < 0:
        yield Violation("margins", "must be 0 pixels or more")
    yield from _strength_violations(wanted, manifest)
    yield from _upscale_violations(wanted, manifest)


def _strength_violations(wanted: Wanted, manifest: Manifest) -> Iterator[Violation]:
    if wanted.operation not in STRENGTHS or (wanted.operation in MAY_BEGIN and wanted.image is None):
        if wanted.strength is not None:
            without = " without an image" if wanted.operation in MAY_BEGIN else ""
            yield Violation("strength", f"leave it unset to {wanted.operation}{without}")
        return
    strength, steps = _strength(wanted, manifest), _steps(wanted, manifest)
    if not 0 < strength <= 1:
        yield Violation("strength", "must be above 0, at most 1")
    elif steps >= 1 and int(steps * strength) < 1:
        yield Violation("strength", f"{strength} of {steps} steps is no step; give more of either")


def _upscale_violations(wanted: Wanted, manifest: Manifest) -> Iterator[Violation]:
    if wanted.operation != "upscale":
        if wanted.upscale_factor is not None:
            yield Violation("upscale_factor", f"leave it unset to {wanted.operation}")
    elif wanted.upscale_factor is not None and not 2 <= wanted.upscale_factor <= manifest.max_upscale:
        yield Violation("upscale_factor", f"must be 2 to {manifest.max_upscale}")


def _violations(wanted: Wanted, manifest: Manifest) -> Iterator[Violation]:
    if not 1 <= wanted.count <= manifest.max_count:
        yield Violation("count", f"{manifest.id} draws at most {manifest.max_count} at once")
    if not 0 <= wanted.previews <= MAX_PREVIEWS:
        yield Violation("previews", f"must be 0 to {MAX_PREVIEWS}")
    yield from _adapter_violations(wanted, manifest)
    scheduler = wanted.scheduler or manifest.defaults.scheduler
    if scheduler not in manifest.schedulers:
        yield Violation("scheduler", f"must be one of {', '.join(manifest.schedulers)}")
        return
    most_steps = min(manifest.max_steps, SCHEDULERS[scheduler].max_steps)
    if wanted.steps is not None and not 1 <= wanted.steps <= most_steps:
        yield Violation("steps", f"must be 1 to {most_steps} with {manifest.id} and {scheduler}")


def _adapter_violations(wanted: Wanted, manifest: Manifest) -> Iterator[Violation]:
    if len(wanted.controls) > MAX_CONTROLS:
        yield Violation("controls", f"give at most {MAX_CONTROLS}")
    if wanted.operation == "control" and not wanted.controls:
        yield Violation("controls", "is needed to control")
    for number, control in enumerate(wanted.controls):
        if control.kind not in manifest.controls:
            yield Violation(f"controls[{number}].kind", f"must be one of {', '.join(manifest.controls) or 'none'}")
        if not 0 <= control.scale <= 2:
            yield Violation(f"controls[{number}].scale", "must be 0 to 2")


def _lora_violations(wanted: Wanted, manifest: Manifest, loras: Mapping[str, LoraSource]) -> Iterator[Violation]:
    names = [use.lora_id for use in wanted.loras]
    if names and manifest.takes_no_loras:
        yield Violation("loras", f"{manifest.id} {manifest.takes_no_loras}")
        return
    if len(names) > MAX_LORAS or len(set(names)) < len(names):
        yield Violation("loras", f"give at most {MAX_LORAS}, each once")
    usable = [name for name, source in loras.items() if not source.fault]
    choice = f"must be one of {', '.join(usable[:MOST_NAMES]) or 'none'}"
    for number, use in enumerate(wanted.loras):
        if use.lora_id not in usable:
            fault = loras[use.lora_id].fault if use.lora_id in loras else ""
            yield Violation(f"loras[{number}].lora_id", f"{use.lora_id} {fault}; {choice}" if fault else choice)
        if not -4 <= use.scale <= 4:
            yield Violation(f"loras[{number}].scale", "must be -4 to 4")
