"""A strict OpenAI-compatible images server on loopback, that counts what it is asked.

It refuses what the real ones refuse (unknown fields, wrong types, missing headers, fields of another model family) and
fails on request: a prompt that begins with `fail:<name>` fails that way, `fail:<name>:<n>` only the first n times that
this prompt is asked. `FAILURES` lists the names. It also stands in for hosted providers in crash tests and benchmarks:

    python -m tests.router.fakes.openai --port 9000 --size small --latency 0

`GET /_stub/posts` tells how often each prompt and each `X-Client-Request-Id` was POSTed.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import itertools
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from tests.router.fakes.pictures import picture

Fields = dict[str, Any]
Check = Callable[[Any], bool]


def _whole(low: int, high: int) -> Check:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _one_of(*allowed: str) -> Check:
    return lambda value: value in allowed


def _number(low: float, high: float) -> Check:
    return lambda value: isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _text(most: int) -> Check:
    return lambda value: isinstance(value, str) and 0 < len(value) <= most


def _size(value: Any) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(r"auto|[1-9]\d{1,3}x[1-9]\d{1,3}", value))


_COMMON: dict[str, Check] = {"prompt": _text(32_000), "model": _text(200), "n": _whole(1, 10), "size": _size}

FAMILIES: dict[str, dict[str, Check]] = {
    "gpt-image": {
        **_COMMON,
        "quality": _one_of("auto", "low", "medium", "high"),
        "background": _one_of("auto", "opaque", "transparent"),
        "output_format": _one_of("png", "jpeg", "webp"),
        "output_compression": _whole(0, 100),
        "moderation": _one_of("auto", "low"),
        "safety_identifier": _text(64),
    },
    "dall-e": {
        **_COMMON,
        "quality": _one_of("standard", "hd"),
        "style": _one_of("vivid", "natural"),
        "response_format": _one_of("b64_json", "url"),
        "user": _text(64),
    },
    "": {
        **_COMMON,
        "response_format": _one_of("b64_json", "url"),
        "negative_prompt": _text(32_000),
        "seed": _whole(0, 2**32 - 1),
        "num_inference_steps": _whole(1, 200),
        "guidance_scale": _number(0, 20),
        "output_format": _one_of("png", "jpeg", "webp"),
    },
}
"""Fields by the beginning of the model's name; the empty one is every other server."""


def _error(status: int, code: str | None, kind: str = "invalid_request_error", **headers: str) -> web.Response:
    body = {"error": {"message": f"stub says {code or status}", "type": kind, "param": None, "code": code}}
    return web.json_response(body, status=status, headers={k.replace("_", "-"): v for k, v in headers.items()})


FAILURES: dict[str, Callable[[], web.Response]] = {
    "moderation": lambda: _error(400, "moderation_blocked", "image_generation_user_error"),
    "policy": lambda: _error(400, "content_policy_violation"),
    "bad_request": lambda: _error(400, "invalid_value"),
    "unprocessable": lambda: web.json_response({"detail": "size is not served"}, status=422),
    "too_large": lambda: _error(413, None),
    "no_model": lambda: _error(404, "model_not_found"),
    "unauthorized": lambda: _error(401, "invalid_api_key"),
    "forbidden": lambda: _error(403, "unsupported_country_region_territory"),
    "payment": lambda: _error(402, None),
    "quota": lambda: _error(429, "insufficient_quota", "insufficient_quota"),
    "billing": lambda: _error(400, "billing_hard_limit_reached"),
    "rate_limited": lambda: _error(429, "rate_limit_exceeded", "requests", retry_after="7"),
    "rate_limited_ms": lambda: _error(429, "rate_limit_exceeded", "requests", retry_after_ms="1500"),
    "rate_limited_bare": lambda: _error(429, "rate_limit_exceeded", "requests"),
    "error500": lambda: _error(500, None, "server_error"),
    "overloaded": lambda: _error(503, None, "server_error"),
    "site_overloaded": lambda: _error(529, None, "server_error"),
    "request_timeout": lambda: _error(408, None, "server_error"),
    "bad_gateway": lambda: _error(502, None, "server_error"),
    "gateway_timeout": lambda: _error(504, None, "server_error"),
    "bad_json": lambda: web.Response(text='{"created": 1, "data": [{"b64_', content_type="application/json"),
    "not_an_object": lambda: web.json_response(["no", "object"]),
    "no_data": lambda: web.json_response({"created": 1, "data": []}),
    "bad_base64": lambda: web.json_response({"created": 1, "data": [{"b64_json": "***"}]}),
    "not_an_image": lambda: web.json_response({"created": 1, "data": [{"b64_json": "aGVsbG8gd29ybGQ="}]}),
    "redirect": lambda: web.Response(status=302, headers={"Location": "/elsewhere"}),
}
"""Answers that are not pictures. Besides these: `reset` (drops the connection), `reset_midway` (drops it within the
answer), `silent` (never answers), `fewer` (one picture less), `url`, `url_expired`, `url_flaky` (addresses, no bytes),
`no_id` (no request id)."""


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

    def __init__(self, config: StubConfig | None = None) -> None:
        self._config = config or StubConfig()
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
        self.asked = asyncio.Condition()
        self.base_url = ""

    async def start(self) -> None:
        """Bind to loopback."""
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/v1/images/generations", self._generate)
        app.router.add_get("/files/{name}", self._file)
        app.router.add_get("/_stub/posts", self._counters)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._config.port, shutdown_timeout=0.1).start()
        self.base_url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"

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

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        refused = self._check_headers(request)
        if refused is not None:
            return refused
        body = await request.json()
        wrong = check_fields(body)
        if wrong:
            return _error(400, f"unknown_or_invalid:{','.join(wrong)}")
        await self._count(request, body)
        if self._config.latency:
            await asyncio.sleep(self._config.latency)
        failure = self._failure(body["prompt"])
        return await self._answer(request, body, failure)

    def _check_headers(self, request: web.Request) -> web.Response | None:
        if request.headers.get("Authorization") != f"Bearer {self._config.key}":
            return _error(401, "invalid_api_key")
        if request.content_type != "application/json":
            return _error(415, "unsupported_media_type")
        if not request.headers.get("X-Client-Request-Id"):
            return _error(400, "missing_header")
        return None

    async def _count(self, request: web.Request, body: Fields) -> None:
        async with self.asked:
            self.posts[body["prompt"]] += 1
            self.attempts[request.headers["X-Client-Request-Id"]] += 1
            self.bodies = [*self.bodies[-99:], body]
            self.asked.notify_all()

    def _failure(self, prompt: str) -> str:
        match = re.match(r"fail:(\w+)(?::(\d+))?", prompt)
        if match is None or (match[2] and self.posts[prompt] > int(match[2])):
            return ""
        return match[1]

    async def _answer(self, request: web.Request, body: Fields, failure: str) -> web.StreamResponse:
        if failure in FAILURES:
            return self._identified(FAILURES[failure]())
        if failure == "silent":
            await asyncio.Event().wait()
        if failure == "reset":
            _drop(request)
        if failure == "reset_midway":
            return await self._broken_off(request)
        return self._pictures(body, failure)

    def _pictures(self, body: Fields, failure: str) -> web.Response:
        count = body.get("n", 1) - (failure == "fewer")
        if failure.startswith("url"):
            data = b",".join(b'{"url":"%s","revised_prompt":"revised"}' % self._url(failure) for _ in range(count))
        else:
            data = b",".join(b'{"b64_json":"%s"}' % self._picture.base64(next(self._serial)) for _ in range(count))
        usage = b'{"input_tokens":10,"output_tokens":100,"total_tokens":110,"input_tokens_details":{"text_tokens":10}}'
        answer = web.Response(
            body=b'{"created":1,"data":[%s],"usage":%s}' % (data, usage), content_type="application/json"
        )
        return answer if failure == "no_id" else self._identified(answer)

    def _identified(self, answer: web.Response) -> web.Response:
        answer.headers["x-request-id"] = f"req_{next(self._serial):08d}"
        return answer

    def _url(self, failure: str) -> bytes:
        name = f"{failure}-{next(self._serial)}.png"
        self._urls[name] = self._picture.png(next(self._serial))
        return f"{self.base_url.removesuffix('/v1')}/files/{name}".encode()

    async def _file(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        self._downloads[name] += 1
        if name.startswith("url_expired"):
            return web.Response(status=403)
        if name.startswith("url_flaky") and self._downloads[name] == 1:
            return web.Response(status=503)
        return web.Response(body=self._urls[name], content_type="image/png")

    async def _broken_off(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "100000"})
        await response.prepare(request)
        await response.write(b'{"created":1,"data":[{"b64_json":"iVBO')
        _drop(request)
        return response


def _drop(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


def check_fields(body: Any) -> list[str]:
    """The fields of a body that the real server would refuse."""
    if not isinstance(body, dict):
        return ["body"]
    family = next(name for name in FAMILIES if str(body.get("model", "")).startswith(name))
    allowed = FAMILIES[family]
    wrong = [name for name, value in body.items() if name not in allowed or not allowed[name](value)]
    return wrong + [name for name in ("prompt", "model") if name not in body]


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
