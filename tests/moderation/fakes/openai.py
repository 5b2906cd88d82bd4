"""OpenAI's `POST /v1/moderations`, strict."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from tests.moderation.fakes.vendor import KEY, FakeVendor, needs, only, picture_of

CATEGORIES = (
    "harassment",
    "harassment/threatening",
    "sexual",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm/intent",
    "self-harm/instructions",
    "self-harm",
    "sexual/minors",
    "violence",
    "violence/graphic",
)
OF_PICTURES = ("sexual", "self-harm", "self-harm/intent", "self-harm/instructions", "violence", "violence/graphic")


class FakeOpenAi(FakeVendor):
    def routes(self) -> list[web.RouteDef]:
        return [web.post("/moderations", self.handle)]

    async def judge(self, request: web.Request) -> object:
        needs(request, "Authorization", f"Bearer {KEY}")
        body = await request.json()
        only(body, {"model": lambda v: v == "omni-moderation-2024-09-26", "input": lambda v: len(v) == 1})
        part = body["input"][0]
        kind = "image" if part.get("type") == "image_url" else "text"
        self.asked.append(self._picture(part) if kind == "image" else self._text(part))
        told = CATEGORIES if kind == "text" else OF_PICTURES
        scores = {name: self.found.get(name, 0.0001) if name in told else 0 for name in CATEGORIES}
        result = {
            "flagged": any(score > 0.5 for score in scores.values()),
            "categories": {name: score > 0.5 for name, score in scores.items()},
            "category_scores": scores,
            "category_applied_input_types": {name: [kind] if name in told else [] for name in CATEGORIES},
        }
        return {"id": "modr-1", "model": body["model"], "results": [result]}

    def _text(self, part: Any) -> str:
        only(part, {"type": lambda v: v == "text", "text": lambda v: isinstance(v, str) and bool(v)})
        return str(part["text"])

    def _picture(self, part: Any) -> Any:
        only(part, {"type": lambda v: v == "image_url", "image_url": lambda v: set(v) == {"url"}})
        head, _, data = part["image_url"]["url"].partition(";base64,")
        info = picture_of(data)
        if head != f"data:{info.media_type}":
            raise ValueError(head)
        return info

    def error(self, status: int) -> object:
        return {"error": {"message": "no", "type": "invalid_request_error", "param": None, "code": None}}
