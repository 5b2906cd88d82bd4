"""Reading vendors' HTTP answers: what every adapter over HTTP needs besides its own fields and codes."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from services.router.providers.base import ProviderImage
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.http import AnswerTooLargeError, BrokenOffError, HttpClient, HttpRequest, NotSentError
from services.router.providers.media import media_type_of

THREAD_BYTES = 256 * 1024
"""Answers above this are parsed in a thread, so that the loop goes on."""
DOWNLOAD_TRIES = 3
DOWNLOAD_PAUSE = 0.2
LONGEST_RETRY_AFTER = 3600.0
NO_HEADERS: Mapping[str, str] = {}

STATUSES: Mapping[int, ErrorKind] = {
    400: ErrorKind.BAD_REQUEST,
    401: ErrorKind.AUTHENTICATION,
    402: ErrorKind.QUOTA,
    403: ErrorKind.AUTHENTICATION,
    404: ErrorKind.BAD_REQUEST,
    408: ErrorKind.UNKNOWN_OUTCOME,
    425: ErrorKind.OVERLOADED,
    429: ErrorKind.RATE_LIMITED,
    451: ErrorKind.REFUSED,
    500: ErrorKind.OVERLOADED,
    502: ErrorKind.UNKNOWN_OUTCOME,
    503: ErrorKind.OVERLOADED,
    504: ErrorKind.UNKNOWN_OUTCOME,
    529: ErrorKind.OVERLOADED,
}
"""What a status means on a POST that orders pictures, where the body says nothing else."""


def kind_of_status(status: int) -> ErrorKind:
    """The class of a status; an unlisted 4xx is a bad request, any other unlisted one an unknown outcome."""
    if status in STATUSES:
        return STATUSES[status]
    return ErrorKind.BAD_REQUEST if 400 <= status < 500 else ErrorKind.UNKNOWN_OUTCOME


@contextlib.contextmanager
def ordering() -> Iterator[None]:
    """Around a POST that orders pictures: reads the failures of HTTP as a provider's."""
    try:
        yield
    except NotSentError as error:
        raise ProviderError(ErrorKind.UNREACHABLE, str(error)) from error
    except BrokenOffError as error:
        raise ProviderError(ErrorKind.UNKNOWN_OUTCOME, str(error)) from error
    except AnswerTooLargeError as error:
        raise broken(str(error)) from error


@contextlib.contextmanager
def asking() -> Iterator[None]:
    """Around a request that orders nothing (an upload, a token, a question): breaking off harms nobody."""
    try:
        yield
    except NotSentError as error:
        raise ProviderError(ErrorKind.UNREACHABLE, str(error)) from error
    except BrokenOffError as error:
        raise ProviderError(ErrorKind.OVERLOADED, str(error)) from error
    except AnswerTooLargeError as error:
        raise broken(str(error)) from error


@contextlib.contextmanager
def preparing() -> Iterator[None]:
    """Around what goes before an order (uploads): nothing is ordered yet, so nothing is unknown or charged."""
    try:
        with asking():
            yield
    except ProviderError as error:
        if error.kind not in (ErrorKind.UNKNOWN_OUTCOME, ErrorKind.BROKEN_ANSWER):
            raise
        message = f"before the order: {error.message}"
        raise ProviderError(
            ErrorKind.OVERLOADED, message, retry_after=error.retry_after, status=error.status
        ) from error


def broken(message: str) -> ProviderError:
    """An answer that cannot be used."""
    return ProviderError(ErrorKind.BROKEN_ANSWER, message)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds the vendor asks us to wait, at most an hour; None when it does not say. It may name a date (RFC 9110)."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        told = headers.get(name, "")
        if re.fullmatch(r"-?\d{1,15}(\.\d{1,9})?", told):
            return _patience(float(told) * unit)
    with contextlib.suppress(ValueError):
        return _patience(parsedate_to_datetime(headers.get("retry-after", "")).timestamp() - time.time())
    return None


def _patience(seconds: float) -> float:
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER)


async def download(http: HttpClient, url: str, remaining: float, headers: Mapping[str, str] = NO_HEADERS) -> bytes:
    """Fetch a result from the vendor's address, within `remaining` seconds; repeating that is always safe.

    `headers` may hold a key only where the address is the vendor's own.

    Raises:
        ProviderError: BROKEN_ANSWER when the address does not give it.
    """
    request = HttpRequest("GET", url, max(remaining / DOWNLOAD_TRIES, 1.0), headers)
    for tried in range(DOWNLOAD_TRIES):
        if tried:
            await asyncio.sleep(DOWNLOAD_PAUSE * tried)
        try:
            answer = await http.send(request)
        except (NotSentError, BrokenOffError):
            continue
        except AnswerTooLargeError as error:
            raise broken(str(error)) from error
        if answer.status == 200:
            return answer.body
        if answer.status < 500:
            break
    raise broken("the picture's address did not give it")


async def fetched(http: HttpClient, url: str, remaining: float, headers: Mapping[str, str] = NO_HEADERS) -> bytes:
    """What a result's address stands for: `download`, or the content of a data URL."""
    if url.startswith("data:"):
        return await bytes_of(url.partition(";base64,")[2])
    return await download(http, url, remaining, headers)


def object_of(body: bytes) -> dict[str, Any]:
    """The JSON object that a small body is.

    Raises:
        ProviderError: BROKEN_ANSWER when it is none.
    """
    try:
        read = json.loads(body)
    except ValueError as error:
        raise broken("the answer is not JSON") from error
    if not isinstance(read, dict):
        raise broken("the answer is no JSON object")
    return read


async def json_of(body: bytes) -> dict[str, Any]:
    """`object_of`, off the loop where there is much of it."""
    return object_of(body) if len(body) <= THREAD_BYTES else await asyncio.to_thread(object_of, body)


async def bytes_of(text: object) -> bytes:
    """What base64 text stands for.

    Raises:
        ProviderError: BROKEN_ANSWER when it is none.
    """
    if not isinstance(text, str):
        raise broken("the answer holds no picture")
    try:
        if len(text) <= THREAD_BYTES:
            return base64.b64decode(text, validate=True)
        return await asyncio.to_thread(base64.b64decode, text, validate=True)
    except ValueError as error:
        raise broken("the answer's base64 cannot be read") from error


def kept_places(came: Iterable[object]) -> tuple[int, ...] | None:
    """`ProviderResult.places` of pictures, false where a filter kept one back; None where it kept none."""
    told = [bool(picture) for picture in came]
    return None if all(told) else tuple(place for place, here in enumerate(told) if here)


def picture_of(data: bytes, seed: object = None, revised_prompt: object = "") -> ProviderImage:
    """A picture as it came; what is no whole number or text is left out.

    Raises:
        ProviderError: BROKEN_ANSWER when the bytes are no picture.
    """
    media_type = media_type_of(data)
    if not media_type:
        raise broken("what came is not a picture")
    told = seed if isinstance(seed, int) and not isinstance(seed, bool) else None
    return ProviderImage(data, media_type, told, revised_prompt if isinstance(revised_prompt, str) else "")


def short_code(value: object) -> str:
    """A vendor's error code if it is one (up to 64 printable characters, no spaces), so that it may be shown."""
    fits = isinstance(value, str) and len(value) <= 64 and value.isascii() and value.isprintable() and " " not in value
    return str(value) if fits else ""
