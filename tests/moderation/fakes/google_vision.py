"""Cloud Vision's `POST /v1/images:annotate`, strict."""

from __future__ import annotations

from aiohttp import web

from tests.moderation.fakes.vendor import KEY, FakeVendor, needs, only, picture_of

WORDS = ("VERY_UNLIKELY", "UNLIKELY", "POSSIBLE", "LIKELY", "VERY_LIKELY")


class FakeGoogleVision(FakeVendor):
    """A score of .95 is VERY_LIKELY; `UNKNOWN` as a label makes all of them unknown."""

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/images:annotate", self.handle)]

    async def judge(self, request: web.Request) -> object:
        needs(request, "X-Goog-Api-Key", KEY)
        body = await request.json()
        only(body, {"requests": lambda v: len(v) == 1})
        features = [{"type": "SAFE_SEARCH_DETECTION"}]
        only(body["requests"][0], {"image": lambda v: set(v) == {"content"}, "features": lambda v: v == features})
        self.asked.append(picture_of(body["requests"][0]["image"]["content"]))
        words = {name: self._word(name) for name in ("adult", "spoof", "medical", "violence", "racy")}
        return {"responses": [{"safeSearchAnnotation": words}]}

    def _word(self, name: str) -> str:
        if "UNKNOWN" in self.found:
            return "UNKNOWN"
        return WORDS[min(4, int(self.found.get(name, 0.0) * 5))]

    def error(self, status: int) -> object:
        return {"error": {"code": status, "message": "no", "status": "INVALID_ARGUMENT"}}
