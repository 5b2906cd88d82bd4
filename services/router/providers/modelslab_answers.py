"""How ModelsLab's answers read: errors come with 200 as well, and numbers as texts. Source: its error-codes page."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from typing import Any

from services.router.providers.answers import LONGEST_RETRY_AFTER, broken, kind_of_status, object_of, retry_after
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.http import HttpAnswer

Body = dict[str, Any]

SAYS: tuple[tuple[re.Pattern[str], ErrorKind], ...] = (
    (
        re.compile(r"nsfw|sensitive|prohibit|inappropriate|unsafe|content (policy|violat)|banned word", re.I),
        ErrorKind.REFUSED,
    ),
    (re.compile(r"credit|subscription|balance|payment", re.I), ErrorKind.QUOTA),
    (re.compile(r"invalid api key|unauthori|api key is", re.I), ErrorKind.AUTHENTICATION),
    (re.compile(r"rate limit|too many|limit exceeded|queue limit", re.I), ErrorKind.RATE_LIMITED),
    (re.compile(r"try again|server error|unavailable|out of memory", re.I), ErrorKind.OVERLOADED),
)
"""What a message means, whatever the status says. The first that fits counts."""
GONE = re.compile(r"not found|does not exist", re.I)


def error_of(answer: HttpAnswer, order_id: str = "") -> ProviderError:
    """The error that an answer is: by its message, else by its status. Messages may repeat the prompt and stay out."""
    told: Body = {}
    with contextlib.suppress(ProviderError):
        told = object_of(answer.body)
    if answer.status == 200 and told.get("status") not in ("error", "failed"):
        return broken("the answer cannot be read")
    wait = retry_after(answer.headers)
    if wait is None and (seconds := whole_of(told, "retry_after")) is not None:
        wait = min(float(seconds), LONGEST_RETRY_AFTER)
    return ProviderError(
        _kind(answer, told),
        f"the provider answered {answer.status}" + (", the order failed" if answer.status == 200 else ""),
        retry_after=wait,
        provider_request_id=order_id,
        status=answer.status,
    )


def _kind(answer: HttpAnswer, told: Body) -> ErrorKind:
    by_status = kind_of_status(answer.status)
    if answer.status == 200:
        by_status = ErrorKind.OVERLOADED if told.get("status") == "failed" else ErrorKind.BAD_REQUEST
    elif by_status is ErrorKind.UNKNOWN_OUTCOME:
        return by_status  # whatever a gateway writes, the order may be under way
    return next((kind for pattern, kind in SAYS if pattern.search(_message(told))), by_status)


def _message(told: Body) -> str:
    return str(told.get("message") or told.get("messege") or "")


def drawn(answer: HttpAnswer, order_id: str) -> Body | None:
    """A fetch that found the pictures; None while they are on their way.

    Raises:
        ProviderError: the order failed, or the vendor does not know it.
    """
    told = object_of(answer.body) if answer.status == 200 else {}
    state = told.get("status")
    if state == "processing":
        return None
    if state == "success":
        return told
    if answer.status != 200 or GONE.search(_message(told)):
        raise ProviderError(
            ErrorKind.UNKNOWN_OUTCOME,
            f"the provider answered {answer.status} when asked for the order",
            provider_request_id=order_id,
            status=answer.status,
        )
    raise error_of(answer, order_id)


def refused(order_id: str) -> ProviderError:
    """Its filter blackened the pictures."""
    return ProviderError(ErrorKind.REFUSED, "the provider's filter refused", provider_request_id=order_id)


def whole_of(told: object, name: str) -> int | None:
    """A whole number that comes as a number or as text."""
    value = told.get(name) if isinstance(told, Mapping) else None
    if isinstance(value, str) and re.fullmatch(r"\d{1,12}", value):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
