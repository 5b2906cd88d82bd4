"""A small inference service on loopback that speaks the contract and fails on request, as `fail:<STATUS CODE>`.

Other prompts: `stall` draws for ever, `cut` ends the stream early, `torn` sends pieces out of order, `wrong_hash` lies
about the bytes, `nothing` draws nothing.
"""

from __future__ import annotations

import asyncio
import collections
import hashlib
from collections.abc import AsyncIterator

import grpc
import grpc.aio
from imagemesh.inference.v1 import generation_pb2, inference_service_pb2, inference_service_pb2_grpc, model_pb2
from imagemesh.type.v1 import image_pb2

from tests.router.fakes.pictures import picture

CHUNK = 200
Request = inference_service_pb2.GenerateRequest
Response = inference_service_pb2.GenerateResponse


class FakeInference(inference_service_pb2_grpc.InferenceServiceServicer):
    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.tenants: list[str] = []
        self.posts: collections.Counter[str] = collections.Counter()
        self.changed = asyncio.Condition()
        self.canceled = 0
        self._picture = picture("tiny")
        self._server: grpc.aio.Server | None = None
        self.target = ""
        self.models: list[model_pb2.Model] = []

    async def start(self, port: int = 0) -> None:
        self._server = grpc.aio.server()
        inference_service_pb2_grpc.add_InferenceServiceServicer_to_server(self, self._server)
        port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        await self._server.start()
        self.target = f"127.0.0.1:{port}"

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(None)

    async def until_asked(self, prompt: str, times: int = 1) -> None:
        async with self.changed:
            await self.changed.wait_for(lambda: self.posts[prompt] >= times)

    async def until_canceled(self) -> None:
        async with self.changed:
            await self.changed.wait_for(lambda: self.canceled > 0)

    async def ListModels(
        self, request: inference_service_pb2.ListModelsRequest, context: object
    ) -> inference_service_pb2.ListModelsResponse:
        return inference_service_pb2.ListModelsResponse(models=self.models)

    async def Generate(
        self, request: Request, context: grpc.aio.ServicerContext[Request, Response]
    ) -> AsyncIterator[Response]:
        await self._note(request, context)
        prompt = request.prompt
        if prompt.startswith("fail:"):
            await context.abort(grpc.StatusCode[prompt.removeprefix("fail:")], "as asked")
        yield Response(progress=generation_pb2.Progress(step=1, steps=2))
        if request.previews:
            yield Response(preview=generation_pb2.Preview(step=1, data=b"rough", media_type="image/jpeg"))
        if prompt == "stall":
            await self._stall()
        if prompt == "cut":
            return
        summary = generation_pb2.Summary(model_version="v9", gpu_seconds=0.5, steps=2)
        for index in range(0 if prompt == "nothing" else request.count):
            async for event in self._draw(request, index, summary):
                yield event
        yield Response(summary=summary)

    async def _note(self, request: Request, context: grpc.aio.ServicerContext[Request, Response]) -> None:
        metadata = dict(context.invocation_metadata() or ())
        async with self.changed:
            self.requests.append(request)
            self.tenants.append(str(metadata.get("x-imagemesh-tenant", "")))
            self.posts[request.prompt] += 1
            self.changed.notify_all()

    async def _stall(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            async with self.changed:
                self.canceled += 1
                self.changed.notify_all()

    async def _draw(self, request: Request, index: int, summary: generation_pb2.Summary) -> AsyncIterator[Response]:
        seed = (request.seed + index) % 2**32
        data = self._picture.png(seed)
        digest = hashlib.sha256(b"other" if request.prompt == "wrong_hash" else data).hexdigest()
        summary.images.add(seed=seed, width=16, height=16, media_type="image/png")
        offsets = list(range(0, len(data), CHUNK))
        for offset in reversed(offsets) if request.prompt == "torn" else offsets:
            last = offset == offsets[-1]
            piece = data[offset : offset + CHUNK]
            chunk = image_pb2.Chunk(index=index, offset=offset, data=piece, last=last, sha256=digest if last else "")
            yield Response(chunk=chunk)
