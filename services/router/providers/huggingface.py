"""Hugging Face: the tasks text-to-image and image-to-image, at the shared router or at an endpoint of one's own.

Variant `hf-inference` (default) asks the router for a model of the Hub by its id; variant `endpoint` posts to the
account's endpoint itself, which serves one model at one revision. Answers are the picture's bytes: no order's id, no
seed, no cost, no verdict of a filter. A model that is being loaded answers 503 and says for how long.

Settings: `bill_to`, the organisation that pays; `mask`, the parameter in which an endpoint's own handler takes a mask
in base64, white = change (the tasks have none); `hub`, another address of the Hub. Image-to-image has no seed: the one
that the mesh draws is left out. Sources: the tasks' schemas and huggingface_hub 2.4.0, collected 2026-11-20.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from services.router.providers.answers import (
    LONGEST_RETRY_AFTER,
    asking,
    broken,
    json_of,
    kind_of_status,
    ordering,
    picture_of,
    retry_after,
)
from services.router.providers.base import Account, Capabilities, Listener, Provider, ProviderCall, ProviderResult
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.fitting import refuse_unfit
from services.router.providers.http import HttpAnswer, HttpClient, HttpRequest
from services.router.providers.rates import rate_hint
from services.router.providers.retouch import base64_text

ROUTER = "https://router.huggingface.co"
HUB = "https://huggingface.co"
SHORT_TIMEOUT = 15.0
PNG = "image/png"

_TEXT = Capabilities(
    frozenset({"TEXT_TO_IMAGE"}),
    max_count=1,
    seed=True,
    negative_prompt=True,
    steps=True,
    guidance=True,
    scheduler=True,
)
_IMAGE = replace(_TEXT, operations=frozenset({"IMAGE_TO_IMAGE", "EDIT"}), scheduler=False, max_images=1)
_BOTH = replace(_TEXT, operations=_TEXT.operations | _IMAGE.operations, max_images=1)

VARIANTS: Mapping[str, Capabilities] = {
    "": _BOTH,
    "hf-inference": _BOTH,
    "endpoint": replace(_BOTH, operations=_BOTH.operations | {"INPAINT"}),
}


def capabilities(variant: str) -> Capabilities:
    """What a surface can do.

    Raises:
        KeyError: there is no such variant.
    """
    return VARIANTS[variant]


class HuggingFace(Provider):
    """The adapter."""

    def __init__(self, account: Account, http: HttpClient) -> None:
        """`account.base_url`: the router's, the vendor's when empty; with `endpoint` the endpoint's own address.

        Raises:
            ValueError: an endpoint without address.
        """
        if account.variant == "endpoint" and not account.base_url:
            raise ValueError("an endpoint of one's own needs its address")
        self.name = account.provider
        self._account = account
        self._base = (account.base_url or ROUTER).rstrip("/")
        self._http = http

    @property
    def capabilities(self) -> Capabilities:
        """Those of the account's surface."""
        return capabilities(self._account.variant)

    async def submit(self, call: ProviderCall, listener: Listener) -> ProviderResult:
        """POST; the answer is the picture."""
        body = await self._body(call)
        call.before_sending()
        headers = {**self._headers(), "Content-Type": "application/json", "Accept": PNG}
        with ordering():
            answer = await self._http.send(
                HttpRequest("POST", self._url(call), call.timeout, headers, json.dumps(body).encode())
            )
        if answer.status != 200:
            raise error_of(answer)
        if not answer.headers.get("content-type", "").startswith("image/"):
            raise broken("the answer holds no picture")
        return ProviderResult(
            (picture_of(answer.body),),
            provider_request_id=_request_id(answer),
            model_version=call.model_version,
            usage=_usage(answer),
        )

    async def check(self) -> str:
        """Whose token it is."""
        url = f"{self._account.settings.get('hub', HUB).rstrip('/')}/api/whoami-v2"
        with asking():
            answer = await self._http.send(HttpRequest("GET", url, SHORT_TIMEOUT, self._headers()))
        if answer.status != 200:
            raise error_of(answer)
        return f"token of {(await json_of(answer.body)).get('name')}"

    def _url(self, call: ProviderCall) -> str:
        return self._base if self._account.variant == "endpoint" else f"{self._base}/hf-inference/models/{call.model}"

    async def _body(self, call: ProviderCall) -> dict[str, Any]:
        tuned: dict[str, Any] = {
            "negative_prompt": call.negative_prompt,
            "guidance_scale": call.guidance,
            "num_inference_steps": call.steps,
        }
        if call.images:
            refuse_unfit(call, replace(_IMAGE, operations=self.capabilities.operations))
            size = {"width": call.width, "height": call.height} if call.width else None
            tuned.update(prompt=call.prompt, target_size=size, **await self._mask(call))
            inputs = await base64_text(call.images[0].data)
        else:
            refuse_unfit(call, _TEXT)
            tuned.update(width=call.width or None, height=call.height or None, scheduler=call.scheduler, seed=call.seed)
            inputs = call.prompt
        return {
            "inputs": inputs,
            "parameters": {name: value for name, value in tuned.items() if value not in (None, "")},
        }

    async def _mask(self, call: ProviderCall) -> dict[str, str]:
        if call.mask is None:
            return {}
        parameter = self._account.settings.get("mask", "")
        if not parameter:
            raise ProviderError(ErrorKind.BAD_REQUEST, "the account does not say how the endpoint takes a mask")
        return {parameter: await base64_text(call.mask.data)}

    def _headers(self) -> dict[str, str]:
        headers = {"Authorization": f"Bearer {self._account.api_key.get_secret_value()}"}
        if "bill_to" in self._account.settings:
            headers["X-HF-Bill-To"] = self._account.settings["bill_to"]
        return headers


def error_of(answer: HttpAnswer) -> ProviderError:
    """The error that an answer of another status than 200 is; its text may repeat the prompt and stays out."""
    wait = retry_after(answer.headers)
    if wait is None and answer.status == 503:
        wait = _loading(answer.body)
    loading = " while the model is being loaded" if answer.status == 503 and wait is not None else ""
    return ProviderError(
        kind_of_status(answer.status),
        f"the provider answered {answer.status}{loading}",
        retry_after=wait,
        provider_request_id=_request_id(answer),
        status=answer.status,
        rate=rate_hint(answer.headers),
    )


def _loading(body: bytes) -> float | None:
    """Seconds until the model is loaded, where a 503 says so."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        seconds = float(json.loads(body)["estimated_time"])
        return min(seconds, LONGEST_RETRY_AFTER) if seconds >= 0 else None
    return None


def _request_id(answer: HttpAnswer) -> str:
    return answer.headers.get("x-request-id", "") or answer.headers.get("x-amzn-trace-id", "")


def _usage(answer: HttpAnswer) -> Mapping[str, int]:
    """Compute time, which is what the router bills, where the answer tells it (in seconds)."""
    with contextlib.suppress(ValueError, KeyError, OverflowError):
        return {"milliseconds": math.ceil(float(answer.headers["x-compute-time"]) * 1000)}
    return {}
