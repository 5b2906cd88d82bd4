"""What Google answers: pictures, refusals that come as success, and errors whose class is in their details.

Sources: the Vertex AI discovery document (revision 20261106) for reasons; google.rpc's ErrorInfo and RetryInfo.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from services.router.providers.answers import (
    LONGEST_RETRY_AFTER,
    bytes_of,
    kind_of_status,
    picture_of,
    retry_after,
    short_code,
)
from services.router.providers.base import ProviderCall, ProviderImage, ProviderResult
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.google_requests import label_of
from services.router.providers.http import HttpAnswer
from services.router.providers.rates import rate_hint

REFUSED = frozenset(
    {
        "SAFETY",
        "RECITATION",
        "BLOCKLIST",
        "PROHIBITED_CONTENT",
        "SPII",
        "MODEL_ARMOR",
        "IMAGE_SAFETY",
        "IMAGE_PROHIBITED_CONTENT",
        "IMAGE_RECITATION",
    }
)
"""Reasons to finish that are a filter's; the others (`NO_IMAGE`, `IMAGE_OTHER`, …) say only that nothing came."""
REASONS: Mapping[str, ErrorKind] = {
    "API_KEY_INVALID": ErrorKind.AUTHENTICATION,
    "API_KEY_EXPIRED": ErrorKind.AUTHENTICATION,
    "BILLING_DISABLED": ErrorKind.QUOTA,
    "RATE_LIMIT_EXCEEDED": ErrorKind.RATE_LIMITED,
}
"""Classes by ErrorInfo's reason, whatever the status."""
STATES: Mapping[str, ErrorKind] = {
    "FAILED_PRECONDITION": ErrorKind.AUTHENTICATION,
    "RESOURCE_EXHAUSTED": ErrorKind.RATE_LIMITED,
    "UNAUTHENTICATED": ErrorKind.AUTHENTICATION,
    "PERMISSION_DENIED": ErrorKind.AUTHENTICATION,
}
"""Classes by the error's own status. The first is how accounts without billing, or in other countries, are told."""
TEXTS: tuple[tuple[str, ErrorKind], ...] = (
    ("User location is not supported", ErrorKind.AUTHENTICATION),
    ("Responsible AI practices", ErrorKind.REFUSED),
)
"""Classes by what the message of a 400 holds, where nothing else tells them; the second is Imagen's."""


def error_of(answer: HttpAnswer) -> ProviderError:
    """The error that an answer with another status than 200 is."""
    told = _error_in(answer.body)
    details = [detail for detail in told.get("details") or () if isinstance(detail, dict)]
    reason = next((short_code(detail["reason"]) for detail in details if "reason" in detail), "")
    state = short_code(told.get("status"))
    kind = REASONS.get(reason) or _by_text(answer.status, told) or STATES.get(state) or kind_of_status(answer.status)
    named = reason or state
    return ProviderError(
        kind,
        f"the provider answered {answer.status}" + (f" ({named})" if named else ""),
        retry_after=retry_after(answer.headers) or next(_delays(details), None),
        rate=rate_hint(answer.headers),
        status=answer.status,
    )


def _error_in(body: bytes) -> Mapping[str, Any]:
    try:
        told = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return {}
    return told if isinstance(told, dict) else {}


def _by_text(status: int, told: Mapping[str, Any]) -> ErrorKind | None:
    message = str(told.get("message"))
    return next((kind for text, kind in TEXTS if status == 400 and text in message), None)


def _delays(details: list[dict[str, Any]]) -> Iterator[float]:
    for detail in details:
        match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)s", str(detail.get("retryDelay")))
        if match is not None:
            yield min(float(match[1]), LONGEST_RETRY_AFTER)


async def generated(told: Mapping[str, Any], call: ProviderCall) -> ProviderResult:
    """The picture of a `generateContent` answer.

    Raises:
        ProviderError: REFUSED when a filter stopped it; BROKEN_ANSWER when it holds no picture.
    """
    request_id = str(told.get("responseId") or "")
    blocked = _object(told.get("promptFeedback")).get("blockReason")
    if blocked and blocked != "BLOCKED_REASON_UNSPECIFIED":
        raise _ended(ErrorKind.REFUSED, f"the prompt was blocked ({short_code(blocked)})", request_id)
    candidate = next(iter(_each(told.get("candidates"))), {})
    finish = short_code(candidate.get("finishReason"))
    if finish in REFUSED:
        raise _ended(ErrorKind.REFUSED, f"the picture was blocked ({finish})", request_id)
    for part in _each(_object(candidate.get("content")).get("parts")):
        inline = _object(part.get("inlineData"))
        if inline and not part.get("thought"):  # a thought's picture is a draft
            image = await _picture(inline.get("data"), call.seed)
            usage = usage_of(_object(told.get("usageMetadata")))
            return ProviderResult(
                (image,), request_id, str(told.get("modelVersion") or call.model_version), usage=usage
            )
    raise _ended(ErrorKind.BROKEN_ANSWER, f"the answer holds no picture ({finish or 'no reason told'})", request_id)


def usage_of(told: Mapping[str, Any]) -> dict[str, int]:
    """Tokens as prices name them: `input_tokens`, `output_image_tokens`, and `output_text_tokens`, thoughts included.

    Empty where the answer does not tell all of them, so that nothing is priced by a part.
    """
    kinds = {str(kind.get("modality")): kind.get("tokenCount") for kind in _each(told.get("candidatesTokensDetails"))}
    prompt, candidates = told.get("promptTokenCount"), told.get("candidatesTokenCount")
    image, thoughts = kinds.get("IMAGE"), told.get("thoughtsTokenCount", 0)
    if not (isinstance(prompt, int) and isinstance(candidates, int)):
        return {}
    if not (isinstance(image, int) and isinstance(thoughts, int)):
        return {}
    text = max(candidates - image, 0) + thoughts
    return {"input_tokens": prompt, "output_image_tokens": image, "output_text_tokens": text}


async def predicted(told: Mapping[str, Any], call: ProviderCall) -> ProviderResult:
    """The pictures of a `predict` answer, which may be fewer than were asked for. Its id is the label it was sent with.

    Raises:
        ProviderError: REFUSED when all were filtered; BROKEN_ANSWER when it holds none.
    """
    predictions = _each(told.get("predictions"))
    filtered = any(one.get("raiFilteredReason") for one in predictions)
    drawn = [one for one in predictions if "bytesBase64Encoded" in one][: call.count]
    if not drawn:
        kind = ErrorKind.REFUSED if filtered else ErrorKind.BROKEN_ANSWER
        raise ProviderError(kind, "its filter took every picture" if filtered else "the answer holds no picture")
    images = [await _picture(one["bytesBase64Encoded"], None, _revised(one, call)) for one in drawn]
    version = str(told.get("modelVersionId") or call.model_version)
    places = tuple(range(len(images))) if filtered else None  # no seeds there, so whichever came are the first
    return ProviderResult(tuple(images), label_of(call.attempt_id), version, places=places)


def _revised(one: Mapping[str, Any], call: ProviderCall) -> str:
    prompt = one.get("prompt")
    return prompt if isinstance(prompt, str) and prompt != call.prompt else ""


async def _picture(data: object, seed: int | None, revised: str = "") -> ProviderImage:
    return picture_of(await bytes_of(data), seed, revised)


def _ended(kind: ErrorKind, message: str, request_id: str) -> ProviderError:
    return ProviderError(kind, message, provider_request_id=request_id)


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _each(value: object) -> list[dict[str, Any]]:
    """The objects of a list; nothing where there is none."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
