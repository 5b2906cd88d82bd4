"""The options that say what to draw, shared by `generate` and `quote`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import click

from imagemesh.generation import Options

KEY = "imagemesh.wishes"
C = TypeVar("C")


class Size(click.ParamType[Any]):
    """`512x512`, or an aspect ratio such as `16:9`."""

    name = "WxH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Two numbers for a size, the text itself for an aspect ratio."""
        text = str(value).lower()
        separator = ":" if ":" in text else "x"
        width, found, height = text.partition(separator)
        if not found or not width.isdigit() or not height.isdigit():
            self.fail(f"{value!r} is no size; write 512x512, or 16:9 for a shape", param, ctx)
        return text if separator == ":" else (int(width), int(height))


class Picture(click.ParamType[Any]):
    """The bytes of a file; an https address or an asset's id stays text."""

    name = "FILE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Reads the file where there is one."""
        if isinstance(value, bytes) or not value or "://" in value or value.startswith("ast_"):
            return value
        try:
            return Path(value).read_bytes()
        except OSError as error:
            self.fail(f"{value} cannot be read: {error.strerror}", param, ctx)


class Guide(click.ParamType[Any]):
    """`edges=FILE`: the kind of a control and its picture."""

    name = "KIND=FILE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The kind, and the picture as `Picture` reads it."""
        kind, found, picture = str(value).partition("=")
        if not (kind and found and picture):
            self.fail(f"{value!r} is no guide; write edges=sketch.png", param, ctx)
        return kind, Picture().convert(picture, param, ctx)


class Style(click.ParamType[Any]):
    """`neon` or `neon=0.8`: a LoRA and how strongly it shows."""

    name = "LORA[=SCALE]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The id, and the scale, which is 1 where it is not said."""
        name, _, scale = str(value).partition("=")
        try:
            return name, float(scale or 1)
        except ValueError:
            self.fail(f"{value!r} is no LoRA; write neon or neon=0.8", param, ctx)


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    context.meta.setdefault(KEY, {})[parameter.name] = value
    return value


def _wish(*names: str, **settings: Any) -> Any:
    """An option that is read with `options_of` rather than handed to the command one by one."""
    return click.option(*names, expose_value=False, callback=_keep, **settings)


WISHES = (
    _wish("--model", default="", help="A model of the catalog. Default: auto."),
    _wish("--size", type=Size(), help="In pixels, or a shape such as 16:9. Default: the model's."),
    _wish("--count", type=int, default=0, help="How many pictures, 1 to 10. Default: 1."),
    _wish("--seed", type=click.IntRange(0, 2**32 - 1), help="The same seed draws the same picture."),
    _wish("--steps", type=int, help="Denoising steps. Default: the model's."),
    _wish("--guidance", type=float, help="How strongly the prompt is followed. Default: the model's."),
    _wish("--scheduler", default="", help="One that the model lists. Default: the model's."),
    _wish("--negative", default="", help="What the picture must not show."),
    _wish("--operation", default="", help="edit, inpaint, upscale, … Default: text to image, or edit with --image."),
    _wish("--image", type=Picture(), multiple=True, help="A source image: a file, an https address or an asset id."),
    _wish("--mask", type=Picture(), default="", help="White is changed; as large as the image."),
    _wish("--strength", type=float, help="How far to leave the image, 0 to 1."),
    _wish("--outpaint", type=int, nargs=4, default=None, metavar="LEFT TOP RIGHT BOTTOM", help="Pixels to add."),
    _wish("--control", type=Guide(), multiple=True, help="A guide of a kind that the model lists: edges=sketch.png."),
    _wish("--lora", type=Style(), multiple=True, help="A fine-tune that the model lists, laid over it: neon=0.8."),
    _wish("--factor", type=int, default=0, help="How many times larger upscale makes it. Default: the model's."),
    _wish("--model-version", default="", help="Pin a version of the model. Default: the catalog's."),
    _wish("--goal", type=click.Choice(["cheapest", "fastest", "best"]), help="Which of several goes first."),
    _wish("--needs", multiple=True, metavar="STRENGTH", help="What the model must have, such as text_rendering."),
    _wish("--allow", multiple=True, metavar="PROVIDER", help="Only these providers."),
    _wish("--deny", multiple=True, metavar="PROVIDER", help="Not these providers."),
    _wish("--may-drop", multiple=True, metavar="FIELD", help="What may be left out: seed, size, …"),
    _wish("--cache", type=click.Choice(["use", "bypass", "refresh"]), help="Default: use when a seed is given."),
    _wish("--max-cost", default="", metavar="AMOUNT", help="The most it may cost: 0.05 or '0.05 EUR'."),
    _wish("--timeout", type=click.FloatRange(min=1), metavar="SECONDS", help="Deadline of the job. Default: 600."),
)


def wishes(command: C) -> C:
    """Adds every option of WISHES."""
    for wish in reversed(WISHES):
        command = wish(command)
    return command


def options_of(context: click.Context) -> Options:
    """What the user asked for."""
    given = context.meta[KEY]
    size = given["size"]
    return Options(
        negative_prompt=given["negative"],
        model=given["model"],
        size=size if isinstance(size, tuple) else None,
        aspect_ratio=size if isinstance(size, str) else "",
        count=given["count"],
        seed=given["seed"],
        steps=given["steps"],
        guidance=given["guidance"],
        scheduler=given["scheduler"],
        operation=given["operation"],
        images=given["image"],
        mask=given["mask"],
        strength=given["strength"],
        outpaint=given["outpaint"],
        upscale_factor=given["factor"],
        controls=given["control"],
        loras=given["lora"],
        model_version=given["model_version"],
        goal=given["goal"] or "",
        strengths=given["needs"],
        allow=given["allow"],
        deny=given["deny"],
        may_drop=given["may_drop"],
        cache=given["cache"] or "",
        deadline=given["timeout"],
        max_cost=given["max_cost"],
    )
