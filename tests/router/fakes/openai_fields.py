"""Which fields servers with OpenAI's images API take, by family and path; anything else they refuse.

Families are told by the beginning of the model's name; the empty one is every other server.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import BodyPartReader, web

from mesh.errors import MeshError
from mesh.imaging import open_image
from tests.router.fakes.vendor import (
    Check,
    Fields,
    a_picture,
    described,
    flag,
    like,
    list_of,
    number,
    one_of,
    text,
    whole,
    wrong_fields,
)

Checks = Mapping[str, Check]
GENERATE, EDIT, INPAINT, UPSCALE, FLUX = "generations", "edits", "inpainting", "upscale", "flux"

_COMMON: Checks = {
    "prompt": text(32_000),
    "model": text(200),
    "n": whole(1, 10),
    "size": like(r"auto|[1-9]\d{1,3}x[1-9]\d{1,3}"),
}
_RASTER = one_of("png", "jpeg", "webp")
_GPT_IMAGE: Checks = {
    **_COMMON,
    "quality": one_of("auto", "low", "medium", "high"),
    "background": one_of("auto", "opaque", "transparent"),
    "output_format": _RASTER,
    "output_compression": whole(0, 100),
    "stream": one_of(True),
    "partial_images": whole(0, 3),
}
_OPENAI: Checks = {**_GPT_IMAGE, "moderation": one_of("auto", "low"), "safety_identifier": text(64)}
_AZURE: Checks = {**_GPT_IMAGE, "user": text(64)}
_DIFFUSION: Checks = {
    **_COMMON,
    "response_format": one_of("b64_json", "url"),
    "negative_prompt": text(32_000),
    "seed": whole(0, 2**32 - 1),
    "num_inference_steps": whole(1, 200),
    "guidance_scale": number(0, 20),
    "output_format": _RASTER,
}
_COMPRESSED: Checks = {**_DIFFUSION, "output_compression": whole(0, 100), "true_cfg_scale": number(0, 20)}
_LOCALAI: Checks = {**_COMMON, "step": whole(1, 200), "response_format": one_of("b64_json", "url")}
INPUT_IMAGES = ("input_image", *(f"input_image_{number}" for number in range(2, 9)))
_FLUX_2: Checks = {
    "prompt": text(32_000),
    "model": one_of("FLUX.2-pro", "FLUX.2-flex"),
    "width": whole(64, 4096),
    "height": whole(64, 4096),
    "seed": whole(0, 2**32 - 1),
    "output_format": one_of("png", "jpeg"),
    **dict.fromkeys(INPUT_IMAGES, a_picture),
}
_FLUX_1: Checks = {**_COMMON, "output_format": one_of("png", "jpeg")}


def _edits(checks: Checks, images: str = "image", mask: str = "") -> Checks:
    return {**checks, images: _pictures, **({mask: a_picture} if mask else {})}


def _pictures(value: object) -> bool:
    return a_picture(value) or list_of(a_picture, 16)(value)


FAMILIES: Mapping[str, Mapping[str, Checks]] = {
    "gpt-image": {GENERATE: _OPENAI, EDIT: _edits(_OPENAI, "image[]", "mask")},
    "azure": {GENERATE: _AZURE, EDIT: _edits(_AZURE, "image[]", "mask")},
    "FLUX.1": {GENERATE: _FLUX_1, EDIT: _edits(_FLUX_1)},
    "FLUX.2": {FLUX: _FLUX_2},
    "sglang": {
        GENERATE: {**_COMPRESSED, "enable_teacache": flag},
        EDIT: _edits({**_COMPRESSED, "enable_teacache": flag}),
    },
    "omni": {
        GENERATE: {**_COMPRESSED, "flow_shift": number(0, 20)},
        EDIT: _edits({**_COMPRESSED, "flow_shift": number(0, 20), "strength": number(0, 1)}, mask="mask_image"),
    },
    "localai": {
        GENERATE: {**_LOCALAI, "file": a_picture, "ref_images": list_of(a_picture, 4)},
        INPAINT: {
            "model": text(200),
            "prompt": text(32_000),
            "steps": whole(1, 200),
            "image": a_picture,
            "mask": a_picture,
        },
        UPSCALE: {"model": text(200), "image": a_picture, "scale": one_of(2, 4)},
    },
    "": {GENERATE: _DIFFUSION, EDIT: _edits(_DIFFUSION)},
}
BASE64 = ("file", "ref_images")
"""Fields of a JSON body that hold pictures."""


@dataclass(frozen=True)
class Read:
    """One request, as the server read it."""

    fields: Fields
    """Pictures as `png 64x64`, texts of a form as what they stand for."""
    files: Mapping[str, bytes]
    """Pictures by the name of their field; the last one where there are several."""


def family_of(model: object) -> Mapping[str, Checks]:
    """The checks of a model's family."""
    return next(checks for name, checks in FAMILIES.items() if str(model).startswith(name))


async def read_json(request: web.Request, pictures: tuple[str, ...] = BASE64) -> Read:
    """A JSON body. Raises ValueError when it is none."""
    fields, files = await request.json(), dict[str, bytes]()
    for name in pictures:
        if isinstance(fields, dict) and name in fields:
            told = fields[name]
            fields[name] = (
                [_decoded(one, name, files) for one in told] if isinstance(told, list) else _decoded(told, name, files)
            )
    return Read(fields, files)


def _decoded(told: object, name: str, files: dict[str, bytes]) -> str:
    try:
        files[name] = base64.b64decode(str(told), validate=True)
        return described(files[name])
    except (binascii.Error, MeshError):
        return "no picture"


async def read_form(request: web.Request) -> Read:
    """A multipart form; a name that comes several times is a list."""
    fields, files = Fields(), dict[str, bytes]()
    async for part in await request.multipart():
        assert isinstance(part, BodyPartReader)
        name, data = str(part.name), bytes(await part.read())
        value: Any = _value(data.decode()) if not part.filename else described(data)
        if part.filename:
            files[name] = data
        fields[name] = value if name not in fields else [*_listed(fields[name]), value]
    return Read(fields, files)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _value(told: str) -> Any:
    """A form's text as the server reads it: whole number, number, truth or text."""
    for kind in (int, float):
        try:
            return kind(told)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(told, told)


def wrong(read: Read, path: str) -> list[str]:
    """What the real server would refuse."""
    if not isinstance(read.fields, dict):
        return ["body"]
    checks = family_of(read.fields.get("model")).get(path)
    if checks is None:
        return ["path"]
    needed = tuple(name for name in ("model", "prompt", "image", "image[]") if name in checks)
    return [*wrong_fields(read.fields, checks, needed), *_bad_mask(read)]


def _bad_mask(read: Read) -> list[str]:
    """OpenAI wants a PNG with transparency, of the first image's size."""
    if "image[]" not in read.fields or "mask" not in read.files:
        return []
    mask, _ = open_image(read.files["mask"])
    first = _listed(read.fields["image[]"])[0].split()[1]
    return [] if mask.hasalpha() and f"{mask.width}x{mask.height}" == first else ["mask"]
