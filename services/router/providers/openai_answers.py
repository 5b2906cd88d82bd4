"""Reading what OpenAI's images API and its likes answer: pictures, usage, and errors in every shape they have.

{"error": {"message", "type", "param", "code"}}                OpenAI, LocalAI, vLLM-Omni
{"error": {"code", "message", "innererror": {"code", …}}}      Azure, where its content filter spoke
{"detail": …}                                                  SGLang, vLLM-Omni
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from services.router.providers.answers import (
    broken,
    bytes_of,
    download,
    json_of,
    kind_of_status,
    picture_of,
    retry_after,
    short_code,
)
from services.router.providers.base import ProviderImage
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.http import HttpAnswer, HttpClient
from services.router.providers.rates import rate_hint

CODES: Mapping[str, ErrorKind] = {
    "moderation_blocked": ErrorKind.REFUSED,
    "content_policy_violation": ErrorKind.REFUSED,
    "contentFilter": ErrorKind.REFUSED,
    "content_filter": ErrorKind.REFUSED,
    "ResponsibleAIPolicyViolation": ErrorKind.REFUSED,
    "insufficient_quota": ErrorKind.QUOTA,
    "billing_hard_limit_reached": ErrorKind.QUOTA,
    "invalid_api_key": ErrorKind.AUTHENTICATION,
}
"""Error codes and types that say more than the status."""

LATE_TYPES: Mapping[str, ErrorKind] = {
    **CODES,
    "invalid_request_error": ErrorKind.BAD_REQUEST,
    "image_generation_user_error": ErrorKind.BAD_REQUEST,
    "authentication_error": ErrorKind.AUTHENTICATION,
    "rate_limit_exceeded": ErrorKind.RATE_LIMITED,
    "rate_limit_error": ErrorKind.RATE_LIMITED,
    "server_error": ErrorKind.OVERLOADED,
}
"""The same for errors within a stream or an answer with status 200, which have no status of their own."""

REQUEST_IDS = ("x-request-id", "apim-request-id", "x-ms-request-id")


def request_id_of(headers: Mapping[str, str]) -> str:
    """The vendor's id of a request; empty when the headers tell none."""
    return next((headers[name] for name in REQUEST_IDS if headers.get(name)), "")


def error_of(answer: HttpAnswer) -> ProviderError:
    """The error that an answer with another status than 200 is."""
    try:
        told = json.loads(answer.body)
    except ValueError:
        told = None
    codes = [*_codes(told.get("error") if isinstance(told, dict) else None)]
    kinds = (CODES[code] for code in codes if code in CODES)
    return ProviderError(
        next(kinds, kind_of_status(answer.status)),
        f"the provider answered {answer.status}{_shown(codes)}",
        retry_after=retry_after(answer.headers),
        provider_request_id=request_id_of(answer.headers),
        status=answer.status,
        rate=rate_hint(answer.headers),
    )


def late_error(error: object, headers: Mapping[str, str]) -> ProviderError:
    """The error that an answer told after its status 200; one that says nothing known cannot be asked again safely."""
    codes = [*_codes(error)]
    kinds = (LATE_TYPES[code] for code in codes if code in LATE_TYPES)
    return ProviderError(
        next(kinds, ErrorKind.BROKEN_ANSWER),
        f"the provider answered with an error{_shown(codes)}",
        provider_request_id=request_id_of(headers),
        rate=rate_hint(headers),
    )


def _codes(error: object) -> Iterator[str]:
    """What an error calls itself, the most telling first."""
    if not isinstance(error, dict):
        return
    inner = error.get("innererror") or error.get("inner_error")
    if isinstance(inner, dict) and (code := short_code(inner.get("code"))):
        yield code
    yield from filter(None, (short_code(error.get("code")), short_code(error.get("type"))))


def _shown(codes: list[str]) -> str:
    return f" ({codes[0]})" if codes else ""


async def read_document(answer: HttpAnswer) -> tuple[dict[str, Any], list[Any]]:
    """The answer, and what it holds of pictures.

    Raises:
        ProviderError: BROKEN_ANSWER; what the answer tells, where it is an error after all.
    """
    document = await json_of(answer.body)
    data = document.get("data")
    if isinstance(document.get("error"), dict) and not data:
        raise late_error(document["error"], answer.headers)
    if not isinstance(data, list) or not data:
        raise broken("the answer holds no picture")
    return document, data


async def image_of(entry: object, http: HttpClient, remaining: float) -> ProviderImage:
    """One picture of an answer; fetched within `remaining` seconds where there is only its address.

    Raises:
        ProviderError: BROKEN_ANSWER; REFUSED when the vendor filtered it out.
    """
    if not isinstance(entry, dict):
        raise broken("the answer holds no picture")
    encoded, url = entry.get("b64_json"), entry.get("url")
    if withheld(entry):
        raise ProviderError(ErrorKind.REFUSED, "the provider's content filter took the picture out")
    if encoded:
        data = await bytes_of(encoded)
    elif isinstance(url, str) and url.startswith(("http://", "https://")):
        data = await download(http, url, remaining)
    else:
        raise broken("the answer holds no picture")
    return picture_of(data, revised_prompt=entry.get("revised_prompt"))


def withheld(entry: object) -> bool:
    """Whether a picture of an answer was taken out by the vendor's filter."""
    if not isinstance(entry, dict) or entry.get("b64_json") or entry.get("url"):
        return False
    return _filtered(entry.get("content_filter_results"))


def _filtered(results: object) -> bool:
    """Azure's verdicts by category: whether one of them says `filtered`."""
    verdicts = results.values() if isinstance(results, dict) else ()
    return any(isinstance(verdict, dict) and verdict.get("filtered") is True for verdict in verdicts)


def counts_of(usage: object) -> dict[str, int]:
    """Tokens by kind: `input_tokens`, `output_tokens`, `total_tokens`, and those of the input by what they stand for
    (`input_text_tokens`, `input_image_tokens`), which have prices of their own."""
    if not isinstance(usage, dict):
        return {}
    counted = {name: value for name, value in usage.items() if _whole(value)}
    details = usage.get("input_tokens_details")
    if isinstance(details, dict):
        for kind in ("text_tokens", "image_tokens"):
            counted[f"input_{kind}"] = details[kind] if _whole(details.get(kind)) else 0
    return counted


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
