"""What Firefly answers: where an order stands, and errors whose class is a code in the body.

Both spellings of every field and state are read, because the versions of the API differ. Which statuses carry the
policy's codes is documented for some services only, so the code decides wherever it is. Source: the vendor's API
description of 2026-05-27.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from services.router.providers.answers import broken, kind_of_status, object_of, retry_after, short_code
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.http import HttpAnswer
from services.router.providers.rates import rate_hint

REFUSALS = frozenset({"prompt_entity_denied", "reference_image_unsafe_error", "legal_error"})
"""Codes of its policy, besides all that end in `_unsafe`."""
CODES: Mapping[str, ErrorKind] = {
    "validation_error": ErrorKind.BAD_REQUEST,
    "bad_request": ErrorKind.BAD_REQUEST,
    "empty_input_body": ErrorKind.BAD_REQUEST,
    "invalid_content_type": ErrorKind.BAD_REQUEST,
    "cai_assertion_violation_error": ErrorKind.BAD_REQUEST,
    "access_error": ErrorKind.AUTHENTICATION,
    "rate_limited": ErrorKind.RATE_LIMITED,
    "timeout_error": ErrorKind.TIMEOUT,
}
"""Classes of a failed job by its code; any other one is a failure on the vendor's side."""
ENDED: Mapping[str, ErrorKind] = {
    "failed": ErrorKind.OVERLOADED,
    "timeout": ErrorKind.TIMEOUT,
    "canceled": ErrorKind.BROKEN_ANSWER,
    "cancelled": ErrorKind.BROKEN_ANSWER,
}
"""States of jobs that give nothing. What was called off may have begun and be billed."""
UNSERVED = {501: ErrorKind.BAD_REQUEST}


def refuses(code: str) -> bool:
    """Whether an error's code is one of the vendor's policy."""
    return code in REFUSALS or code.endswith("_unsafe")


def error_of(answer: HttpAnswer, *, orders: bool = True) -> ProviderError:
    """The error that an answer is. orders: whether a lost outcome matters; it does not where nothing was ordered."""
    code = short_code(_told(answer.body).get("error_code"))
    kind = UNSERVED.get(answer.status) or kind_of_status(answer.status)
    if answer.status == 451 or refuses(code):
        kind = ErrorKind.REFUSED
    elif answer.status == 403 and answer.headers.get("x-access-error") == "quota_exhausted":
        kind = ErrorKind.QUOTA
    elif kind is ErrorKind.UNKNOWN_OUTCOME and not orders:
        kind = ErrorKind.OVERLOADED
    named = short_code(answer.headers.get("x-access-error")) or code
    return ProviderError(
        kind,
        f"the provider answered {answer.status}" + (f" ({named})" if named else ""),
        retry_after=retry_after(answer.headers),
        rate=rate_hint(answer.headers),
        status=answer.status,
    )


def order_of(told: Mapping[str, Any]) -> tuple[str, str]:
    """The id of an accepted order, and the address it is polled at.

    Raises:
        ProviderError: BROKEN_ANSWER when there is neither.
    """
    links = told.get("links")
    linked = links.get("result") if isinstance(links, dict) else None
    address = told.get("statusUrl") or (linked.get("href") if isinstance(linked, dict) else None) or ""
    order_id = told.get("jobId") or unquote(urlsplit(str(address)).path.rpartition("/")[2])
    if not isinstance(order_id, str) or not order_id or "@" in order_id or not isinstance(address, str):
        raise broken("the answer names no order")
    return order_id, address


def finished(answer: HttpAnswer, order_id: str) -> dict[str, Any] | None:
    """The result of a job, as a poll answers; None while it is on its way.

    Raises:
        ProviderError: what became of a job that gives nothing.
    """
    if answer.status != 200:
        error = error_of(answer)
        lost = ErrorKind.REFUSED if error.kind is ErrorKind.REFUSED else ErrorKind.UNKNOWN_OUTCOME
        raise ProviderError(lost, error.message, provider_request_id=order_id, status=answer.status)
    told = object_of(answer.body)
    state, code = str(told.get("status")).lower(), short_code(told.get("error_code"))
    if state in ENDED:
        kind = ErrorKind.REFUSED if refuses(code) else CODES.get(code, ENDED[state])
        message = f"the provider says {state}" + (f" ({code})" if code else "")
        raise ProviderError(kind, message, provider_request_id=order_id)
    result = told.get("result")
    if state == "succeeded" and not isinstance(result, dict):
        raise broken("the answer holds no picture")
    return result if state == "succeeded" else None


def outputs_of(result: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """The addresses of a job's pictures, and their seeds."""
    outputs = result.get("outputs")
    for output in outputs if isinstance(outputs, list) else []:
        if isinstance(output, dict):
            image = output.get("image")
            url = output.get("presignedUrl") or (image.get("url") if isinstance(image, dict) else None)
            if isinstance(url, str):
                yield url, output.get("seed")


def _told(body: bytes) -> dict[str, Any]:
    try:
        told = json.loads(body)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
