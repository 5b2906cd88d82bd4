"""What a drawing begins from: the caller's image, and where it may change, laid out for each operation."""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np
from PIL import Image

from services.inference.engine.errors import RequestRefused, Violation
from services.inference.engine.images import BadImage, decoded
from services.inference.engine.request import DrawRequest

SEAM = 8  # pixels of the old picture along its new margins that are drawn anew, so that no edge remains


@dataclass(frozen=True)
class Canvas:
    """The image at the start, any size (it is fitted to the request's), and the mask: white where it may change."""

    image: Image.Image
    mask: Image.Image | None = None


def canvas_of(request: DrawRequest) -> Canvas | None:
    """The canvas of a request; None when it begins from noise. RequestRefused for an image that cannot be read."""
    if request.image is None:
        return None
    image = picture("image", request.image)
    if request.operation == "outpaint":
        return _framed(image, request)
    return Canvas(image, None if request.mask is None else picture("mask", request.mask, "L"))


def picture(field: str, data: bytes, mode: str = "RGB") -> Image.Image:
    """The decoded image of a field; RequestRefused names the field."""
    try:
        return decoded(data, mode)
    except BadImage as error:
        raise RequestRefused([Violation(field, str(error))]) from error


def _framed(image: Image.Image, request: DrawRequest) -> Canvas:
    """The image between its margins, which begin as its edges, stretched: a start without seams.

    Where the size was snapped, the right and the lower side lose some pixels.
    """
    margins, size = request.margins, (request.width, request.height)
    box = (margins.left, margins.top, margins.left + image.width, margins.top + image.height)
    edges = np.pad(
        np.asarray(image), ((margins.top, margins.bottom), (margins.left, margins.right), (0, 0)), mode="edge"
    )
    canvas = Image.fromarray(edges).crop((0, 0, *size))
    left, top, right, bottom = (SEAM if margin else 0 for margin in astuple(margins))
    kept = (box[0] + left, box[1] + top, box[2] - right, box[3] - bottom)
    mask = Image.new("L", size, 255)
    if kept[0] < kept[2] and kept[1] < kept[3]:
        mask.paste(0, kept)
    return Canvas(canvas, mask)
