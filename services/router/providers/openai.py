"""Any server that speaks OpenAI's images API: OpenAI itself, and SGLang, vLLM-Omni, LocalAI and the like.

The families differ in which fields they take; that is the table `DIALECTS`, chosen by the account. Servers may answer
with base64 or with addresses; both come home as bytes.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from services.router.providers.answers import broken, download, kind_of_status, ordering, retry_after
from services.router.providers.base import (
    Account,
    Capabilities,
    Listener,
    Provider,
    ProviderCall,
    ProviderImage,
    ProviderResult,
)
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.http import HttpAnswer, HttpClient, HttpRequest
from services.router.providers.media import media_type_of

THREAD_BYTES = 256 * 1024
"""Answers above this are parsed in a thread, so that the loop goes on."""

Field = Callable[[ProviderCall], Any]


@dataclass(frozen=True)
class Dialect:
    """How one family of servers wants to be asked."""

    fields: Mapping[str, Field]
    """Body fields by name; a field that gives None or "" is left out."""
    capabilities: Capabilities


def _size(call: ProviderCall) -> str:
    return f"{call.width}x{call.height}" if call.width else ""


def _user(call: ProviderCall) -> str:
    return call.user[:64]


_COMMON: Mapping[str, Field] = {
    "model": lambda call: call.model,
    "prompt": lambda call: call.prompt,
    "n": lambda call: call.count,
    "size": _size,
}
_TEXT_TO_IMAGE = frozenset({"TEXT_TO_IMAGE"})

DIALECTS: Mapping[str, Dialect] = {
    "gpt-image": Dialect(
        {
            **_COMMON,
            "quality": lambda call: call.quality,
            "output_format": lambda call: call.output_format,
            "output_compression": lambda call: call.compression or None,
            "background": lambda call: "transparent" if call.transparent_background else "",
            "safety_identifier": _user,
        },
        Capabilities(
            _TEXT_TO_IMAGE,
            max_count=10,
            transparent_background=True,
            quality=True,
            formats=frozenset({"png", "jpeg", "webp"}),
        ),
    ),
    "dall-e": Dialect(
        {
            **_COMMON,
            "quality": lambda call: call.quality,
            "style": lambda call: call.style,
            "response_format": lambda _: "b64_json",
            "user": _user,
        },
        Capabilities(_TEXT_TO_IMAGE, max_count=1, quality=True),
    ),
    "compatible": Dialect(
        {
            **_COMMON,
            "response_format": lambda _: "b64_json",
            "seed": lambda call: call.seed,
            "num_inference_steps": lambda call: call.steps,
            "guidance_scale": lambda call: call.guidance,
            "negative_prompt": lambda call: call.negative_prompt,
            "output_format": lambda call: call.output_format,
        },
        Capabilities(
            _TEXT_TO_IMAGE,
            max_count=10,
            seed=True,
            steps=True,
            guidance=True,
            negative_prompt=True,
            formats=frozenset({"png", "jpeg", "webp"}),
        ),
    ),
}
"""Families by name. GPT image models take no `response_format` and no seed; only OpenAI knows `safety_identifier`."""

DEFAULT_DIALECT = "compatible"


def capabilities(variant: str) -> Capabilities:
    """What servers of a dialect can do.

    Raises:
        KeyError: there is no such dialect.
    """
    return DIALECTS[variant or DEFAULT_DIALECT].capabilities


CODES: Mapping[str, ErrorKind] = {
    "moderation_blocked": ErrorKind.REFUSED,
    "content_policy_violation": ErrorKind.REFUSED,
    "contentFilter": ErrorKind.REFUSED,
    "content_filter": ErrorKind.REFUSED,
    "insufficient_quota": ErrorKind.QUOTA,
    "billing_hard_limit_reached": ErrorKind.QUOTA,
    "invalid_api_key": ErrorKind.AUTHENTICATION,
}
"""Error codes that say more than the status."""


class OpenAIImages(Provider):
    """The adapter."""

    def __init__(self, account: Account, http: HttpClient) -> None:
        """`account.variant` is a key of `DIALECTS`, `compatible` when empty."""
        self.name = account.provider
        self._account = account
        self._dialect = DIALECTS[account.variant or DEFAULT_DIALECT]
        self._http = http

    @property
    def capabilities(self) -> Capabilities:
        """Those of the account's dialect."""
        return self._dialect.capabilities

    async def submit(self, call: ProviderCall, listener: Listener) -> ProviderResult:
        """POST, wait, bring the bytes home."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + call.timeout
        with ordering():
            answer = await self._http.send(self._request(call))
        request_id = answer.headers.get("x-request-id", "")
        if answer.status != 200:
            raise error_of(answer)
        parsed = await _parse_off_loop(answer.body, call)
        images = [await self._image(item, ends - loop.time()) for item in parsed.items]
        return ProviderResult(
            images=tuple(images),
            provider_request_id=request_id or parsed.id,
            model_version=call.model_version,
            usage=parsed.usage,
        )

    def _request(self, call: ProviderCall) -> HttpRequest:
        body = {name: value for name, of in self._dialect.fields.items() if (value := of(call)) not in (None, "")}
        body.update(call.options)
        headers = {"Content-Type": "application/json", "X-Client-Request-Id": call.attempt_id}
        if key := self._account.api_key.get_secret_value():
            headers["Authorization"] = f"Bearer {key}"
        url = f"{self._account.base_url.rstrip('/')}/images/generations"
        return HttpRequest("POST", url, call.timeout, headers, json.dumps(body).encode())

    async def _image(self, item: _Item, remaining: float) -> ProviderImage:
        data = item.data or await download(self._http, item.url, remaining)
        media_type = media_type_of(data)
        if not media_type:
            raise broken("what came is not a picture")
        return ProviderImage(data, media_type, revised_prompt=item.revised_prompt)


def error_of(answer: HttpAnswer) -> ProviderError:
    """The error that an answer with another status than 200 is."""
    code, kind_text = _error_code(answer.body)
    kind = CODES.get(code) or CODES.get(kind_text) or kind_of_status(answer.status)
    said = f" ({code})" if code else ""
    return ProviderError(
        kind,
        f"the provider answered {answer.status}{said}",
        retry_after=retry_after(answer.headers),
        provider_request_id=answer.headers.get("x-request-id", ""),
        status=answer.status,
    )


def _error_code(body: bytes) -> tuple[str, str]:
    try:
        error = json.loads(body)["error"]
        return _short(error.get("code")), _short(error.get("type"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return "", ""


def _short(value: object) -> str:
    return value if isinstance(value, str) and len(value) <= 64 and value.isascii() and value.isprintable() else ""


@dataclass(frozen=True)
class _Item:
    data: bytes
    url: str
    revised_prompt: str


@dataclass(frozen=True)
class _Parsed:
    items: tuple[_Item, ...]
    id: str
    usage: Mapping[str, int]


def _parse(body: bytes, call: ProviderCall) -> _Parsed:
    try:
        answer = json.loads(body)
        data = answer["data"]
        items = tuple(_item(entry) for entry in data[: call.count])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise broken(f"the answer cannot be read ({type(error).__name__})") from error
    if not items:
        raise broken("the answer holds no picture")
    usage = answer.get("usage") or {}
    return _Parsed(items, str(answer.get("id") or ""), _counts(usage) if isinstance(usage, dict) else {})


def _item(entry: Mapping[str, Any]) -> _Item:
    encoded, url = entry.get("b64_json"), entry.get("url")
    revised = entry.get("revised_prompt")
    data = base64.b64decode(encoded, validate=True) if encoded else b""
    if not data and not (isinstance(url, str) and url.startswith(("http://", "https://"))):
        raise KeyError("b64_json")
    return _Item(data, url or "", revised if isinstance(revised, str) else "")


def _counts(usage: Mapping[str, Any]) -> dict[str, int]:
    return {name: value for name, value in usage.items() if isinstance(value, int)}


async def _parse_off_loop(body: bytes, call: ProviderCall) -> _Parsed:
    if len(body) <= THREAD_BYTES:
        return _parse(body, call)
    return await asyncio.to_thread(_parse, body, call)
