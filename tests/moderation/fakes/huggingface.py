"""A Hugging Face Inference Endpoint for text or image classification, strict."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from mesh.imaging import probe
from tests.moderation.fakes.vendor import KEY, FakeVendor, needs, only

LABELS = ("nsfw", "normal")


@dataclass
class FakeHuggingFace(FakeVendor):
    nested: bool = True
    """Whether a text's labels come in another list, as some versions of the server have it."""

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/endpoint", self.handle)]

    async def judge(self, request: web.Request) -> object:
        needs(request, "Authorization", f"Bearer {KEY}")
        if request.content_type == "application/json":
            body = await request.json()
            parameters = {"top_k", "function_to_apply"}
            only(body, {"inputs": lambda v: isinstance(v, str), "parameters": lambda v: set(v) <= parameters})
            self.asked.append(body["inputs"])
            return [self._found()] if self.nested else self._found()
        info = probe(await request.read())
        if request.content_type != info.media_type:
            raise ValueError(request.content_type)
        self.asked.append(info)
        return self._found()

    def _found(self) -> list[dict[str, object]]:
        known = {label: self.found.get(label, 0.001) for label in LABELS}
        return [{"label": name, "score": score} for name, score in {**known, **self.found}.items()]

    def error(self, status: int) -> object:
        return {"error": "no"}
