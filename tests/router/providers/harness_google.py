"""Google in the contract suite: the Gemini Developer API, Gemini on Vertex AI, Imagen."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import SecretStr

from services.router.providers.base import Account, Provider
from services.router.providers.errors import ErrorKind
from services.router.providers.google import Google
from tests.router.fakes.google import GoogleFake
from tests.router.providers.harness_base import Provoked, VendorHarness

_ERRORS = (
    Provoked("fail:bad_request", ErrorKind.BAD_REQUEST),
    Provoked("fail:odd_error", ErrorKind.BAD_REQUEST),
    Provoked("fail:no_model", ErrorKind.BAD_REQUEST),
    Provoked("fail:location", ErrorKind.AUTHENTICATION),
    Provoked("fail:unauthorized", ErrorKind.AUTHENTICATION),
    Provoked("fail:forbidden", ErrorKind.AUTHENTICATION),
    Provoked("fail:billing", ErrorKind.QUOTA),
    Provoked("fail:exhausted", ErrorKind.RATE_LIMITED, retry_after=7.0),
    Provoked("fail:exhausted_header", ErrorKind.RATE_LIMITED, retry_after=9.0),
    Provoked("fail:exhausted_bare", ErrorKind.RATE_LIMITED),
    Provoked("fail:internal", ErrorKind.OVERLOADED),
    Provoked("fail:unavailable", ErrorKind.OVERLOADED),
    Provoked("fail:deadline", ErrorKind.UNKNOWN_OUTCOME),
    Provoked("fail:bad_gateway", ErrorKind.UNKNOWN_OUTCOME),
    Provoked("fail:reset", ErrorKind.UNKNOWN_OUTCOME),
    Provoked("fail:reset_midway", ErrorKind.UNKNOWN_OUTCOME),
    Provoked("fail:silent", ErrorKind.UNKNOWN_OUTCOME, timeout=1.0),
    Provoked("fail:bad_json", ErrorKind.BROKEN_ANSWER),
    Provoked("fail:not_an_object", ErrorKind.BROKEN_ANSWER),
    Provoked("fail:empty", ErrorKind.BROKEN_ANSWER),
)
_GENERATE = (
    *_ERRORS,
    Provoked("fail:blocked_SAFETY", ErrorKind.REFUSED),
    Provoked("fail:blocked_OTHER", ErrorKind.REFUSED),
    Provoked("fail:blocked_JAILBREAK", ErrorKind.REFUSED),
    Provoked("fail:finish_IMAGE_SAFETY", ErrorKind.REFUSED),
    Provoked("fail:finish_IMAGE_PROHIBITED_CONTENT", ErrorKind.REFUSED),
    Provoked("fail:finish_PROHIBITED_CONTENT", ErrorKind.REFUSED),
    Provoked("fail:finish_SPII", ErrorKind.REFUSED),
    Provoked("fail:finish_NO_IMAGE", ErrorKind.BROKEN_ANSWER),
    Provoked("fail:finish_IMAGE_OTHER", ErrorKind.BROKEN_ANSWER),
    Provoked("fail:text_only", ErrorKind.BROKEN_ANSWER),
    Provoked("fail:thought_only", ErrorKind.BROKEN_ANSWER),
    Provoked("fail:bad_base64", ErrorKind.BROKEN_ANSWER),
    Provoked("fail:not_an_image", ErrorKind.BROKEN_ANSWER),
    Provoked("fail:odd_parts", ErrorKind.BROKEN_ANSWER),
)
_IMAGE = {"inlineData": {"mimeType": "image/png", "data": "png 64x64"}}
_PICTURE = {"bytesBase64Encoded": "png 64x64", "mimeType": "image/png"}
_LABELS = {"imagemesh-attempt": "att_1"}


class GeminiHarness(VendorHarness):
    """The Gemini Developer API."""

    fake_type = GoogleFake
    fake: GoogleFake
    variant = "gemini"
    model = "gemini-3-pro-image"
    size = (2752, 1536)
    stall = "fail:silent"
    failures: tuple[Provoked, ...] = (
        *_GENERATE,
        Provoked("fail:bad_key", ErrorKind.AUTHENTICATION),
        Provoked("fail:location_argument", ErrorKind.AUTHENTICATION),
    )
    absent: Mapping[str, str] = {
        "resume": "Google's image models answer in the same call",
        "cancel": "Google's image models have no way to call off a request",
        "webhook": "Google's image models call nobody",
    }
    output: Mapping[str, object] = {}
    labels: Mapping[str, object] = {}

    def open(self) -> Provider:
        return Google(Account("stub", self.fake.origin, SecretStr(self.fake.key), self.variant), self.http)

    @property
    def expected_fields(self) -> Mapping[str, object]:
        return self._body({"aspectRatio": "16:9", "imageSize": "2K", **self.output})

    def expected(self, operation: str) -> Mapping[str, object]:
        return self.expected_fields if operation == "TEXT_TO_IMAGE" else self._body(self.output, _IMAGE)

    def _body(self, image: Mapping[str, object], *pictures: Mapping[str, object]) -> Mapping[str, object]:
        config: dict[str, object] = {"responseModalities": ["IMAGE"], "seed": 7}
        if image:
            config["imageConfig"] = image
        contents = [{"role": "user", "parts": [{"text": "a red fox"}, *pictures]}]
        return {"contents": contents, "generationConfig": config, **self.labels}


class VertexHarness(GeminiHarness):
    """Gemini on Vertex AI; the service account's file is the key."""

    variant = "vertex"
    failures: tuple[Provoked, ...] = _GENERATE
    output: Mapping[str, object] = {"imageOutputOptions": {"mimeType": "image/png"}}
    labels: Mapping[str, object] = {"labels": _LABELS}

    def open(self) -> Provider:
        key = SecretStr(self.fake.service_account())
        return Google(Account("stub", self.fake.origin, key, self.variant, "europe-west4"), self.http)


class ImagenHarness(VertexHarness):
    """Imagen's predict surface."""

    variant = "imagen"
    model = "imagen-4.0-generate-001"
    size = (2048, 2048)
    failures = (
        *_ERRORS,
        Provoked("fail:rai", ErrorKind.REFUSED),
        Provoked("fail:filtered", ErrorKind.REFUSED),
        Provoked("fail:no_predictions", ErrorKind.BROKEN_ANSWER),
    )

    @property
    def expected_fields(self) -> Mapping[str, object]:
        return self._predict({"aspectRatio": "1:1", "sampleImageSize": "2K", "negativePrompt": "blur"})

    def expected(self, operation: str) -> Mapping[str, object]:
        if operation == "TEXT_TO_IMAGE":
            return self.expected_fields
        if operation == "UPSCALE":
            sent: Mapping[str, object] = {"mode": "upscale", "upscaleConfig": {"upscaleFactor": "x4"}}
            return self._predict(sent, image=_PICTURE)
        wide = {**_PICTURE, "bytesBase64Encoded": "png 128x64"}
        picture = wide if operation == "OUTPAINT" else _PICTURE
        mode = "EDIT_MODE_OUTPAINT" if operation == "OUTPAINT" else "EDIT_MODE_INPAINT_INSERTION"
        raw = {"referenceType": "REFERENCE_TYPE_RAW", "referenceId": 1, "referenceImage": picture}
        mask = {"referenceType": "REFERENCE_TYPE_MASK", "referenceId": 2, "referenceImage": picture}
        chosen = {**mask, "maskImageConfig": {"maskMode": "MASK_MODE_USER_PROVIDED"}}
        return self._predict({"negativePrompt": "blur", "editMode": mode}, referenceImages=[raw, chosen])

    def _predict(self, parameters: Mapping[str, object], **sources: object) -> Mapping[str, object]:
        guided = {"guidanceScale": 4.5} if "mode" not in parameters else {}
        sent = {"sampleCount": 1, "includeRaiReason": True, "outputOptions": {"mimeType": "image/png"}, **guided}
        instance = {"prompt": "a red fox", **sources}
        return {"instances": [instance], "parameters": {**sent, **parameters}, "labels": _LABELS}
