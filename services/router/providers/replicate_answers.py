"""How Replicate's answers read: what became of a prediction, and where its pictures are.

Source: the vendor's OpenAPI description and docs; the words of refusals: its models' pages and errors, 2026-11-20.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from services.router.providers.answers import kind_of_status, object_of, retry_after
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.http import HttpAnswer
from services.router.providers.rates import rate_hint

REFUSAL = re.compile(
    r"nsfw|flagged|\(E005\)|content (polic|moderat|violat|filter)|safety (filter|system)|moderated|prohibited content",
    re.I,
)
"""What a failed prediction's error says when a filter refused; the vendor has no code for it."""
BAR = re.compile(r"\b(\d{1,4})/(\d{1,4}) \[")
LOG_TAIL = 2000
"""Characters of the logs that are looked at."""
RESETS = re.compile(r"resets in ~?(\d+)s")


STATES: Mapping[str, ErrorKind] = {
    "failed": ErrorKind.OVERLOADED,
    "canceled": ErrorKind.BROKEN_ANSWER,
    "aborted": ErrorKind.OVERLOADED,
}
"""Final states besides `succeeded`. What was canceled had begun and is billed; what was aborted had not."""
UNBILLED = frozenset({"failed", "aborted"})
"""Final states of predictions that cost nothing."""


def error_of(answer: HttpAnswer) -> ProviderError:
    """The error that an answer of another status than 2xx is. Its texts may repeat the prompt and stay out."""
    wait = retry_after(answer.headers)
    if wait is None and (told := RESETS.search(answer.body[:1000].decode(errors="replace"))):
        wait = float(told[1])
    return ProviderError(
        kind_of_status(answer.status),
        f"the provider answered {answer.status}",
        retry_after=wait,
        status=answer.status,
        rate=rate_hint(answer.headers),
    )


def final(answer: HttpAnswer, request_id: str, progress: Callable[[int, int], None]) -> dict[str, Any] | None:
    """The prediction when it has succeeded; None while it is on its way, and `progress` hears how far it is."""
    if answer.status != 200:
        raise ProviderError(
            ErrorKind.UNKNOWN_OUTCOME,
            f"the provider answered {answer.status} when asked for the prediction",
            provider_request_id=request_id,
            status=answer.status,
        )
    told = object_of(answer.body)
    state = str(told.get("status"))
    if state == "succeeded":
        return told
    if state not in STATES:
        if drawn := steps_of(told.get("logs")):
            progress(*drawn)
        return None
    refused = state == "failed" and REFUSAL.search(str(told.get("error")))
    kind = ErrorKind.REFUSED if refused else STATES[state]
    raise ProviderError(kind, f"the prediction was {state}", provider_request_id=request_id)


def steps_of(logs: object) -> tuple[int, int] | None:
    """Step and steps, as the last progress bar (`3/12 [00:01`) in a prediction's logs has them; many models log one."""
    bars = BAR.findall(logs[-LOG_TAIL:]) if isinstance(logs, str) else []
    step, steps = (int(number) for number in bars[-1]) if bars else (0, 0)
    return (step, steps) if 0 < step <= steps else None


def filtered(logs: object) -> bool:
    """Whether a model says that its filter dropped pictures of an output; nobody says reliably which."""
    return isinstance(logs, str) and "nsfw content detected" in logs[-LOG_TAIL:].lower()


def addresses(output: object) -> Iterator[str]:
    """Every address in an output, which is a text, a list or an object as the model likes."""
    if isinstance(output, str) and output.startswith(("http://", "https://", "data:image/")):
        yield output
    elif isinstance(output, list):
        for item in output:
            yield from addresses(item)
    elif isinstance(output, dict):
        for item in output.values():
            yield from addresses(item)


def usage_of(metrics: object) -> Mapping[str, int]:
    """Seconds of work, where the prediction tells them."""
    seconds = metrics.get("predict_time") if isinstance(metrics, dict) else None
    return {"milliseconds": math.ceil(seconds * 1000)} if isinstance(seconds, int | float) else {}
