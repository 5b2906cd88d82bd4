"""Azure AI Content Safety's `text:analyze` and `image:analyze`, strict."""

from __future__ import annotations

from aiohttp import web

from tests.moderation.fakes.vendor import KEY, FakeVendor, needs, only, picture_of

CATEGORIES = ("Hate", "SelfHarm", "Sexual", "Violence")


class FakeAzureContentSafety(FakeVendor):
    """A score of .95 is severity 6."""

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/contentsafety/{what}", self.handle)]

    async def judge(self, request: web.Request) -> object:
        needs(request, "Ocp-Apim-Subscription-Key", KEY)
        if dict(request.query) != {"api-version": "2024-09-01"}:
            raise ValueError("api-version")
        body = await request.json()
        categories = {"categories": lambda v: set(v) <= set(CATEGORIES)}
        if request.match_info["what"] == "text:analyze":
            steps = ("FourSeverityLevels", "EightSeverityLevels")
            text = {"text": lambda v: isinstance(v, str) and len(v) <= 10_000, "outputType": lambda v: v in steps}
            only(body, {**categories, **text})
            self.asked.append(body["text"])
            return {"blocklistsMatch": [], "categoriesAnalysis": self._found(body["categories"])}
        if request.match_info["what"] != "image:analyze":
            raise ValueError("no such method")
        image = {"image": lambda v: set(v) == {"content"}, "outputType": lambda v: v == "FourSeverityLevels"}
        only(body, {**categories, **image})
        info = picture_of(body["image"]["content"])
        if min(info.width, info.height) < 50 or max(info.width, info.height) > 2_048 or info.size > 4_194_304:
            raise ValueError(f"InvalidImageSize {info}")
        self.asked.append(info)
        return {"categoriesAnalysis": self._found(body["categories"])}

    def _found(self, categories: list[str]) -> list[dict[str, object]]:
        return [{"category": name, "severity": int(self.found.get(name, 0) * 7 // 2 * 2)} for name in categories]

    def error(self, status: int) -> object:
        return {"error": {"code": "InvalidRequestBody", "message": "no"}}
