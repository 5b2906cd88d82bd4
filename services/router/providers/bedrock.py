"""Amazon Bedrock: Stability's services under Amazon's names, as JSON, signed with SigV4 or with a Bedrock API key.

Secrets: `account.api_key` alone is a Bedrock API key; with the secret `access_key_id` it is that key's secret, and
`session_token` goes with temporary ones. `account.region` says where. botocore signs; the request goes out over the
shared client. Sources: AWS' description of the service; bodies and answers as collected 2026-11-20.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from services.router.providers.answers import (
    THREAD_BYTES,
    asking,
    broken,
    bytes_of,
    json_of,
    kind_of_status,
    object_of,
    ordering,
    picture_of,
    retry_after,
    short_code,
)
from services.router.providers.base import Account, Capabilities, Listener, Provider, ProviderCall, ProviderResult
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.fitting import union
from services.router.providers.http import HttpAnswer, HttpClient, HttpRequest
from services.router.providers.retouch import base64_text
from services.router.providers.stability_fields import Filled, Service, filled
from services.router.providers.stability_services import SERVICES

REGION = "us-west-2"
"""Where most of these models are, for accounts that name no region."""
RUNTIME = "https://bedrock-runtime.{region}.amazonaws.com"
CONTROL = "https://bedrock.{region}.amazonaws.com"
CHECK_TIMEOUT = 15.0
JSON = "application/json"

MODEL = re.compile(r"(?:[a-z]{2,6}\.)?stability\.(?P<name>[a-z0-9.-]+)-v\d+:\d+")
"""A model's id, or an inference profile's with its region in front."""
MODELS: Mapping[str, str] = {
    "sd3-5-large": "sd3.5-large",
    "stable-image-core": "core",
    "stable-image-ultra": "ultra",
    "stable-image-inpaint": "inpaint",
    "stable-image-erase-object": "erase",
    "stable-image-remove-background": "remove-background",
    "stable-image-search-recolor": "search-and-recolor",
    "stable-image-search-replace": "search-and-replace",
    "stable-image-control-sketch": "sketch",
    "stable-image-control-structure": "structure",
    "stable-image-style-guide": "style",
    "stable-outpaint": "outpaint",
    "stable-style-transfer": "style-transfer",
    "stable-fast-upscale": "fast",
    "stable-conservative-upscale": "conservative",
    "stable-creative-upscale": "creative",
}
"""Stability's names by Amazon's."""

TYPES: Mapping[str, ErrorKind] = {
    "AccessDeniedException": ErrorKind.AUTHENTICATION,
    "UnrecognizedClientException": ErrorKind.AUTHENTICATION,
    "ExpiredTokenException": ErrorKind.AUTHENTICATION,
    "InvalidSignatureException": ErrorKind.AUTHENTICATION,
    "ResourceNotFoundException": ErrorKind.BAD_REQUEST,
    "ValidationException": ErrorKind.BAD_REQUEST,
    "ServiceQuotaExceededException": ErrorKind.QUOTA,
    "ThrottlingException": ErrorKind.RATE_LIMITED,
    "ModelNotReadyException": ErrorKind.OVERLOADED,
    "ModelTimeoutException": ErrorKind.UNKNOWN_OUTCOME,
    "ModelErrorException": ErrorKind.OVERLOADED,
    "InternalServerException": ErrorKind.OVERLOADED,
    "ServiceUnavailableException": ErrorKind.OVERLOADED,
}
"""By the type that `x-amzn-errortype` names."""
FILTER_WORDS = ("content filter", "content policy", "blocked by")
"""A ValidationException that says this is a refusal; the vendor documents no type of its own for that."""
NOT_FILTERED = "Inference error"
"""The one finish reason that is a failure and no filter's."""


def capabilities(variant: str) -> Capabilities:
    """What the services that Amazon offers can do.

    Raises:
        KeyError: there are no variants.
    """
    return {"": union(SERVICES[name].capabilities for name in MODELS.values())}[variant]


class Bedrock(Provider):
    """The adapter."""

    def __init__(self, account: Account, http: HttpClient) -> None:
        """`account.base_url` replaces Amazon's own addresses, for tests and private endpoints."""
        self.name = account.provider
        self._account = account
        self._region = account.region or REGION
        self._http = http
        self._able = capabilities(account.variant)

    @property
    def capabilities(self) -> Capabilities:
        """Those of Stability's services there."""
        return self._able

    async def submit(self, call: ProviderCall, listener: Listener) -> ProviderResult:
        """POST, wait, decode."""
        fields = await filled(service_of(call.model), call)
        request = await self._request(f"/model/{call.model}/invoke", call.timeout, await _body(fields))
        call.before_sending()
        with ordering():
            answer = await self._http.send(request)
        request_id = answer.headers.get("x-amzn-requestid", "")
        if answer.status != 200:
            raise error_of(answer)
        told = await json_of(answer.body)
        if (reason := _first(told.get("finish_reasons"))) is not None:
            kind = ErrorKind.OVERLOADED if reason == NOT_FILTERED else ErrorKind.REFUSED
            raise ProviderError(kind, "the provider drew no picture", provider_request_id=request_id)
        image = picture_of(await bytes_of(_first(told.get("images"))), _first(told.get("seeds")))
        return ProviderResult((image,), request_id, call.model_version)

    async def check(self) -> str:
        """How many models that draw the account sees in its region."""
        base = self._account.base_url or CONTROL.format(region=self._region)
        request = self._signed("GET", f"{base}/foundation-models?byOutputModality=IMAGE", CHECK_TIMEOUT, None)
        with asking():
            answer = await self._http.send(request)
        if answer.status != 200:
            raise error_of(answer)
        listed = object_of(answer.body).get("modelSummaries")
        if not isinstance(listed, list):
            raise broken("the answer lists no models")
        return f"{len(listed)} image models in {self._region}"

    async def _request(self, path: str, timeout: float, body: dict[str, Any]) -> HttpRequest:
        base = (self._account.base_url or RUNTIME.format(region=self._region)).rstrip("/")

        def work() -> HttpRequest:
            return self._signed("POST", f"{base}{path}", timeout, json.dumps(body).encode())

        large = sum(len(value) for value in body.values() if isinstance(value, str)) > THREAD_BYTES
        return await asyncio.to_thread(work) if large else work()

    def _signed(self, method: str, url: str, timeout: float, body: bytes | None) -> HttpRequest:
        headers = {"Accept": JSON} if body is None else {"Accept": JSON, "Content-Type": JSON}
        key = self._account.api_key.get_secret_value()
        access_key_id = self._account.secret("access_key_id")
        if not access_key_id:
            return HttpRequest(method, url, timeout, headers | {"Authorization": f"Bearer {key}"}, body)
        request = AWSRequest(method=method, url=url, data=body or b"", headers=headers)
        credentials = Credentials(access_key_id, key, self._account.secret("session_token") or None)
        SigV4Auth(credentials, "bedrock", self._region).add_auth(request)
        return HttpRequest(method, url, timeout, dict(request.headers.items()), body)


def service_of(model: str) -> Service:
    """Stability's service behind Amazon's model id.

    Raises:
        ProviderError: BAD_REQUEST when there is none.
    """
    found = MODEL.fullmatch(model)
    if found is None or found["name"] not in MODELS:
        raise ProviderError(ErrorKind.BAD_REQUEST, f"how to ask {model} is not known")
    return SERVICES[MODELS[found["name"]]]


def error_of(answer: HttpAnswer) -> ProviderError:
    """The error that an answer with another status than 200 is."""
    error_type, message = _error(answer)
    kind = TYPES.get(error_type) or kind_of_status(answer.status)
    if error_type == "ValidationException" and any(words in message.lower() for words in FILTER_WORDS):
        kind = ErrorKind.REFUSED
    return ProviderError(
        kind,
        f"the provider answered {answer.status}" + (f" ({error_type})" if error_type else ""),
        retry_after=retry_after(answer.headers),
        provider_request_id=answer.headers.get("x-amzn-requestid", ""),
        status=answer.status,
    )


def _error(answer: HttpAnswer) -> tuple[str, str]:
    """Type and text; the header may go on with `:` and an address, the body's `__type` begin with a name and `#`."""
    try:
        body = object_of(answer.body)
    except ProviderError:
        body = {}
    named = answer.headers.get("x-amzn-errortype") or str(body.get("__type") or "")
    return short_code(named.split(":")[0].rpartition("#")[2]), str(body.get("message") or body.get("Message") or "")


async def _body(fields: Filled) -> dict[str, Any]:
    pictures = {name: await base64_text(picture.data) for name, picture in fields.pictures.items()}
    return {**fields.texts, **pictures}


def _first(values: object) -> object:
    return values[0] if isinstance(values, list) and values else None
