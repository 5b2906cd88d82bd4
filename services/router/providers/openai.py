"""Any server that speaks OpenAI's images API: OpenAI itself, and SGLang, vLLM-Omni, LocalAI and the like.

The families differ in what they take; that is the table `openai_dialects.DIALECTS`, chosen by the account. Servers may
answer with base64 or with addresses; both come home as bytes. Where a family streams, unfinished pictures are asked for
by the option `partial_images` or the account's setting of that name.

Settings: `organization`, `project` (OpenAI's headers), `partial_images` (0 to 3), `stream_idle_s` (seconds without a
byte after which a stream counts as broken off; 300).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from services.router.providers.answers import json_of, kept_places, ordering
from services.router.providers.base import (
    Account,
    Capabilities,
    Listener,
    Provider,
    ProviderCall,
    ProviderResult,
)
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.http import HttpAnswer, HttpClient, HttpRequest, Part
from services.router.providers.openai_answers import (
    counts_of,
    error_of,
    image_of,
    read_document,
    request_id_of,
    withheld,
)
from services.router.providers.openai_dialects import DIALECTS, PARTIAL_IMAGES, Ask, Carry, Dialect
from services.router.providers.openai_requests import Shaped, encoded, files, form_text, shaped
from services.router.providers.openai_stream import Watched, completed
from services.router.providers.rates import rate_hint
from services.router.providers.retouch import trimmed

DEFAULT_DIALECT = "compatible"
STREAM_IDLE = 300.0
"""Seconds; a large picture in the best quality is silent for minutes before its first part."""
CHECK_TIMEOUT = 15.0
NAMED_MODELS = 5


def capabilities(variant: str) -> Capabilities:
    """What servers of a dialect can do; previews come only to accounts that ask for them.

    Raises:
        KeyError: there is no such dialect.
    """
    return DIALECTS[variant or DEFAULT_DIALECT].capabilities


class Tokens(Protocol):
    """Tokens that end, instead of a key."""

    async def bearer(self) -> str:
        """A token that is valid for some time. Raises ProviderError; nothing is ordered then."""

    def forget(self) -> None:
        """It was refused."""


@dataclass(frozen=True)
class Surface:
    """Where a server is and how it knows us."""

    address: Callable[[str, str], str]
    """The URL of a path (`images/edits`) for a model."""
    headers: Callable[[str], Mapping[str, str]]
    """Headers of a request with this client's id."""
    names_model: bool = True
    """Whether the body says which model; otherwise the address does."""
    tokens: Tokens | None = None
    """Fetched for each request; None: the headers carry what is needed."""


def own_surface(account: Account) -> Surface:
    """Paths below the base address, and a bearer key where there is one."""
    settings = {"organization": "OpenAI-Organization", "project": "OpenAI-Project"}
    fixed = {header: account.settings[name] for name, header in settings.items() if account.settings.get(name)}
    if key := account.api_key.get_secret_value():
        fixed["Authorization"] = f"Bearer {key}"
    base = account.base_url.rstrip("/")
    return Surface(
        address=lambda path, _model: f"{base}/{path}",
        headers=lambda client_id: {**fixed, "X-Client-Request-Id": client_id},
    )


class OpenAIImages(Provider):
    """The adapter."""

    def __init__(
        self, account: Account, http: HttpClient, dialect: Dialect | None = None, surface: Surface | None = None
    ) -> None:
        """`account.variant` is a key of `DIALECTS`, `compatible` when empty, unless dialect and surface are given."""
        self.name = account.provider
        self._dialect = dialect or DIALECTS[account.variant or DEFAULT_DIALECT]
        self._surface = surface or own_surface(account)
        self._http = http
        self._partial_images = int(account.settings.get(PARTIAL_IMAGES, "0")) if self._dialect.streams else 0
        shows = self._partial_images > 0
        self._able = replace(self._dialect.capabilities, previews=shows, progress=shows)
        self._idle = float(account.settings.get("stream_idle_s", STREAM_IDLE))

    @property
    def capabilities(self) -> Capabilities:
        """Those of the account's dialect; previews where the account asks for them."""
        return self._able

    async def submit(self, call: ProviderCall, listener: Listener) -> ProviderResult:
        """POST, wait, bring the bytes home."""
        ends = asyncio.get_running_loop().time() + call.timeout
        ask = self._dialect.asks.get(call.operation)
        if ask is None:
            raise ProviderError(ErrorKind.BAD_REQUEST, f"{self.name} does not do {call.operation}")
        order = await shaped(call, self._dialect.draws)
        call = order.call
        partial = self._partial(call)
        request = await self._request(ask, call, partial)
        request = replace(request, timeout=max(ends - asyncio.get_running_loop().time(), 0.0))
        call.before_sending()
        with ordering(), self._noting_refusals():
            if partial:
                return await self._streamed(request, order, Watched(listener, partial), ends)
            return await self._read(await self._http.send(request), order, ends)

    async def check(self) -> str:
        """How many models the server lists, and some of them."""
        url, headers = self._surface.address("models", ""), await self._headers("check")
        with ordering():
            answer = await self._http.send(HttpRequest("GET", url, CHECK_TIMEOUT, headers))
        if answer.status != 200:
            raise error_of(answer)
        listed = (await json_of(answer.body)).get("data")
        names = [str(entry.get("id")) for entry in listed or () if isinstance(entry, dict)]
        more = ", …" if len(names) > NAMED_MODELS else ""
        return f"{len(names)} models: {', '.join(names[:NAMED_MODELS])}{more}"

    async def _headers(self, client_id: str) -> dict[str, str]:
        headers = dict(self._surface.headers(client_id))
        if self._surface.tokens is not None:
            headers["Authorization"] = f"Bearer {await self._surface.tokens.bearer()}"
        return headers

    @contextlib.contextmanager
    def _noting_refusals(self) -> Iterator[None]:
        """A token that the vendor refuses is not used again."""
        try:
            yield
        except ProviderError as error:
            if error.kind is ErrorKind.AUTHENTICATION and self._surface.tokens is not None:
                self._surface.tokens.forget()
            raise

    def _partial(self, call: ProviderCall) -> int:
        """Unfinished pictures to ask for; none with several pictures, whose parts a stream does not tell apart."""
        if not self._dialect.streams or call.count != 1:
            return 0
        wanted = call.options.get(PARTIAL_IMAGES, self._partial_images)
        return int(wanted) if isinstance(wanted, int | float) else 0

    async def _request(self, ask: Ask, call: ProviderCall, partial: int) -> HttpRequest:
        fields = self._fields(ask, call, partial)
        url, headers = self._surface.address(ask.path, call.model), await self._headers(call.attempt_id)
        if ask.images and ask.carry is Carry.FORM:
            form = (*(Part(name, form_text(value)) for name, value in fields.items()), *await files(ask, call))
            return HttpRequest("POST", url, call.timeout, headers, form=form, idle=self._idle if partial else None)
        fields |= await encoded(ask, call)
        headers["Content-Type"] = "application/json"
        body = json.dumps(fields).encode()
        return HttpRequest("POST", url, call.timeout, headers, body, idle=self._idle if partial else None)

    def _fields(self, ask: Ask, call: ProviderCall, partial: int) -> dict[str, Any]:
        if call.width and not {"size", "width"} & ask.fields.keys():
            raise ProviderError(ErrorKind.BAD_REQUEST, f"{self.name} takes no size for {call.operation}")
        fields = {name: value for name, of in ask.fields.items() if (value := of(call)) not in (None, "")}
        if not self._surface.names_model:
            fields.pop("model", None)
        fields |= {name: value for name, value in call.options.items() if name != PARTIAL_IMAGES}
        return fields | ({"stream": True, PARTIAL_IMAGES: partial} if partial else {})

    async def _read(self, answer: HttpAnswer, order: Shaped, ends: float) -> ProviderResult:
        if answer.status != 200:
            raise error_of(answer)
        document, data = await read_document(answer)
        return await self._result(document, data[: order.call.count], answer.headers, order, ends)

    async def _result(
        self, document: Mapping[str, Any], data: list[Any], headers: Mapping[str, str], order: Shaped, ends: float
    ) -> ProviderResult:
        loop = asyncio.get_running_loop()
        shown = [entry for entry in data if not withheld(entry)] or data[:1]
        images = [await image_of(entry, self._http, ends - loop.time()) for entry in shown]
        if order.drawn != order.wanted:
            images = [replace(image, data=await trimmed(image.data, order.drawn, order.wanted)) for image in images]
        return ProviderResult(
            images=tuple(images),
            provider_request_id=request_id_of(headers) or str(document.get("id") or ""),
            model_version=order.call.model_version,
            usage=counts_of(document.get("usage")),
            rate=rate_hint(headers),
            places=kept_places(not withheld(entry) for entry in data),
        )

    async def _streamed(self, request: HttpRequest, order: Shaped, watched: Watched, ends: float) -> ProviderResult:
        async with self._http.stream(request) as answer:
            if answer.status != 200 or "text/event-stream" not in answer.headers.get("Content-Type", ""):
                body = b"".join([part async for part in answer.parts])
                return await self._read(HttpAnswer(answer.status, answer.headers, body), order, ends)
            told = await completed(answer, watched)
            return await self._result(told, [told], answer.headers, order, ends)
