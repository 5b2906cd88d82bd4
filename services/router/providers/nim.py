"""NVIDIA's Visual GenAI NIM: one container per model on a server of one's own, or NVIDIA's hosted preview.

Variant `self-hosted` (default) posts to `/v1/infer` and has no keys; a key is sent as a bearer token for a proxy that
guards the server. Variant `hosted` posts to the model's own path with an `nvapi-` key; pictures go there only as the
vendor's examples, so it draws from text alone. One picture a call, PNG or JPEG as it likes, answered in the call; an
order has no id of its own unless the host gives it one. A seed of 0 means a random one there, so it is not taken.

What the models take is the table `FAMILIES`, by the beginning of the model's name. Containers are pinned by their image
tag, which no answer tells. Sources: docs.nvidia.com/nim/visual-genai and docs.api.nvidia.com/nim, collected 2026-11-20;
that any `finishReason` besides SUCCESS and ERROR is a filter's is not confirmed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from services.router.providers.answers import (
    asking,
    broken,
    bytes_of,
    json_of,
    kind_of_status,
    ordering,
    picture_of,
    retry_after,
)
from services.router.providers.base import Account, Capabilities, Listener, Provider, ProviderCall, ProviderResult
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.fitting import refuse_unfit, union
from services.router.providers.http import HttpAnswer, HttpClient, HttpRequest
from services.router.providers.options import OptionRule
from services.router.providers.rates import rate_hint
from services.router.providers.retouch import data_url
from services.router.providers.shapes import ratio_name

HOSTED = "https://ai.api.nvidia.com/v1/genai"
SHORT_TIMEOUT = 15.0
EDGES = range(768, 1345, 64)
"""Widths and heights that are drawn."""
RATIOS = ("1:1", "16:9", "9:16", "4:3", "3:4", "3:2", "2:3")
DONE, FAILED = "SUCCESS", "ERROR"
"""`finishReason`: drawn; broken on its side. Any other one counts as its filter's."""

Body = dict[str, Any]


@dataclass(frozen=True)
class Family:
    """What the models of one family take."""

    capabilities: Capabilities
    most_steps: int
    least_steps: int = 1
    ratio: bool = False
    """Whether sizes are named by their ratio."""


_TEXT = Capabilities(frozenset({"TEXT_TO_IMAGE"}), max_count=1, seed=True, steps=True, formats=frozenset())
_TUNED = replace(_TEXT, guidance=True)
_GUIDED = replace(
    _TUNED,
    operations=frozenset({"TEXT_TO_IMAGE", "CONTROL"}),
    controls=frozenset({"canny", "depth"}),
    options={"preprocess_image": OptionRule(bool)},
)
_EDIT = replace(_TUNED, operations=frozenset({"EDIT"}), max_images=1)

FAMILIES: Mapping[str, Family] = {
    "flux.1-dev": Family(_GUIDED, 100, 5),
    "flux.1-schnell": Family(_TEXT, 4),
    "flux.1-kontext": Family(_EDIT, 50, 20, ratio=True),
    "flux.2-klein": Family(_TEXT, 4),
    "flux.3-image-klein": Family(_TEXT, 4),
    "stable-diffusion-3": Family(_TUNED, 100, 5),
    "qwen-image": Family(_TUNED, 100, 5),
    "qwen-image-edit": Family(_EDIT, 100, 5),
    "ernie-image": Family(_TUNED, 100, 5),
}
"""By the beginning of the model's name without publisher; the longest that fits counts."""

_ALL = union(family.capabilities for family in FAMILIES.values())
VARIANTS: Mapping[str, Capabilities] = {
    "": _ALL,
    "self-hosted": _ALL,
    "hosted": union((_TUNED, _TEXT)),
}


def capabilities(variant: str) -> Capabilities:
    """What at least one model can do; the catalog narrows it by model.

    Raises:
        KeyError: there is no such variant.
    """
    return VARIANTS[variant]


class Nim(Provider):
    """The adapter."""

    def __init__(self, account: Account, http: HttpClient) -> None:
        """`account.base_url`: a server of one's own without `/v1`; with `hosted` the vendor's, when empty its own."""
        self.name = account.provider
        self._hosted = account.variant == "hosted"
        self._base = (account.base_url or (HOSTED if self._hosted else "")).rstrip("/")
        self._able = capabilities(account.variant)
        self._http = http
        key = account.api_key.get_secret_value()
        self._headers: Mapping[str, str] = {"Authorization": f"Bearer {key}"} if key else {}

    @property
    def capabilities(self) -> Capabilities:
        """Those of any model."""
        return self._able

    async def submit(self, call: ProviderCall, listener: Listener) -> ProviderResult:
        """POST; the picture is in the answer."""
        body = json.dumps(await self._body(call)).encode()
        url = f"{self._base}/{call.model}" if self._hosted else f"{self._base}/v1/infer"
        headers = {**self._headers, "Content-Type": "application/json", "Accept": "application/json"}
        call.before_sending()
        with ordering():
            answer = await self._http.send(HttpRequest("POST", url, call.timeout, headers, body))
        if answer.status != 200:
            raise error_of(answer)
        drawn = _artifact(await json_of(answer.body))
        picture = picture_of(await bytes_of(drawn.get("base64")), drawn.get("seed"))
        order_id = answer.headers.get("nvcf-reqid", "") or call.attempt_id
        return ProviderResult((picture,), order_id, call.model_version, rate=rate_hint(answer.headers))

    async def check(self) -> str:
        """Whether a server of one's own is ready."""
        if self._hosted:
            return await super().check()
        with asking():
            answer = await self._http.send(
                HttpRequest("GET", f"{self._base}/v1/health/ready", SHORT_TIMEOUT, self._headers)
            )
        if answer.status != 200:
            raise error_of(answer)
        return f"the server is {(await json_of(answer.body)).get('status')}"

    async def _body(self, call: ProviderCall) -> Body:
        family = family_of(call.model)
        refuse_unfit(call, self._able)
        refuse_unfit(call, family.capabilities)
        _refuse_numbers(call, family)
        body: Body = {
            "prompt": call.prompt,
            "seed": call.seed,
            "steps": call.steps,
            "cfg_scale": call.guidance,
            **_size(call, family),
            **call.options,
        }
        if call.images:
            body["image"] = await data_url(call.images[0])
        if call.controls:
            body.update(mode=call.controls[0].kind, image=await data_url(call.controls[0].image))
        return {name: value for name, value in body.items() if value is not None}


def family_of(model: str) -> Family:
    """The family by a model's name.

    Raises:
        ProviderError: BAD_REQUEST when there is none.
    """
    name = model.rpartition("/")[2]
    fitting = [known for known in FAMILIES if name.lower().startswith(known)]
    if not fitting:
        raise ProviderError(ErrorKind.BAD_REQUEST, f"no family of models is known for {model}")
    return FAMILIES[max(fitting, key=len)]


def _refuse_numbers(call: ProviderCall, family: Family) -> None:
    """What would be drawn otherwise than it was asked for."""
    if call.seed == 0:
        raise ProviderError(ErrorKind.BAD_REQUEST, "a seed of 0 means a random one here")
    if call.steps is not None and not family.least_steps <= call.steps <= family.most_steps:
        raise ProviderError(ErrorKind.BAD_REQUEST, f"takes {family.least_steps} to {family.most_steps} steps")
    if len(call.controls) > 1 or any(control.scale is not None for control in call.controls):
        raise ProviderError(ErrorKind.BAD_REQUEST, "takes one control, as strong as it is")


def _size(call: ProviderCall, family: Family) -> Body:
    if family.ratio:
        return {"aspect_ratio": ratio_name(call.width, call.height, RATIOS) if call.width else "match_input_image"}
    if not call.width:
        return {}
    if call.width not in EDGES or call.height not in EDGES:
        raise ProviderError(ErrorKind.BAD_REQUEST, f"it draws no picture of {call.width}x{call.height}")
    return {"width": call.width, "height": call.height}


def _artifact(told: Body) -> Body:
    """The picture of an answer, if there is one.

    Raises:
        ProviderError: REFUSED or BROKEN_ANSWER.
    """
    artifacts = told.get("artifacts")
    drawn = artifacts[0] if isinstance(artifacts, list) and artifacts else None
    if not isinstance(drawn, dict) or not isinstance(drawn.get("finishReason"), str):
        raise broken("the answer holds no picture")
    reason = drawn["finishReason"]
    if reason == FAILED:
        raise broken("the provider says that drawing failed")
    if reason != DONE:
        raise ProviderError(ErrorKind.REFUSED, "the provider's filter refused it")
    return drawn


def error_of(answer: HttpAnswer) -> ProviderError:
    """The error that an answer of another status than 200 is; `detail` may repeat the prompt and stays out."""
    return ProviderError(
        kind_of_status(answer.status),
        f"the provider answered {answer.status}",
        retry_after=retry_after(answer.headers),
        provider_request_id=answer.headers.get("nvcf-reqid", ""),
        status=answer.status,
        rate=rate_hint(answer.headers),
    )
