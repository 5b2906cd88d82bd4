"""What the strict fakes of hosted vendors share: counting, failing on request, slow jobs, results that expire.

A prompt decides how a request goes:

    fail:<name>[:<n>]   the ordering POST fails that way (only the first n times); names are the fake's own, besides
                        `silent` (never answers), `reset` (drops the connection), `reset_midway` (within the answer)
    late:<name>         an asynchronous vendor accepts the order, and the job fails that way
    poll:<name>[:<n>]   an asynchronous vendor's polls fail that way (the first n times, 2 unless told)
    stall               an asynchronous vendor finishes it only after `release`; a synchronous one is silent
    url:expired|flaky   the result's address gives nothing, or only at the second try

`GET /_stub/posts` tells how often each prompt and each attempt id was accepted. As a process, for crash tests:

    python -m tests.router.fakes.run <vendor> --port 9000    (docs/providers.md)
"""

from __future__ import annotations

import asyncio
import collections
import itertools
import re
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import BodyPartReader, web

from mesh.imaging import probe
from tests.router.fakes.pictures import picture

Fields = dict[str, Any]
Check = Callable[[Any], bool]
ORDERED = 100
"""Accepted requests that are remembered."""


def whole(low: int, high: int) -> Check:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def number(low: float, high: float) -> Check:
    return lambda value: isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def one_of(*allowed: object) -> Check:
    return lambda value: value in allowed


def text(most: int, least: int = 1) -> Check:
    return lambda value: isinstance(value, str) and least <= len(value) <= most


def flag(value: Any) -> bool:
    return isinstance(value, bool)


def like(pattern: str) -> Check:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


def form_number(low: float, high: float) -> Check:
    """A number as multipart forms carry it: text."""
    digits = like(r"-?\d+(\.\d+)?")
    return lambda value: digits(value) and low <= float(value) <= high


def a_picture(value: Any) -> bool:
    """A file part or decoded bytes, as `described` left it."""
    return isinstance(value, str) and re.fullmatch(r"(png|jpeg|webp) \d+x\d+", value) is not None


def list_of(check: Check, most: int, least: int = 1) -> Check:
    return lambda value: isinstance(value, list) and least <= len(value) <= most and all(map(check, value))


def wrong_fields(body: Any, allowed: Mapping[str, Check], required: tuple[str, ...] = ()) -> list[str]:
    """Fields that the real server would refuse: unknown, of the wrong type or range, missing."""
    if not isinstance(body, dict):
        return ["body"]
    wrong = [name for name, value in body.items() if name not in allowed or not allowed[name](value)]
    return wrong + [name for name in required if name not in body]


def described(data: bytes) -> str:
    """`png 16x16`: what is remembered of a picture. Raises like `mesh.imaging.probe` when it is none."""
    info = probe(data)
    return f"{info.format} {info.width}x{info.height}"


async def form_of(request: web.Request) -> Fields:
    """A multipart form: texts as they are, pictures `described`, repeated names as lists."""
    if request.content_type != "multipart/form-data":
        raise web.HTTPUnsupportedMediaType
    fields: Fields = {}
    async for part in await request.multipart():
        assert isinstance(part, BodyPartReader)
        data = bytes(await part.read())
        value: Any = described(data) if part.filename and data else data.decode()
        name = str(part.name)
        if name in fields:
            earlier = fields[name]
            fields[name] = [*earlier, value] if isinstance(earlier, list) else [earlier, value]
        else:
            fields[name] = value
    return fields


@dataclass(frozen=True)
class Ordered:
    """One accepted request."""

    path: str
    fields: Fields
    headers: Mapping[str, str]


@dataclass
class FakeJob:
    """One accepted order of an asynchronous vendor."""

    id: str
    prompt: str
    count: int = 1
    fields: Fields = field(default_factory=dict)
    polls: int = 0
    canceled: bool = False
    released: bool = False
    call_back: str = ""

    @property
    def late(self) -> str:
        """How it fails, if it shall."""
        return self.prompt.removeprefix("late:") if self.prompt.startswith("late:") else ""

    @property
    def done(self) -> bool:
        """Whether it is drawn by now: at the second poll, unless it stalls."""
        return self.released or (self.polls > 1 and self.prompt != "stall")


async def _nobody(_job: FakeJob) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True)
class FakeConfig:
    """How a fake behaves."""

    size: str = "tiny"
    latency: float = 0.0
    """Seconds before each answer to an order."""
    port: int = 0


class VendorFake(ABC):
    """A vendor on loopback. `start` binds, `stop` frees; `origin` is where it listens."""

    key = "key-stub"
    """What it accepts as credentials."""

    def __init__(self, config: FakeConfig | None = None) -> None:
        self.config = config or FakeConfig()
        self._picture = picture(self.config.size)
        self._serial = itertools.count(1)
        self._runner: web.AppRunner | None = None
        self._files: dict[str, bytes] = {}
        self._downloads: collections.Counter[str] = collections.Counter()
        self.posts: collections.Counter[str] = collections.Counter()
        """Orders that passed the checks, by prompt; failing ones count too."""
        self.attempts: collections.Counter[str] = collections.Counter()
        """The same by our attempt id, where the vendor is told it."""
        self.accepted: collections.Counter[str] = collections.Counter()
        """Orders that the vendor took on (and would bill), by prompt."""
        self.orders: list[Ordered] = []
        self.jobs: dict[str, FakeJob] = {}
        self.changed = asyncio.Condition()
        self.origin = ""
        self.on_released: Callable[[FakeJob], Awaitable[None]] = _nobody
        """Told of each order that `POST /_stub/release` has finished."""

    @abstractmethod
    def routes(self, app: web.Application) -> None:
        """Add the vendor's routes."""

    async def start(self) -> None:
        """Bind to loopback."""
        app = web.Application(client_max_size=64 * 1024 * 1024)
        self.routes(app)
        app.router.add_get("/_files/{name}", self._file)
        app.router.add_get("/_stub/posts", self._counters)
        app.router.add_post("/_stub/release", self._release)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.config.port, shutdown_timeout=0.1).start()
        self.origin = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Free the port."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def until_asked(self, prompt: str, times: int = 1) -> None:
        """Wait until `prompt` was POSTed so often."""
        async with self.changed:
            await self.changed.wait_for(lambda: self.posts[prompt] >= times)

    async def release(self, prompt: str) -> None:
        """Finish the orders for `prompt` that stall."""
        async with self.changed:
            for job in self.jobs.values():
                job.released = job.released or job.prompt == prompt
            self.changed.notify_all()

    def canceled(self, job_id: str) -> bool:
        """Whether the order was called off."""
        return self.jobs[job_id].canceled

    async def count(self, request: web.Request, prompt: str, fields: Fields, attempt_id: str = "") -> str:
        """Note an order that passed the checks; the name of the failure its prompt wants, or an empty text."""
        async with self.changed:
            self.posts[prompt] += 1
            if attempt_id:
                self.attempts[attempt_id] += 1
            ordered = Ordered(request.path, fields, dict(request.headers))
            self.orders = [*self.orders[-ORDERED + 1 :], ordered]
            self.changed.notify_all()
        failure = self.failure(prompt)
        if failure == "silent" or (prompt == "stall" and not self.asynchronous):
            await asyncio.Event().wait()
        if failure == "reset":
            drop(request)
        if self.config.latency:
            await asyncio.sleep(self.config.latency)
        if not failure:
            self.accepted[prompt] += 1
        return failure

    asynchronous = False
    """Whether orders become jobs."""

    def failure(self, prompt: str) -> str:
        """The name of the failure that the prompt wants now."""
        match = re.match(r"fail:(\w+)(?::(\d+))?", prompt)
        if match is None or (match[2] and self.posts[prompt] > int(match[2])):
            return ""
        return match[1]

    def open_job(self, prompt: str, count: int = 1, fields: Fields | None = None, job_id: str = "") -> FakeJob:
        """A new job of an asynchronous vendor."""
        job_id = job_id or f"job-{next(self._serial):06d}"
        job = self.jobs[job_id] = FakeJob(job_id, prompt, count, fields or {})
        return job

    async def polled(self, job: FakeJob) -> web.Response | None:
        """Note a poll; a bad answer when the prompt wants one."""
        async with self.changed:
            job.polls += 1
            self.changed.notify_all()
        match = re.match(r"poll:(\w+)(?::(\d+))?", job.prompt)
        if match is None or job.polls > int(match[2] or 2):
            return None
        bad = {"overloaded": 503, "rate_limited": 429, "bad_gateway": 502}
        return web.Response(status=bad[match[1]], text="not now")

    async def cancel(self, job: FakeJob) -> None:
        """The order is called off."""
        async with self.changed:
            job.canceled = True
            self.changed.notify_all()

    def png(self) -> bytes:
        """A picture like no other."""
        return self._picture.png(next(self._serial))

    def url(self, prompt: str = "") -> str:
        """An address that gives a new picture, or does not, as the prompt wants."""
        manner = prompt.removeprefix("url:") if prompt.startswith("url:") else "plain"
        name = f"{manner}-{next(self._serial)}.png"
        self._files[name] = b"no picture" if manner == "broken" else self.png()
        return f"{self.origin}/_files/{name}"

    async def _file(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if "Authorization" in request.headers or "x-key" in request.headers:
            return web.Response(status=400, text="a signed address wants no key")
        self._downloads[name] += 1
        if name.startswith("expired"):
            return web.Response(status=403)
        if name.startswith("flaky") and self._downloads[name] == 1:
            return web.Response(status=503)
        return web.Response(body=self._files[name], content_type="image/png")

    async def _release(self, request: web.Request) -> web.Response:
        prompt = request.query.get("prompt", "stall")
        waiting = [job for job in self.jobs.values() if job.prompt == prompt and not (job.released or job.canceled)]
        await self.release(prompt)
        for job in waiting:
            await self.on_released(job)
        return web.json_response({"released": [job.id for job in waiting]})

    async def _counters(self, _request: web.Request) -> web.Response:
        polls = {job.id: job.polls for job in self.jobs.values()}
        told = {"prompts": self.posts, "attempts": self.attempts, "accepted": self.accepted, "polls": polls}
        return web.json_response(told)


async def broken_off(request: web.Request, beginning: bytes) -> web.StreamResponse:
    """An answer that ends in the middle."""
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "100000"})
    await response.prepare(request)
    await response.write(beginning)
    drop(request)
    return response


def drop(request: web.Request) -> None:
    """Cut the connection."""
    if request.transport is not None:
        request.transport.abort()
