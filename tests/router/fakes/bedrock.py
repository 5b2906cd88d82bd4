"""A strict Amazon Bedrock runtime with Stability's models: checks signatures by itself, names errors in a header."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from urllib.parse import quote

from aiohttp import web

from tests.router.fakes.stability import SERVICES
from tests.router.fakes.vendor import Fields, VendorFake, broken_off, described, wrong_fields

ACCESS_KEY_ID = "AKIASTUB"
SECRET = "secret-stub"
TOKEN = "token-stub"
REGION = "us-west-2"

MODELS: Mapping[str, str] = {
    "stability.sd3-5-large-v1:0": "generate/sd3",
    "stability.stable-image-core-v1:1": "generate/core",
    "stability.stable-image-ultra-v1:1": "generate/ultra",
    "us.stability.stable-image-inpaint-v1:0": "edit/inpaint",
    "us.stability.stable-image-erase-object-v1:0": "edit/erase",
    "us.stability.stable-image-remove-background-v1:0": "edit/remove-background",
    "us.stability.stable-image-search-recolor-v1:0": "edit/search-and-recolor",
    "us.stability.stable-image-search-replace-v1:0": "edit/search-and-replace",
    "us.stability.stable-image-control-sketch-v1:0": "control/sketch",
    "us.stability.stable-image-control-structure-v1:0": "control/structure",
    "us.stability.stable-image-style-guide-v1:0": "control/style",
    "us.stability.stable-outpaint-v1:0": "edit/outpaint",
    "us.stability.stable-style-transfer-v1:0": "control/style-transfer",
    "us.stability.stable-fast-upscale-v1:0": "upscale/fast",
    "us.stability.stable-conservative-upscale-v1:0": "upscale/conservative",
    "us.stability.stable-creative-upscale-v1:0": "upscale/creative",
}
"""The table of Stability's fields by model."""
NUMBERS = frozenset(
    {"seed", "cfg_scale", "strength", "grow_mask", "control_strength", "fidelity", "creativity"}
    | {"left", "right", "up", "down"}
)
PICTURES = frozenset({"image", "mask", "init_image", "style_image"})


def _error(status: int, kind: str, message: str = "the fake says so", **headers: str) -> web.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    told = {"x-amzn-errortype": f"{kind}:http://internal.amazon.com/coral/", "x-amzn-requestid": "req-error"}
    return web.json_response({"message": message}, status=status, headers={**told, **named})


def _drawn(**changes: object) -> web.Response:
    return web.json_response({"images": ["aGVsbG8="], "seeds": [1], "finish_reasons": [None], **changes})


FAILURES: Mapping[str, Callable[[], web.Response]] = {
    "prompt_filtered": lambda: _drawn(images=[], seeds=[], finish_reasons=["Filter reason: prompt"]),
    "image_filtered": lambda: _drawn(finish_reasons=["Filter reason: output image"]),
    "content_filter": lambda: _error(400, "ValidationException", "Your request was blocked by our content filters."),
    "inference_error": lambda: _drawn(images=[], finish_reasons=["Inference error"]),
    "validation": lambda: _error(400, "ValidationException", "Malformed input request"),
    "no_model": lambda: _error(404, "ResourceNotFoundException"),
    "denied": lambda: _error(403, "AccessDeniedException"),
    "signature": lambda: _error(403, "InvalidSignatureException"),
    "expired": lambda: _error(403, "ExpiredTokenException"),
    "quota": lambda: _error(400, "ServiceQuotaExceededException"),
    "throttled": lambda: _error(429, "ThrottlingException"),
    "throttled_told": lambda: _error(429, "ThrottlingException", retry_after="7"),
    "not_ready": lambda: _error(429, "ModelNotReadyException"),
    "model_timeout": lambda: _error(408, "ModelTimeoutException"),
    "model_error": lambda: _error(424, "ModelErrorException"),
    "internal": lambda: _error(500, "InternalServerException"),
    "unavailable": lambda: _error(503, "ServiceUnavailableException"),
    "type_in_body": lambda: web.json_response({"__type": "com.amazon.coral#ThrottlingException"}, status=400),
    "bad_gateway": lambda: web.Response(status=502),
    "bad_json": lambda: web.Response(text='{"images": ["', content_type="application/json"),
    "not_an_object": lambda: web.json_response(["no", "object"]),
    "no_picture": lambda: _drawn(images=[]),
    "bad_base64": lambda: _drawn(images=["***"]),
    "not_an_image": lambda: _drawn(),
}


class BedrockFake(VendorFake):
    """Takes `Bearer key-stub`, or a signature with the access key above."""

    def routes(self, app: web.Application) -> None:
        app.router.add_post("/model/{model}/invoke", self._invoke)
        app.router.add_get("/foundation-models", self._models)

    async def _invoke(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if refused := self._refused(request, body):
            return refused
        model = request.match_info["model"]
        if model not in MODELS:
            return FAILURES["no_model"]()
        if request.content_type != "application/json" or request.headers.get("Accept") != "application/json":
            return FAILURES["validation"]()
        fields = _seen(await request.json())
        allowed, required = SERVICES[MODELS[model]]
        checked = {name: str(value) if name in NUMBERS else value for name, value in fields.items()}
        mistyped = [name for name, value in fields.items() if isinstance(value, str) is (name in NUMBERS)]
        known = {name: check for name, check in allowed.items() if name != "model"}
        if wrong := mistyped + wrong_fields(checked, known, tuple(name for name in required if name != "model")):
            return _error(400, "ValidationException", f"extraneous or wrong: {wrong}")
        failure = await self.count(request, str(fields.get("prompt", "")), fields)
        if failure == "reset_midway":
            return await broken_off(request, b'{"images": ["iVBO')
        if failure:
            return FAILURES[failure]()
        image = self._picture.base64(next(self._serial)).decode()
        answer = _drawn(images=[image], seeds=[fields.get("seed", 41)])
        answer.headers["x-amzn-requestid"] = f"req-{next(self._serial)}"
        return answer

    async def _models(self, request: web.Request) -> web.StreamResponse:
        if refused := self._refused(request, b""):
            return refused
        if request.query_string != "byOutputModality=IMAGE":
            return FAILURES["validation"]()
        return web.json_response({"modelSummaries": [{"modelId": model} for model in MODELS]})

    def _refused(self, request: web.Request, body: bytes) -> web.Response | None:
        authorization = request.headers.get("Authorization", "")
        if authorization == f"Bearer {self.key}":
            return None
        if not authorization.startswith("AWS4-HMAC-SHA256 "):
            return FAILURES["denied"]()
        return None if _fits(request, body, authorization) else FAILURES["signature"]()


def _seen(body: Fields) -> Fields:
    """The body with its pictures described; what is no picture stays and is refused."""
    seen = dict(body)
    for name in PICTURES & body.keys():
        try:
            seen[name] = described(base64.b64decode(body[name], validate=True))
        except (binascii.Error, TypeError):
            continue
    return seen


def _fits(request: web.Request, body: bytes, authorization: str) -> bool:
    """Signature Version 4 as AWS' documents define it, computed from what arrived."""
    told = re.fullmatch(
        r"AWS4-HMAC-SHA256 Credential=(\w+)/(\d{8})/([\w-]+)/bedrock/aws4_request, "
        r"SignedHeaders=([\w;-]+), Signature=([0-9a-f]{64})",
        authorization,
    )
    if told is None or told[1] != ACCESS_KEY_ID or told[3] != REGION or "host" not in told[4].split(";"):
        return False
    headers = "".join(f"{name}:{' '.join(request.headers[name].split())}\n" for name in told[4].split(";"))
    digest = hashlib.sha256(body).hexdigest()
    path = quote(request.raw_path.partition("?")[0], safe="/~")
    canonical = "\n".join((request.method, path, request.query_string, headers, told[4], digest))
    scope = f"{told[2]}/{told[3]}/bedrock/aws4_request"
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    signed = f"AWS4-HMAC-SHA256\n{request.headers['X-Amz-Date']}\n{scope}\n{hashed}"
    key = f"AWS4{SECRET}".encode()
    for part in (*scope.split("/"), signed):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key.hex() == told[5]
