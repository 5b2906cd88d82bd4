"""Rekognition's DetectModerationLabels, strict; signatures are computed again with botocore."""

from __future__ import annotations

import json

from aiohttp import web
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.moderation.fakes.vendor import KEY, FakeVendor, only, picture_of

ACCESS_KEY = "AKIDTESTS"
PARENTS = {"Blood & Gore": "Graphic Violence", "Graphic Violence": "Violence", "Explicit Nudity": "Explicit"}


class FakeRekognition(FakeVendor):
    def routes(self) -> list[web.RouteDef]:
        return [web.post("/", self.handle)]

    async def judge(self, request: web.Request) -> object:
        content = await request.read()
        self._check_signature(request, content)
        if request.headers.get("X-Amz-Target") != "RekognitionService.DetectModerationLabels":
            raise ValueError("target")
        if request.content_type != "application/x-amz-json-1.1":
            raise ValueError("content type")
        body = json.loads(content)
        only(body, {"Image": lambda v: set(v) == {"Bytes"}, "MinConfidence": lambda v: 0 <= v <= 100})
        info = picture_of(body["Image"]["Bytes"])
        if info.format not in ("png", "jpeg") or min(info.width, info.height) < 50 or info.size > 5_242_880:
            raise ValueError(f"InvalidImageFormatException {info}")
        self.asked.append(info)
        return {
            "ModerationLabels": [
                {"Name": name, "Confidence": score * 100, "ParentName": PARENTS.get(name, ""), "TaxonomyLevel": 1}
                for name, score in self.found.items()
            ],
            "ModerationModelVersion": "7.0",
            "ContentTypes": [],
        }

    def _check_signature(self, request: web.Request, content: bytes) -> None:
        given = request.headers.get("Authorization", "")
        signed = dict(part.split("=", 1) for part in given.removeprefix("AWS4-HMAC-SHA256 ").split(", ") if "=" in part)
        names = signed["SignedHeaders"].split(";")
        headers = {name: request.headers[name] for name in names if name not in ("host", "x-amz-date")}
        again = AWSRequest("POST", f"{self.base_url}/", headers=headers, data=content)
        again.context["timestamp"] = request.headers["X-Amz-Date"]
        auth = SigV4Auth(Credentials(ACCESS_KEY, KEY), "rekognition", "eu-west-1")
        again.headers["X-Amz-Date"] = request.headers["X-Amz-Date"]
        signature = auth.signature(auth.string_to_sign(again, auth.canonical_request(again)), again)
        if signed["Signature"] != signature or f"{ACCESS_KEY}/" not in signed["Credential"]:
            raise KeyError("signature")

    def error(self, status: int) -> object:
        return {"__type": "ThrottlingException" if status == 429 else "InvalidParameterException", "message": "no"}
