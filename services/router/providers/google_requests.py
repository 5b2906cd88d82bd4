"""What Google is asked: `generateContent` for Gemini's picture models, `predict` for Imagen.

Sources: the Vertex AI discovery document (revision 20261106), google-genai 3.3.0. That the white of an Imagen mask is
what changes was not confirmed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from services.router.providers.base import InputImage, ProviderCall
from services.router.providers.fitting import refuse_other_size
from services.router.providers.google_models import OPTION_NAMES, shape_of
from services.router.providers.retouch import base64_text, padded

Body = dict[str, Any]

LABEL = "imagemesh-attempt"
"""The label under which Vertex AI's billing shows an attempt."""
EDIT_MODES: Mapping[str, str] = {"INPAINT": "EDIT_MODE_INPAINT_INSERTION", "OUTPAINT": "EDIT_MODE_OUTPAINT"}


def label_of(attempt_id: str) -> str:
    """An attempt's id as labels may be: lower case letters, digits, `_` and `-`, at most 63."""
    return re.sub(r"[^a-z0-9_-]", "-", attempt_id.lower())[:63]


async def generate_body(call: ProviderCall) -> Body:
    """The body of Gemini's `generateContent`.

    Raises:
        ProviderError: BAD_REQUEST when the model draws no such size.
    """
    ratio, level = shape_of(call)
    pictures = [{"inlineData": await _inline(image)} for image in call.images]
    asked = _told(aspectRatio=ratio, imageSize=level, imageOutputOptions=_output(call))
    seed = call.seed if call.seed is None or call.seed < 2**31 else call.seed - 2**32  # their seeds are signed
    config = _told(responseModalities=["IMAGE"], seed=seed, imageConfig=asked, **_options(call))
    return {"contents": [{"role": "user", "parts": [{"text": call.prompt}, *pictures]}], "generationConfig": config}


async def labeled_body(call: ProviderCall) -> Body:
    """The same for Vertex AI, which takes labels."""
    return {**await generate_body(call), "labels": {LABEL: label_of(call.attempt_id)}}


async def predict_body(call: ProviderCall) -> Body:
    """The body of Imagen's `predict`.

    Raises:
        ProviderError: BAD_REQUEST when the model draws no such size.
    """
    parameters = _told(sampleCount=call.count, includeRaiReason=True, outputOptions=_output(call), **_options(call))
    if call.operation == "UPSCALE":
        instance = {"prompt": call.prompt, "image": await _bytes(call.images[0])}
        parameters |= {"mode": "upscale", "upscaleConfig": {"upscaleFactor": f"x{call.upscale_factor or 2}"}}
    else:
        parameters |= _told(negativePrompt=call.negative_prompt, guidanceScale=call.guidance)
        instance = {"prompt": call.prompt, **await _references(call)}
        if mode := EDIT_MODES.get(call.operation):
            parameters["editMode"] = mode
        else:
            ratio, level = shape_of(call)
            parameters |= _told(aspectRatio=ratio, sampleImageSize=level)
    return {"instances": [instance], "parameters": parameters, "labels": {LABEL: label_of(call.attempt_id)}}


async def _references(call: ProviderCall) -> Body:
    if not call.images:
        return {}
    await refuse_other_size(call)
    image, mask = call.images[0], call.mask
    if call.operation == "OUTPAINT":
        image, mask = await padded(image, call.margins)
    references: list[Body] = [
        {"referenceType": "REFERENCE_TYPE_RAW", "referenceId": 1, "referenceImage": await _bytes(image)}
    ]
    if mask is not None:
        references.append(
            {
                "referenceType": "REFERENCE_TYPE_MASK",
                "referenceId": 2,
                "referenceImage": await _bytes(mask),
                "maskImageConfig": {"maskMode": "MASK_MODE_USER_PROVIDED"},
            }
        )
    return {"referenceImages": references}


def _output(call: ProviderCall) -> Body | None:
    if not call.output_format:
        return None
    quality = call.compression if call.output_format == "jpeg" else 0
    return _told(mimeType=f"image/{call.output_format}", compressionQuality=quality or None)


def _options(call: ProviderCall) -> Body:
    return {OPTION_NAMES.get(name, name): value for name, value in call.options.items()}


async def _inline(image: InputImage) -> Body:
    return {"mimeType": image.media_type, "data": await base64_text(image.data)}


async def _bytes(image: InputImage) -> Body:
    return {"bytesBase64Encoded": await base64_text(image.data), "mimeType": image.media_type}


def _told(**fields: Any) -> Body:
    """What is asked for; the rest is left out."""
    return {name: value for name, value in fields.items() if value not in (None, "", {})}
