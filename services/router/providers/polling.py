"""Waiting for a vendor that draws asynchronously: ask again and again until it is done, whatever happens on the way.

A poll harms nobody, so transport failures, 429 and 5xx are asked again until the time is over. Then the outcome is
unknown: the vendor has the order and may still draw it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from services.router.providers.answers import retry_after
from services.router.providers.base import Listener
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.http import AnswerTooLargeError, HttpAnswer, HttpClient, HttpError, HttpRequest

T = TypeVar("T")

ASK_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""Statuses of a poll that say nothing about the order."""
LONGEST_POLL = 30.0
"""Seconds that one poll may take."""
JITTER = 0.2
"""Share by which pauses vary, so that many orders do not poll in step."""


@dataclass(frozen=True)
class Pace:
    """How often to ask. Pauses grow by half each time, up to the longest."""

    first: float = 0.5
    longest: float = 2.0


@dataclass(frozen=True)
class Order:
    """An accepted order to wait for."""

    provider_request_id: str
    ask: Callable[[float], HttpRequest]
    """The request that asks how it stands, given the seconds it may take."""
    pace: Pace = Pace()
    ask_again: frozenset[int] = ASK_AGAIN
    """Statuses that `read` does not get to see."""


async def poll(
    http: HttpClient,
    order: Order,
    read: Callable[[HttpAnswer], T | None],
    timeout: float,
    listener: Listener,
) -> T:
    """What `read` makes of the first answer that is final; None from it means that the order is still on its way.

    `read` raises the ProviderError that a failed order is. A vendor's call back (`Listener.woken`) cuts a pause short.

    Raises:
        ProviderError: from `read`; UNKNOWN_OUTCOME when no final answer came within `timeout` seconds.
    """
    loop = asyncio.get_running_loop()
    ends = loop.time() + timeout
    pause = order.pace.first
    while (left := ends - loop.time()) > 0:
        answer = await _ask(http, order.ask(min(left, LONGEST_POLL)))
        asked_to_wait = None
        if answer is not None and answer.status not in order.ask_again:
            result = read(answer)
            if result is not None:
                return result
        elif answer is not None:
            asked_to_wait = retry_after(answer.headers)
        wait = max(pause * random.uniform(1 - JITTER, 1 + JITTER), asked_to_wait or 0.0)
        await _pause(min(wait, max(ends - loop.time(), 0.0)), listener.woken)
        pause = min(pause * 1.5, order.pace.longest)
    raise ProviderError(
        ErrorKind.UNKNOWN_OUTCOME,
        "the provider did not finish in time",
        provider_request_id=order.provider_request_id,
    )


async def _ask(http: HttpClient, request: HttpRequest) -> HttpAnswer | None:
    try:
        return await http.send(request)
    except AnswerTooLargeError as error:
        raise ProviderError(ErrorKind.BROKEN_ANSWER, str(error)) from error
    except HttpError:
        return None


async def _pause(seconds: float, woken: Callable[[], Awaitable[None]]) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await woken()
