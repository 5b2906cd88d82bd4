"""An OpenAI-compatible chat server with a Llama Guard behind it, strict."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from tests.moderation.fakes.vendor import KEY, FakeVendor, needs, only, picture_of

MODEL = "meta-llama/Llama-Guard-4-12B"


class FakeChatGuard(FakeVendor):
    """Labels are its codes; the word of a label in lower case is what it says instead of a judgement."""

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/v1/chat/completions", self.handle)]

    async def judge(self, request: web.Request) -> object:
        needs(request, "Authorization", f"Bearer {KEY}")
        body = await request.json()
        only(
            body,
            {
                "model": lambda v: v == MODEL,
                "messages": lambda v: len(v) == 1 and set(v[0]) == {"role", "content"} and v[0]["role"] == "user",
                "temperature": lambda v: v == 0,
                "max_tokens": lambda v: 1 <= v <= 512,
            },
        )
        self.asked.append(self._shown(body["messages"][0]["content"]))
        message = {"role": "assistant", "content": self._said()}
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": MODEL,
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        }

    def _shown(self, content: Any) -> Any:
        if isinstance(content, str) and content:
            return content
        [part] = content
        only(part, {"type": lambda v: v == "image_url", "image_url": lambda v: set(v) == {"url"}})
        return picture_of(part["image_url"]["url"].partition(";base64,")[2])

    def _said(self) -> str:
        said = next((label for label in self.found if label.islower()), "")
        if said:
            return said
        return "\n\nunsafe\n" + ",".join(self.found) if self.found else "\n\nsafe"

    def error(self, status: int) -> object:
        return {"object": "error", "message": "no", "code": status}
