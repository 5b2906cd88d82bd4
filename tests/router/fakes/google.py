"""A strict Google: the Gemini Developer API, Vertex AI (Gemini and Imagen), and the token endpoint before it."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.router.fakes.vendor import (
    Check,
    Fields,
    VendorFake,
    a_picture,
    broken_off,
    described,
    flag,
    like,
    list_of,
    number,
    one_of,
    text,
    whole,
    wrong_fields,
)

EMAIL = "painter@acme-project.iam.gserviceaccount.com"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_RATIOS = one_of("1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9", "1:4", "4:1", "1:8", "8:1")


@lru_cache(maxsize=1)
def private_key() -> rsa.RSAPrivateKey:
    """The service account's; made once, because that is slow."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def fields_of(allowed: Mapping[str, Check], *required: str) -> Check:
    """An object with these fields."""
    return lambda value: not wrong_fields(value, allowed, required)


_OUTPUT = fields_of({"mimeType": one_of("image/png", "image/jpeg"), "compressionQuality": whole(1, 100)}, "mimeType")
_LABELS = fields_of({"imagemesh-attempt": like(r"[a-z0-9_-]{1,63}")})
_INLINE = fields_of({"mimeType": like(r"image/(png|jpeg|webp)"), "data": a_picture}, "mimeType", "data")


def _part(value: Any) -> bool:
    return isinstance(value, dict) and (fields_of({"text": text(32_000)}, "text")(value) or _image_part(value))


def _image_part(value: Any) -> bool:
    return fields_of({"inlineData": _INLINE}, "inlineData")(value)


def _generate(image: Mapping[str, Check]) -> Mapping[str, Check]:
    config = {
        "responseModalities": one_of(["IMAGE"]),
        "seed": whole(-(2**31), 2**31 - 1),
        "temperature": number(0, 2),
        "topP": number(0, 1),
        "imageConfig": fields_of(image),
    }
    content = fields_of({"role": one_of("user"), "parts": list_of(_part, 16)}, "role", "parts")
    return {"contents": list_of(content, 1), "generationConfig": fields_of(config, "responseModalities")}


_IMAGE = {"aspectRatio": _RATIOS, "imageSize": one_of("512", "1K", "2K", "4K")}
_PICTURE = fields_of({"bytesBase64Encoded": a_picture, "mimeType": text(40)}, "bytesBase64Encoded")
_REFERENCE = fields_of(
    {
        "referenceType": one_of("REFERENCE_TYPE_RAW", "REFERENCE_TYPE_MASK"),
        "referenceId": whole(1, 4),
        "referenceImage": _PICTURE,
        "maskImageConfig": fields_of({"maskMode": one_of("MASK_MODE_USER_PROVIDED")}, "maskMode"),
    },
    "referenceType",
    "referenceId",
    "referenceImage",
)
_PARAMETERS: Mapping[str, Check] = {
    "sampleCount": whole(1, 4),
    "includeRaiReason": flag,
    "aspectRatio": one_of("1:1", "3:4", "4:3", "9:16", "16:9"),
    "sampleImageSize": one_of("1K", "2K"),
    "negativePrompt": text(1000),
    "guidanceScale": number(0, 500),
    "outputOptions": _OUTPUT,
    "editMode": one_of("EDIT_MODE_INPAINT_INSERTION", "EDIT_MODE_OUTPAINT"),
    "mode": one_of("upscale"),
    "upscaleConfig": fields_of({"upscaleFactor": one_of("x2", "x4")}, "upscaleFactor"),
    "enhancePrompt": flag,
    "language": text(20),
}
_INSTANCE = fields_of({"prompt": text(32_000, 0), "referenceImages": list_of(_REFERENCE, 4), "image": _PICTURE})
BODIES: Mapping[str, Mapping[str, Check]] = {
    "gemini": _generate(_IMAGE),
    "vertex": {**_generate({**_IMAGE, "imageOutputOptions": _OUTPUT}), "labels": _LABELS},
    "predict": {"instances": list_of(_INSTANCE, 1), "parameters": fields_of(_PARAMETERS), "labels": _LABELS},
}
"""`safetySettings`, `personGeneration`, `addWatermark` and the like are missing on purpose: the mesh sets none."""
MODELS = ("gemini-2.5-flash-image", "gemini-3-pro-image", "gemini-3.1-flash-image", "imagen-4.0-generate-001")


def _error(status: int, state: str, message: str = "no", *details: Fields, **headers: str) -> web.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    told = {"code": status, "message": message, "status": state, "details": [*details]}
    return web.json_response({"error": told}, status=status, headers=named)


def _info(reason: str) -> Fields:
    return {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "googleapis.com"}


_RETRY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"}
_LOCATION = "User location is not supported for the API use."
_RAI = "The prompt contains words that violate Google's Responsible AI practices."
FAILURES: Mapping[str, Callable[[], web.Response]] = {
    "bad_request": lambda: _error(400, "INVALID_ARGUMENT"),
    "no_model": lambda: _error(404, "NOT_FOUND"),
    "bad_key": lambda: _error(400, "INVALID_ARGUMENT", "API key not valid.", _info("API_KEY_INVALID")),
    "location": lambda: _error(400, "FAILED_PRECONDITION", _LOCATION),
    "location_argument": lambda: _error(400, "INVALID_ARGUMENT", _LOCATION),
    "rai": lambda: _error(400, "INVALID_ARGUMENT", _RAI),
    "unauthorized": lambda: _error(401, "UNAUTHENTICATED"),
    "forbidden": lambda: _error(403, "PERMISSION_DENIED"),
    "billing": lambda: _error(403, "PERMISSION_DENIED", "no billing", _info("BILLING_DISABLED")),
    "exhausted": lambda: _error(429, "RESOURCE_EXHAUSTED", "quota", _RETRY),
    "exhausted_header": lambda: _error(429, "RESOURCE_EXHAUSTED", "quota", retry_after="9"),
    "exhausted_bare": lambda: _error(429, "RESOURCE_EXHAUSTED"),
    "internal": lambda: _error(500, "INTERNAL"),
    "unavailable": lambda: _error(503, "UNAVAILABLE", "The model is overloaded."),
    "deadline": lambda: _error(504, "DEADLINE_EXCEEDED"),
    "bad_gateway": lambda: web.Response(status=502, text="<html>bad gateway</html>"),
    "odd_error": lambda: web.json_response({"error": "none"}, status=400),
    "bad_json": lambda: web.Response(text='{"candidates": [', content_type="application/json"),
    "not_an_object": lambda: web.json_response(["no", "object"]),
    "empty": lambda: web.json_response({}),
}


def _candidate(finish: str, *parts: Fields) -> Fields:
    content = {"content": {"role": "model", "parts": [*parts]}} if parts else {}
    return {"candidates": [{"finishReason": finish, "index": 0, **content}], "responseId": "resp-odd"}


ODD: Mapping[str, Fields] = {
    **{f"blocked_{reason}": {"promptFeedback": {"blockReason": reason}} for reason in ("SAFETY", "OTHER", "JAILBREAK")},
    **{
        f"finish_{reason}": _candidate(reason)
        for reason in (
            "IMAGE_SAFETY",
            "IMAGE_PROHIBITED_CONTENT",
            "PROHIBITED_CONTENT",
            "SPII",
            "NO_IMAGE",
            "IMAGE_OTHER",
        )
    },
    "text_only": _candidate("STOP", {"text": "I would rather write about foxes."}),
    "thought_only": _candidate("STOP", {"inlineData": {"mimeType": "image/png", "data": "AAAA"}, "thought": True}),
    "bad_base64": _candidate("STOP", {"inlineData": {"mimeType": "image/png", "data": "***"}}),
    "not_an_image": _candidate("STOP", {"inlineData": {"mimeType": "image/png", "data": "aGVsbG8="}}),
    "odd_parts": {"candidates": [{"content": {"parts": "none"}}]},
    "filtered": {"predictions": [{"raiFilteredReason": "Unable to show generated images. Support code 58061214"}]},
    "no_predictions": {"predictions": []},
}
"""Answers of status 200 that hold no picture."""


class GoogleFake(VendorFake):
    """Vertex AI's tokens are numbered; `lifetime` says how long they hold."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.pictures: list[bytes] = []
        """The last order's pictures in their order."""
        self.tokens_given = 0
        self.revoked = False
        self.lifetime: object = 3600

    def routes(self, app: web.Application) -> None:
        app.router.add_post("/token", self._token)
        app.router.add_post("/v1beta/models/{model}:{method}", self._order)
        place = "/v1/projects/acme-project/locations/{location}/publishers/google"
        app.router.add_post(place + "/models/{model}:{method}", self._order)

    def service_account(self, **changes: str) -> str:
        """The JSON file of a service account."""
        pem = private_key().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        told = {
            "type": "service_account",
            "project_id": "acme-project",
            "private_key_id": "key-1",
            "private_key": pem.decode(),
            "client_email": EMAIL,
            "token_uri": f"{self.origin}/token",
        }
        return json.dumps({**told, **changes})

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        if {*form} != {"grant_type", "assertion"} or not str(form["grant_type"]).endswith(":jwt-bearer"):
            return web.json_response({"error": "unsupported_grant_type"}, status=400)
        try:
            told = jwt.decode(
                str(form["assertion"]),
                private_key().public_key(),
                algorithms=["RS256"],
                audience=f"{self.origin}/token",
                issuer=EMAIL,
                options={"require": ["exp", "iat", "aud", "iss"]},
            )
        except jwt.PyJWTError:
            return web.json_response({"error": "invalid_grant"}, status=400)
        if told.get("scope") != SCOPE or told["exp"] - told["iat"] > 3600:
            return web.json_response({"error": "invalid_scope"}, status=400)
        self.tokens_given += 1
        answer = {"access_token": self._current, "expires_in": self.lifetime, "token_type": "Bearer"}
        return web.json_response(answer)

    @property
    def _current(self) -> str:
        return f"token-{self.tokens_given}"

    def _refusal(self, request: web.Request, vertex: bool) -> web.Response | None:
        if not vertex:
            return None if request.headers.get("x-goog-api-key") == self.key else FAILURES["bad_key"]()
        known = request.headers.get("Authorization") == f"Bearer {self._current}" and not self.revoked
        return None if known else FAILURES["unauthorized"]()

    async def _order(self, request: web.Request) -> web.StreamResponse:
        vertex, method = "location" in request.match_info, request.match_info["method"]
        if refusal := self._refusal(request, vertex):
            return refusal
        if request.match_info["model"] not in MODELS:
            return FAILURES["no_model"]()
        if request.content_type != "application/json":
            return FAILURES["bad_request"]()
        body = await request.json()
        if method == "countTokens":
            return web.json_response({"totalTokens": 1} if {*body} == {"contents"} else {})
        self.pictures.clear()
        fields: Fields = self._seen(body)
        kind = "predict" if method == "predict" else "vertex" if vertex else "gemini"
        if wrong := wrong_fields(fields, BODIES[kind], tuple(name for name in BODIES[kind] if name != "labels")):
            return _error(400, "INVALID_ARGUMENT", f"Unknown or invalid: {wrong}")
        return await self._answer(request, fields, method)

    async def _answer(self, request: web.Request, fields: Fields, method: str) -> web.StreamResponse:
        predicts = method == "predict"
        prompt = fields["instances"][0]["prompt"] if predicts else fields["contents"][0]["parts"][0]["text"]
        attempt = fields.get("labels", {}).get("imagemesh-attempt", "")
        failure = await self.count(request, prompt, fields, attempt)
        if failure == "reset_midway":
            return await broken_off(request, b'{"candidates": [')
        if failure in ODD:
            return web.json_response(ODD[failure])
        if failure:
            return FAILURES[failure]()
        return web.json_response(self._predicted(fields, prompt) if predicts else self._generated(fields, request))

    def _seen(self, value: Any) -> Any:
        """The body with its pictures described; what is no picture stays and is refused."""
        if isinstance(value, list):
            return [self._seen(one) for one in value]
        if not isinstance(value, dict):
            return value
        return {
            name: self._picture_in(one) if name in ("data", "bytesBase64Encoded") else self._seen(one)
            for name, one in value.items()
        }

    def _picture_in(self, value: object) -> object:
        try:
            self.pictures.append(base64.b64decode(str(value), validate=True))
        except binascii.Error:
            return value
        return described(self.pictures[-1])

    def _drawn(self) -> str:
        return self._picture.base64(next(self._serial)).decode()

    def _generated(self, fields: Fields, request: web.Request) -> Fields:
        draft = {"inlineData": {"mimeType": "image/png", "data": self._drawn()}, "thought": True}
        final = {"inlineData": {"mimeType": "image/png", "data": self._drawn()}, "thoughtSignature": "c2lnbg=="}
        parts: list[Fields] = [{"text": "Let me think.", "thought": True}, draft, {"text": "Here it is."}, final]
        usage = {
            "promptTokenCount": 12,
            "candidatesTokenCount": 1125,
            "totalTokenCount": 1237,
            "thoughtsTokenCount": 100,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 12}],
            "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1120}],
        }
        told = _candidate("STOP", *parts)
        version = f"{request.match_info['model']}-001"
        return {**told, "usageMetadata": usage, "modelVersion": version, "responseId": f"resp-{next(self._serial)}"}

    def _predicted(self, fields: Fields, prompt: str) -> Fields:
        count = 1 if prompt == "partly" else fields["parameters"]["sampleCount"]
        drawn = [{"bytesBase64Encoded": self._drawn(), "mimeType": "image/png", "prompt": prompt} for _ in range(count)]
        filtered = [{"raiFilteredReason": "Unable to show"}] if prompt == "partly" else []
        return {"predictions": [*filtered, *drawn], "modelVersionId": "001"}
