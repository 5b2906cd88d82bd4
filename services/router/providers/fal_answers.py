"""How fal's answers read: where an order lies, which pictures came, and why none did.

Sources: docs.fal.ai errors and queue pages, collected 2026-11-20; a locked account: the vendor's issue tracker.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from services.router.providers.answers import broken, kind_of_status, retry_after, short_code
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.http import HttpAnswer
from services.router.providers.rates import rate_hint

ORDER = re.compile(r"([\w.-]+/)+requests/[\w-]{1,100}(/response)?")

TYPES: Mapping[str, ErrorKind] = {
    "content_policy_violation": ErrorKind.REFUSED,
    "no_media_generated": ErrorKind.BAD_REQUEST,
    "internal_server_error": ErrorKind.OVERLOADED,
    "downstream_service_error": ErrorKind.OVERLOADED,
    "downstream_service_unavailable": ErrorKind.OVERLOADED,
    "generation_timeout": ErrorKind.TIMEOUT,
    "request_timeout": ErrorKind.TIMEOUT,
    "startup_timeout": ErrorKind.TIMEOUT,
    "runner_disconnected": ErrorKind.OVERLOADED,
    "runner_connection_error": ErrorKind.OVERLOADED,
    "runner_server_error": ErrorKind.OVERLOADED,
}
"""Error types that say more than the status. What times out at the vendor is not billed, so a repeat is harmless."""
WITHHELD = frozenset({401, 403, 404, 408, 429})
"""Statuses of an output that say nothing about the drawing."""
LOCKED = re.compile(r"user is locked|exhausted balance", re.I)
"""How a 403 says that the account is empty."""


def error_of(answer: HttpAnswer, order_id: str = "") -> ProviderError:
    """The error that an answer of another status than 2xx is; with `order_id`, of an order that has ended."""
    said, text = _said(answer)
    kind = TYPES.get(said) or kind_of_status(answer.status)
    if answer.status == 403 and LOCKED.search(text):
        kind = ErrorKind.QUOTA
    if order_id and kind is ErrorKind.UNKNOWN_OUTCOME:
        kind = ErrorKind.OVERLOADED  # it has ended, and 5xx is not billed
    if order_id and answer.status in WITHHELD and said not in TYPES:
        kind = ErrorKind.BROKEN_ANSWER  # it has ended and is billed, and its output cannot be had
    shown = short_code(said)
    return ProviderError(
        kind,
        f"the provider answered {answer.status}" + (f" ({shown})" if shown else ""),
        retry_after=retry_after(answer.headers),
        provider_request_id=order_id or answer.headers.get("x-fal-request-id", ""),
        status=answer.status,
        rate=rate_hint(answer.headers),
    )


def refuse_failed(told: Mapping[str, Any], order_id: str) -> None:
    """A final status may be a failure all the same.

    Raises:
        ProviderError: it is.
    """
    if not (told.get("error") or told.get("error_type")):
        return
    said = short_code(told.get("error_type"))
    raise ProviderError(
        TYPES.get(said, ErrorKind.OVERLOADED),
        "the order failed" + (f" ({said})" if said else ""),
        provider_request_id=order_id,
    )


def refused_by(told: Mapping[str, Any], order_id: str) -> ProviderError | None:
    """The refusal that a final status tells of, whatever its output's own answer says; None: it tells of none."""
    if TYPES.get(str(told.get("error_type"))) is not ErrorKind.REFUSED:
        return None
    return ProviderError(ErrorKind.REFUSED, "the provider's filter refused", provider_request_id=order_id)


def order_id_of(told: Mapping[str, Any], base: str, model: str) -> str:
    """The order's path at the queue: as the answer's address has it, else of the endpoint's first two segments.

    Raises:
        ProviderError: BROKEN_ANSWER when the answer names no order.
    """
    request_id, address = told.get("request_id"), told.get("response_url")
    if isinstance(address, str) and urlsplit(address).netloc == urlsplit(base).netloc:
        path = urlsplit(address).path.removeprefix(urlsplit(base).path).strip("/")
        if ORDER.fullmatch(path):
            return path
    path = "/".join(model.split("/")[:2]) + f"/requests/{request_id}"
    if not isinstance(request_id, str) or not ORDER.fullmatch(path):
        raise broken("the answer names no order")
    return path


def images_of(output: Mapping[str, Any], order_id: str) -> list[str]:
    """The addresses of an output's pictures, empty for those that a filter blackened.

    Raises:
        ProviderError: REFUSED when the filter blackened all of them, BROKEN_ANSWER when there are none.
    """
    listed = output.get("images") or [output.get("image")]
    urls = [item.get("url") if isinstance(item, dict) else item for item in listed] if isinstance(listed, list) else []
    if not urls or not all(isinstance(url, str) and url.startswith(("http", "data:image/")) for url in urls):
        raise broken("the output holds no picture")
    flags = output.get("has_nsfw_concepts")
    blackened = flags if isinstance(flags, list) else []
    shown = ["" if blackened[place : place + 1] == [True] else str(url) for place, url in enumerate(urls)]
    if not any(shown):
        raise ProviderError(ErrorKind.REFUSED, "the provider's filter refused", provider_request_id=order_id)
    return shown


def _said(answer: HttpAnswer) -> tuple[str, str]:
    """The error's type, and all of its text."""
    text = answer.body[:4000].decode(errors="replace")
    try:
        told = json.loads(answer.body)
    except ValueError:
        told = {}
    told = told if isinstance(told, dict) else {}
    detail = told.get("detail")
    types = [one.get("type") for one in detail if isinstance(one, dict)] if isinstance(detail, list) else []
    refusals = (one for one in types if TYPES.get(str(one)) is ErrorKind.REFUSED)  # it may stand behind others
    said = (
        next(refusals, types[0] if types else None) or told.get("error_type") or answer.headers.get("x-fal-error-type")
    )
    return (said if isinstance(said, str) else ""), text
