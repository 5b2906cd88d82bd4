"""Azure AI Foundry on loopback: the surfaces v1 and classic, and FLUX.2 beside them, with Azure's errors."""

from __future__ import annotations

import base64

import pyvips
from aiohttp import web

from tests.router.fakes.openai import FAILURES, Failures, OpenAIStub
from tests.router.fakes.openai_fields import EDIT, FLUX, GENERATE, INPUT_IMAGES, Read, read_form, read_json
from tests.router.fakes.vendor import Fields

V1, CLASSIC = "preview", "2025-04-01-preview"


def _error(status: int, code: str, inner: Fields | None = None, **headers: str) -> web.Response:
    body: Fields = {"error": {"code": code, "message": f"stub says {code}"}}
    if inner is not None:
        body["error"]["innererror"] = inner
    return web.json_response(body, status=status, headers={k.replace("_", "-"): v for k, v in headers.items()})


_VERDICTS = {
    "hate": {"filtered": False, "severity": "safe"},
    "sexual": {"filtered": True, "severity": "high"},
    "jailbreak": {"detected": False, "filtered": False},
}
_INNER = {"code": "ResponsibleAIPolicyViolation", "content_filter_results": _VERDICTS}

_PICTURE = base64.b64encode(bytes(pyvips.Image.black(8, 8).write_to_buffer(".png"))).decode()

AZURE_FAILURES: Failures = {
    **{name: FAILURES[name] for name in FAILURES if name not in ("moderation", "quota", "billing", "payment")},
    "filter": lambda: _error(400, "contentFilter", _INNER),
    "policy": lambda: _error(400, "content_policy_violation"),
    "inner_filter": lambda: _error(400, "BadRequest", _INNER),
    "filtered_picture": lambda: web.json_response({"created": 1, "data": [{"content_filter_results": _VERDICTS}]}),
    "some_filtered": lambda: web.json_response(
        {"created": 1, "data": [{"content_filter_results": _VERDICTS}, {"b64_json": _PICTURE}]}
    ),
    "empty_picture": lambda: web.json_response({"created": 1, "data": [{"content_filter_results": {}}]}),
    "no_deployment": lambda: _error(404, "DeploymentNotFound"),
    "unauthorized": lambda: _error(401, "401"),
    "forbidden": lambda: _error(403, "403"),
    "rate_limited": lambda: _error(429, "429", retry_after="7"),
}


class AzureStub(OpenAIStub):
    """The resource; `origin` is its endpoint."""

    failures = AZURE_FAILURES
    client_id = "x-ms-client-request-id"
    request_id = "apim-request-id"

    def routes(self, app: web.Application) -> None:
        """Where the API is."""
        for path in (GENERATE, EDIT):
            app.router.add_post(f"/openai/v1/images/{{path:{path}}}", self.draw)
            app.router.add_post(f"/openai/deployments/{{deployment}}/images/{{path:{path}}}", self.draw)
        app.router.add_post("/providers/blackforestlabs/v1/{flux:flux-2-pro|flux-2-flex}", self.draw)
        app.router.add_get("/openai/v1/models", self.list_models)
        app.router.add_get("/openai/models", self.list_models)

        app.router.add_post("/entra/{tenant}/oauth2/v2.0/token", self.give_token)

    def knows(self, request: web.Request) -> bool:
        """Whether the request carries the key or a token, and not both."""
        told = (request.headers.get("api-key"), request.headers.get("Authorization"))
        return told in ((self.key, None), (None, f"Bearer {self.token}"))

    token = ""
    """The one that is valid now."""
    tokens_given = 0

    async def give_token(self, request: web.Request) -> web.Response:
        """A token for the right client, as Entra ID gives it."""
        told = dict(await request.post())
        if told.pop("client_secret", None) != "s3cret" or request.match_info["tenant"] != "tenant-1":
            return web.json_response({"error": "invalid_client", "error_description": "AADSTS7000215"}, status=401)
        wanted = {"grant_type": "client_credentials", "client_id": "client-1", "scope": "https://ai.azure.com/.default"}
        if told != wanted:
            return web.json_response({"error": "invalid_request"}, status=400)
        self.tokens_given += 1
        self.token = f"token-{self.tokens_given}"
        return web.json_response({"token_type": "Bearer", "expires_in": 3599, "access_token": self.token})

    async def read(self, request: web.Request, path: str) -> Read:
        """The deployment in the address is the model, and the body must not name another."""
        if request.content_type == "multipart/form-data":
            read = await read_form(request)
        else:
            read = await read_json(request, INPUT_IMAGES)
        if deployment := request.match_info.get("deployment"):
            fields = {**read.fields, "model": "model is in the path" if "model" in read.fields else deployment}
            return Read(fields, read.files)
        return read

    def refused(self, request: web.Request) -> web.Response | None:
        """What is wrong with address and headers."""
        wanted = CLASSIC if "deployment" in request.match_info or request.path == "/openai/models" else V1
        if request.query.get("api-version") != wanted:
            return _error(404, "404")
        return super().refused(request)

    def path(self, request: web.Request) -> str:
        """Which of the paths was asked."""
        return FLUX if "flux" in request.match_info else request.match_info["path"]
