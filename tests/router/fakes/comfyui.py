"""A strict ComfyUI: nodes with their inputs and links, uploads, queue, history, interrupts. One order runs at a time.

The prompt is what the node `positive` says. Failures of the POST are the keys of `FAILURES`, of nodes those of
`EXCEPTIONS`; `late:lost` is forgotten, as after a restart, `late:interrupted` stopped by somebody else; the prompt
`steps` is drawn once its client was told how far it is; `fail:taken_then_cut` is queued and the answer lost;
`fail:chooses_id` makes it an old server that chooses ids itself.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from tests.router.fakes.vendor import (
    Check,
    FakeJob,
    Fields,
    VendorFake,
    broken_off,
    described,
    drop,
    flag,
    number,
    one_of,
    text,
    whole,
)

CHECKPOINT = "painter.safetensors"
UPSCALER = "esrgan-x4.pth"
_EDGE: Check = lambda value: whole(16, 16384)(value) and value % 8 == 0  # noqa: E731 - a row of the table below
_NAME = text(300)

NODES: Mapping[str, tuple[Mapping[str, Check], tuple[str, ...]]] = {
    "CheckpointLoaderSimple": ({"ckpt_name": one_of(CHECKPOINT)}, ()),
    "CLIPTextEncode": ({"text": text(32_000, least=0)}, ("clip",)),
    "EmptyLatentImage": ({"width": _EDGE, "height": _EDGE, "batch_size": whole(1, 64)}, ()),
    "KSampler": (
        {
            "seed": whole(0, 2**64 - 1),
            "steps": whole(1, 10_000),
            "cfg": number(0, 100),
            "sampler_name": one_of("euler", "euler_ancestral", "ddim", "dpmpp_2m"),
            "scheduler": one_of("normal", "karras"),
            "denoise": number(0, 1),
        },
        ("model", "positive", "negative", "latent_image"),
    ),
    "VAEDecode": ({}, ("samples", "vae")),
    "VAEEncode": ({}, ("pixels", "vae")),
    "LoadImage": ({"image": _NAME}, ()),
    "LoadImageMask": ({"image": _NAME, "channel": one_of("alpha", "red", "green", "blue")}, ()),
    "SetLatentNoiseMask": ({}, ("samples", "mask")),
    "ImageCompositeMasked": (
        {"x": whole(0, 16384), "y": whole(0, 16384), "resize_source": flag},
        ("destination", "source", "mask"),
    ),
    "UpscaleModelLoader": ({"model_name": one_of(UPSCALER)}, ()),
    "ImageUpscaleWithModel": ({}, ("upscale_model", "image")),
    "ImageScale": (
        {
            "upscale_method": one_of("lanczos", "area"),
            "width": whole(0, 16384),
            "height": whole(0, 16384),
            "crop": one_of("disabled", "center"),
        },
        ("image",),
    ),
    "PreviewImage": ({}, ("images",)),
}
"""By class: values with their checks, and inputs that are links to other nodes. All of them are required."""


def _bad_graph(node: str, said: str) -> web.Response:
    error = {"type": "prompt_outputs_failed_validation", "message": said, "details": "", "extra_info": {}}
    node_errors = {node: {"errors": [{"type": "value_not_in_list", "message": said, "details": ""}]}}
    return web.json_response({"error": error, "node_errors": node_errors}, status=400)


FAILURES: Mapping[str, Callable[[], web.Response]] = {
    "bad_graph": lambda: _bad_graph("checkpoint", "Value not in list"),
    "too_large": lambda: web.Response(status=413, text="Maximum request body size exceeded"),
    "proxy_refuses": lambda: web.Response(status=401, text="who are you?"),
    "rate_limited": lambda: web.Response(status=429, headers={"Retry-After": "7"}),
    "error500": lambda: web.Response(status=500, text="500 Internal Server Error"),
    "not_yet": lambda: web.Response(status=503),
    "bad_gateway": lambda: web.Response(status=502, text="bad gateway"),
    "bad_json": lambda: web.Response(text='{"prompt_id": "', content_type="application/json"),
    "not_an_object": lambda: web.json_response([]),
    "no_id": lambda: web.json_response({"number": 1, "node_errors": {}}),
}

EXCEPTIONS: Mapping[str, str] = {
    "out_of_memory": "torch.OutOfMemoryError",
    "cuda": "torch.AcceleratorError",
    "runtime": "RuntimeError",
    "missing": "FileNotFoundError",
}


def _guarded(key: str) -> Any:
    """A proxy before the server."""

    @web.middleware
    async def guard(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if not request.path.startswith("/_") and request.headers.get("Authorization") != f"Bearer {key}":
            return FAILURES["proxy_refuses"]()
        return await handler(request)

    return guard


class ComfyUiFake(VendorFake):
    """The server, behind a proxy that asks for a token."""

    asynchronous = True

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.uploads: dict[str, bytes] = {}
        self.failing_upload: tuple[int, str] | None = None
        """By the name under which graphs load them."""
        self.interrupts: list[Fields] = []
        self.somebody_else_runs = False
        """Orders of ours wait behind another one."""
        self._told: dict[str, int] = {}
        """Polls of an order when its client had been told how far it is."""

    def routes(self, app: web.Application) -> None:
        app.middlewares.append(_guarded(self.key))
        app.router.add_post("/upload/image", self._upload)
        app.router.add_post("/prompt", self._prompt)
        app.router.add_get("/history/{id}", self._history)
        app.router.add_get("/queue", self._queue)
        app.router.add_post("/queue", self._delete)
        app.router.add_post("/interrupt", self._interrupt)
        app.router.add_get("/view", self._view)
        app.router.add_get("/ws", self._socket)
        app.router.add_get("/system_stats", self._stats)

    async def _upload(self, request: web.Request) -> web.Response:
        parts, sent = await form_and_file(request)
        if self.failing_upload is not None:
            return web.Response(status=self.failing_upload[0], text=self.failing_upload[1])
        if set(parts) != {"image", "type", "subfolder", "overwrite"} or parts["type"] != "temp":
            return web.Response(status=400)
        name = f"{parts['subfolder']}/{parts['image']} [temp]"
        self.uploads[name] = sent
        return web.json_response({"name": parts["image"], "subfolder": parts["subfolder"], "type": "temp"})

    async def _prompt(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if set(body) != {"prompt", "prompt_id", "client_id"} or request.content_type != "application/json":
            return _bad_graph("", f"unknown fields in {sorted(body)}")
        fields, wrong = self._checked(body["prompt"])
        if wrong:
            return _bad_graph(wrong[0], f"wrong: {wrong}")
        prompt = str(fields.get("positive.text", ""))
        failure = await self.count(request, prompt, fields)
        if failure in FAILURES or failure == "reset":
            return FAILURES.get(failure, FAILURES["bad_gateway"])()
        if failure == "reset_midway":
            return await broken_off(request, b'{"prompt_id": "')
        job_id = "" if failure == "chooses_id" else body["prompt_id"]
        job = self.open_job(prompt, fields=body["prompt"], job_id=job_id)
        if failure == "taken_then_cut":
            drop(request)
        return web.json_response({"prompt_id": job.id, "number": len(self.jobs), "node_errors": {}})

    def _checked(self, graph: Fields) -> tuple[Fields, list[str]]:
        """The graph's values by `node.input`, pictures described; and what is wrong with it."""
        values: Fields = {}
        wrong: list[str] = []
        for node, told in graph.items():
            checks, links = NODES.get(told["class_type"], ({}, ()))
            inputs = told["inputs"]
            known = told["class_type"] in NODES and set(inputs) == {*checks, *links}
            linked = all(isinstance(inputs.get(name), list) and inputs[name][0] in graph for name in links)
            if not (known and linked and all(check(inputs[name]) for name, check in checks.items())):
                wrong.append(node)
                continue
            for name in checks:
                value = inputs[name]
                if name == "image":
                    if value not in self.uploads:
                        wrong.append(node)
                        continue
                    value = described(self.uploads[value])
                values[f"{node}.{name}"] = value
        return values, wrong

    async def _history(self, request: web.Request) -> web.StreamResponse:
        job = self.jobs.get(request.match_info["id"])
        if job is None:
            return web.json_response({})
        if bad := await self.polled(job):
            return bad
        if job.late == "bad_json":
            return web.Response(text='{"', content_type="application/json")
        if job.late == "forbidden":
            return web.Response(status=403)
        if job.late == "lost" or not self._ended(job):
            return web.json_response({})
        return web.json_response({job.id: self._entry(job)})

    def _entry(self, job: FakeJob) -> Fields:
        told = {"prompt_id": job.id}
        messages: list[Any] = [["execution_start", {**told, "timestamp": 1_790_000_000_000}]]
        if job.canceled or job.late == "interrupted":
            messages.append(["execution_interrupted", {**told, "node_id": "sampler", "executed": []}])
        elif job.late in EXCEPTIONS:
            error = {"exception_message": f"about {job.prompt}", "exception_type": EXCEPTIONS[job.late]}
            messages.append(["execution_error", {**told, **error, "node_id": "sampler", "traceback": []}])
        else:
            messages.append(["execution_success", {**told, "timestamp": 1_790_000_001_250}])
        ended = len(messages) == 2 and messages[1][0] == "execution_success"
        image = {"filename": f"{job.id}.png", "subfolder": "", "type": "temp"}
        outputs = {"shown": {"images": [image]}} if ended and job.late != "no_picture" else {}
        status = {"status_str": "success" if ended else "error", "completed": ended, "messages": messages}
        return {"prompt": [1, job.id, job.fields, {}, ["shown"]], "outputs": outputs, "status": status, "meta": {}}

    def _ended(self, job: FakeJob) -> bool:
        unheard = job.prompt == "steps" and job.polls < self._told.get(job.id, job.polls) + 2
        return job.canceled or (job.done and not unheard)

    def _waiting(self) -> list[FakeJob]:
        return [job for job in self.jobs.values() if not (self._ended(job) or job.late == "lost")]

    async def _queue(self, _request: web.Request) -> web.Response:
        waiting: list[list[Any]] = [[1, job.id, {}, {}, ["shown"]] for job in self._waiting()]
        if self.somebody_else_runs:
            waiting.insert(0, [0, "somebody-else", {}, {}, ["shown"]])
        return web.json_response({"queue_running": waiting[:1], "queue_pending": waiting[1:]})

    async def _delete(self, request: web.Request) -> web.Response:
        pending = self._waiting() if self.somebody_else_runs else self._waiting()[1:]
        for job in pending:
            if job.id in (await request.json())["delete"]:
                await self.cancel(job)
        return web.Response()

    async def _interrupt(self, request: web.Request) -> web.Response:
        self.interrupts.append(await request.json())
        for job in self._waiting()[:1]:
            if self.interrupts[-1].get("prompt_id") in (None, job.id):
                await self.cancel(job)
        return web.Response()

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        """Tells the client of the order `steps` how far it is, besides what others might hear."""
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        client = request.query["clientId"]
        async with self.changed:
            await self.changed.wait_for(lambda: client in self.jobs and self.jobs[client].polls > 0)
        if self.jobs[client].prompt == "steps":
            told = {"value": 3, "max": 20, "prompt_id": client, "node": "sampler"}
            await socket.send_json({"type": "status", "data": {"status": {"exec_info": {"queue_remaining": 1}}}})
            await socket.send_json({"type": "progress", "data": {**told, "prompt_id": "somebody-else", "value": 9}})
            await socket.send_json({"type": "progress", "data": told})
            await socket.send_bytes(struct.pack(">II", 3, 0) + b"text")
            await socket.send_bytes(struct.pack(">II", 1, 2) + self.png())
            self._told[client] = self.jobs[client].polls
            await asyncio.wait_for(socket.receive(), 20)
        return socket

    async def _view(self, request: web.Request) -> web.Response:
        job = self.jobs.get(request.query["filename"].removesuffix(".png"))
        if job is None or set(request.query) != {"filename", "subfolder", "type"} or job.prompt == "url:expired":
            return web.Response(status=404)
        self._downloads[job.id] += 1
        if job.prompt == "url:flaky" and self._downloads[job.id] == 1:
            return web.Response(status=503)
        return web.Response(body=b"hello" if job.prompt == "url:broken" else self.png(), content_type="image/png")

    async def _stats(self, _request: web.Request) -> web.Response:
        return web.json_response({"system": {"comfyui_version": "0.3.65", "os": "posix"}, "devices": []})


async def form_and_file(request: web.Request) -> tuple[Fields, bytes]:
    """The form with the file's name for the file, and the file, which must be a picture."""
    form = await request.post()
    file = form["image"]
    assert isinstance(file, web.FileField)
    data = file.file.read()
    described(data)
    return {name: value if isinstance(value, str) else file.filename for name, value in form.items()}, data
