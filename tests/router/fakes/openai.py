"""A strict server with OpenAI's images API on loopback, that counts what it is asked.

It refuses what the real ones refuse (unknown fields, wrong types, missing headers, fields of another model family,
masks without transparency) and fails on request: a prompt that begins with `fail:<name>` fails that way,
`fail:<name>:<n>` only the first n times that this prompt is asked. `FAILURES` and `openai_streams` list the names. It
also stands in for hosted providers in crash tests and benchmarks:

    python -m tests.router.fakes.openai --port 9000 --size small --latency 0

`GET /_stub/posts` tells how often each prompt and each `X-Client-Request-Id` was POSTed.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import collections
import itertools
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aiohttp import web

from tests.router.fakes.openai_fields import EDIT, FLUX, GENERATE, INPAINT, UPSCALE, Read, read_form, read_json, wrong
from tests.router.fakes.openai_streams import USAGE, streamed
from tests.router.fakes.pictures import draw, picture
from tests.router.fakes.vendor import Fields, broken_off, drop

Failures = Mapping[str, Callable[[], web.Response]]
LIMITS = {
    "x-ratelimit-remaining-requests": "4999",
    "x-ratelimit-reset-requests": "1m6s",
    "x-ratelimit-remaining-tokens": "150000",
    "x-ratelimit-reset-tokens": "20ms",
}
"""What it tells of its limits with every answer but `no_id` and streams; so much is left that nobody slows down."""


def error(status: int, code: str | None, kind: str = "invalid_request_error", **headers: str) -> web.Response:
    body = {"error": {"message": f"stub says {code or status}", "type": kind, "param": None, "code": code}}
    return web.json_response(body, status=status, headers={k.replace("_", "-"): v for k, v in headers.items()})


FAILURES: Failures = {
    "moderation": lambda: error(400, "moderation_blocked", "image_generation_user_error"),
    "policy": lambda: error(400, "content_policy_violation"),
    "bad_request": lambda: error(400, "invalid_value"),
    "unprocessable": lambda: web.json_response({"detail": "size is not served"}, status=422),
    "too_large": lambda: error(413, None),
    "no_model": lambda: error(404, "model_not_found"),
    "unauthorized": lambda: error(401, "invalid_api_key"),
    "forbidden": lambda: error(403, "unsupported_country_region_territory"),
    "payment": lambda: error(402, None),
    "quota": lambda: error(429, "insufficient_quota", "insufficient_quota"),
    "billing": lambda: error(400, "billing_hard_limit_reached"),
    "rate_limited": lambda: error(429, "rate_limit_exceeded", "requests", retry_after="7"),
    "rate_limited_ms": lambda: error(429, "rate_limit_exceeded", "requests", retry_after_ms="1500"),
    "rate_limited_bare": lambda: error(429, "rate_limit_exceeded", "requests"),
    "error500": lambda: error(500, None, "server_error"),
    "overloaded": lambda: error(503, None, "server_error"),
    "site_overloaded": lambda: error(529, None, "server_error"),
    "request_timeout": lambda: error(408, None, "server_error"),
    "bad_gateway": lambda: error(502, None, "server_error"),
    "gateway_timeout": lambda: error(504, None, "server_error"),
    "bad_json": lambda: web.Response(text='{"created": 1, "data": [{"b64_', content_type="application/json"),
    "not_an_object": lambda: web.json_response(["no", "object"]),
    "no_data": lambda: web.json_response({"created": 1, "data": []}),
    "bad_base64": lambda: web.json_response({"created": 1, "data": [{"b64_json": "***"}]}),
    "not_an_image": lambda: web.json_response({"created": 1, "data": [{"b64_json": "aGVsbG8gd29ybGQ="}]}),
    "late_error": lambda: web.json_response({"error": {"code": "moderation_blocked", "message": "stub says no"}}),
    "redirect": lambda: web.Response(status=302, headers={"Location": "/elsewhere"}),
}
"""Answers that are not pictures. Besides these: `reset` (drops the connection), `reset_midway` (drops it within the
answer), `silent` (never answers), `fewer` (one picture less), `large` (a square as wide as was asked), `url`,
`url_expired`, `url_flaky` (addresses, no bytes), `no_id` (no request id)."""


@dataclass(frozen=True)
class StubConfig:
    """How the stub behaves."""

    size: str = "tiny"
    latency: float = 0.0
    """Seconds before each answer."""
    key: str = "sk-stub"
    port: int = 0


class OpenAIStub:
    """The server. `start` binds, `stop` frees; `base_url` is what a client is configured with."""

    failures: Failures = FAILURES
    client_id = "X-Client-Request-Id"
    request_id = "x-request-id"

    def __init__(self, config: StubConfig | None = None) -> None:
        self._config = config or StubConfig()
        self.key = self._config.key
        self._picture = picture(self._config.size)
        self._serial = itertools.count(1)
        self._runner: web.AppRunner | None = None
        self._urls: dict[str, bytes] = {}
        self._downloads: collections.Counter[str] = collections.Counter()
        self.posts: collections.Counter[str] = collections.Counter()
        """Accepted and failed POSTs by prompt."""
        self.attempts: collections.Counter[str] = collections.Counter()
        """The same by `X-Client-Request-Id`."""
        self.bodies: list[Fields] = []
        """The last hundred bodies that passed the checks."""
        self.files: Mapping[str, bytes] = {}
        """The pictures of the last of them, by field."""
        self.asked = asyncio.Condition()
        self.base_url = ""
        self.origin = ""

    async def start(self) -> None:
        """Bind to loopback."""
        app = web.Application(client_max_size=64 * 1024 * 1024)
        self.routes(app)
        app.router.add_get("/files/{name}", self._file)
        app.router.add_get("/_stub/posts", self._counters)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._config.port, shutdown_timeout=0.1).start()
        self.origin = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        self.base_url = f"{self.origin}/v1"

    def routes(self, app: web.Application) -> None:
        """Where the API is."""
        for path in (GENERATE, EDIT, INPAINT, UPSCALE):
            app.router.add_post(f"/v1/images/{{path:{path}}}", self.draw)
        app.router.add_get("/v1/models", self.list_models)

    async def stop(self) -> None:
        """Free the port."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def until_asked(self, prompt: str, times: int = 1) -> None:
        """Wait until `prompt` was POSTed so often."""
        async with self.asked:
            await self.asked.wait_for(lambda: self.posts[prompt] >= times)

    async def _counters(self, _request: web.Request) -> web.Response:
        return web.json_response({"prompts": self.posts, "attempts": self.attempts})

    async def list_models(self, request: web.Request) -> web.Response:
        """The models, for those who have the key."""
        if refused := self.refused(request):
            return refused
        return web.json_response(
            {"object": "list", "data": [{"id": f"model-{n}", "object": "model"} for n in range(7)]}
        )

    async def draw(self, request: web.Request) -> web.StreamResponse:
        """Order pictures."""
        if refused := self.refused(request):
            return refused
        path = self.path(request)
        if request.content_type != "multipart/form-data" and path not in (GENERATE, FLUX):
            return error(415, "unsupported_media_type")
        return await self.drawn(request, await self.read(request, path), path)

    def path(self, request: web.Request) -> str:
        """Which of the paths was asked."""
        return request.match_info["path"]

    def refused(self, request: web.Request) -> web.Response | None:
        """What is wrong with address and headers."""
        if not self.knows(request):
            return self.failures["unauthorized"]()
        return None if request.headers.get(self.client_id) else error(400, "missing_header")

    async def read(self, request: web.Request, path: str) -> Read:
        """The body."""
        return await (read_form(request) if path != GENERATE else read_json(request))

    async def drawn(self, request: web.Request, read: Read, path: str) -> web.StreamResponse:
        """The answer to what was read."""
        if refused := wrong(read, path):
            return error(400, f"unknown_or_invalid:{','.join(refused)}")
        prompt = read.fields.get("prompt", "upscale")
        await self._count(request, read, prompt)
        if self._config.latency:
            await asyncio.sleep(self._config.latency)
        return await self._answer(request, read.fields, self._failure(prompt))

    def knows(self, request: web.Request) -> bool:
        """Whether the request carries the key."""
        return request.headers.get("Authorization") == f"Bearer {self.key}"

    async def _count(self, request: web.Request, read: Read, prompt: str) -> None:
        async with self.asked:
            self.posts[prompt] += 1
            self.attempts[request.headers[self.client_id]] += 1
            self.bodies = [*self.bodies[-99:], read.fields]
            self.files = read.files
            self.asked.notify_all()

    def _failure(self, prompt: str) -> str:
        match = re.match(r"fail:(\w+)(?::(\d+))?", prompt)
        if match is None or (match[2] and self.posts[prompt] > int(match[2])):
            return ""
        return match[1]

    async def _answer(self, request: web.Request, fields: Fields, failure: str) -> web.StreamResponse:
        if failure in self.failures:
            return self._identified(self.failures[failure]())
        if failure == "silent":
            await asyncio.Event().wait()
        if failure == "reset":
            drop(request)
        if failure == "reset_midway":
            return await broken_off(request, b'{"created":1,"data":[{"b64_json":"iVBO')
        if fields.get("stream") and not failure.startswith("url"):
            return await streamed(request, self._serial, fields, failure)
        return self._pictures(fields, failure)

    def _pictures(self, fields: Fields, failure: str) -> web.Response:
        count = fields.get("n", 1) - (failure == "fewer")
        if failure.startswith("url"):
            data = b",".join(b'{"url":"%s","revised_prompt":"revised"}' % self._url(failure) for _ in range(count))
        elif failure == "large":
            data = b'{"b64_json":"%s"}' % base64.b64encode(draw(int(fields["size"].split("x")[0]), 4))
        else:
            data = b",".join(b'{"b64_json":"%s"}' % self._picture.base64(next(self._serial)) for _ in range(count))
        answer = web.Response(
            body=b'{"created":1,"data":[%s],"usage":%s}' % (data, USAGE), content_type="application/json"
        )
        return answer if failure == "no_id" else self._identified(answer)

    def _identified(self, answer: web.Response) -> web.Response:
        answer.headers[self.request_id] = f"req_{next(self._serial):08d}"
        answer.headers.update(LIMITS)
        return answer

    def _url(self, failure: str) -> bytes:
        name = f"{failure}-{next(self._serial)}.png"
        self._urls[name] = self._picture.png(next(self._serial))
        return f"{self.origin}/files/{name}".encode()

    async def _file(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        self._downloads[name] += 1
        if name.startswith("url_expired"):
            return web.Response(status=403)
        if name.startswith("url_flaky") and self._downloads[name] == 1:
            return web.Response(status=503)
        return web.Response(body=self._urls[name], content_type="image/png")


async def _serve(config: StubConfig) -> None:
    stub = OpenAIStub(config)
    await stub.start()
    print(json.dumps({"base_url": stub.base_url}), flush=True)  # noqa: T201 - the launcher reads it
    try:
        await asyncio.Event().wait()
    finally:
        await stub.stop()


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--size", choices=["tiny", "small", "large"], default="small")
    parser.add_argument("--latency", type=float, default=0.0, metavar="MS")
    parser.add_argument("--key", default="sk-stub")
    options = parser.parse_args()
    asyncio.run(_serve(StubConfig(options.size, options.latency / 1000, options.key, options.port)))


if __name__ == "__main__":
    main()
