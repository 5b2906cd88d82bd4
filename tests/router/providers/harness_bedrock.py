"""Amazon Bedrock in the contract suite, with Stability's services."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import SecretStr

from services.router.providers.base import Account, Provider
from services.router.providers.bedrock import Bedrock
from services.router.providers.errors import ErrorKind
from tests.router.fakes.bedrock import ACCESS_KEY_ID, REGION, SECRET, BedrockFake
from tests.router.providers.harness_base import SILENT, Provoked, VendorHarness

_DRAWN = {"prompt": "a red fox", "negative_prompt": "blur", "seed": 7, "output_format": "png"}
_IMAGE = {"image": "png 64x64"}


class BedrockHarness(VendorHarness):
    """Signed with an access key."""

    fake_type = BedrockFake
    stall = "stall"
    model = "stability.sd3-5-large-v1:0"
    size = (1344, 768)
    models: Mapping[str, str] = {
        "INPAINT": "us.stability.stable-image-inpaint-v1:0",
        "OUTPAINT": "us.stability.stable-outpaint-v1:0",
        "EDIT": "us.stability.stable-image-search-replace-v1:0",
        "REMOVE_BACKGROUND": "us.stability.stable-image-remove-background-v1:0",
        "UPSCALE": "us.stability.stable-fast-upscale-v1:0",
        "CONTROL": "us.stability.stable-image-control-sketch-v1:0",
    }
    changes: Mapping[str, Mapping[str, object]] = {
        "INPAINT": {"guidance": None, "strength": None},
        "OUTPAINT": {"guidance": None, "negative_prompt": ""},
        "EDIT": {"guidance": None, "options": {"search_prompt": "a dog", "grow_mask": 3}},
        "CONTROL": {"guidance": None, "width": 64, "height": 64},
    }
    failures = (
        Provoked("fail:prompt_filtered", ErrorKind.REFUSED),
        Provoked("fail:image_filtered", ErrorKind.REFUSED),
        Provoked("fail:content_filter", ErrorKind.REFUSED),
        Provoked("fail:validation", ErrorKind.BAD_REQUEST),
        Provoked("fail:no_model", ErrorKind.BAD_REQUEST),
        Provoked("fail:denied", ErrorKind.AUTHENTICATION),
        Provoked("fail:signature", ErrorKind.AUTHENTICATION),
        Provoked("fail:expired", ErrorKind.AUTHENTICATION),
        Provoked("fail:quota", ErrorKind.QUOTA),
        Provoked("fail:throttled", ErrorKind.RATE_LIMITED),
        Provoked("fail:throttled_told", ErrorKind.RATE_LIMITED, retry_after=7.0),
        Provoked("fail:type_in_body", ErrorKind.RATE_LIMITED),
        Provoked("fail:not_ready", ErrorKind.OVERLOADED),
        Provoked("fail:inference_error", ErrorKind.OVERLOADED),
        Provoked("fail:model_error", ErrorKind.OVERLOADED),
        Provoked("fail:internal", ErrorKind.OVERLOADED),
        Provoked("fail:unavailable", ErrorKind.OVERLOADED),
        Provoked("fail:model_timeout", ErrorKind.UNKNOWN_OUTCOME),
        Provoked("fail:bad_gateway", ErrorKind.UNKNOWN_OUTCOME),
        Provoked("fail:reset", ErrorKind.UNKNOWN_OUTCOME),
        Provoked("fail:reset_midway", ErrorKind.UNKNOWN_OUTCOME),
        Provoked("fail:silent", ErrorKind.UNKNOWN_OUTCOME, timeout=SILENT),
        Provoked("fail:bad_json", ErrorKind.BROKEN_ANSWER),
        Provoked("fail:not_an_object", ErrorKind.BROKEN_ANSWER),
        Provoked("fail:no_picture", ErrorKind.BROKEN_ANSWER),
        Provoked("fail:bad_base64", ErrorKind.BROKEN_ANSWER),
        Provoked("fail:not_an_image", ErrorKind.BROKEN_ANSWER),
    )
    absent: Mapping[str, str] = {
        "resume": "Bedrock's InvokeModel answers in the same call",
        "cancel": "Bedrock has no way to call off a model's run",
        "webhook": "Bedrock calls nobody",
    }

    def open(self) -> Provider:
        secrets = {"access_key_id": SecretStr(ACCESS_KEY_ID)}
        account = Account("stub", self.fake.origin, SecretStr(SECRET), region=REGION, secrets=secrets)
        return Bedrock(account, self.http)

    @property
    def expected_fields(self) -> Mapping[str, object]:
        return {**_DRAWN, "mode": "text-to-image", "aspect_ratio": "16:9", "cfg_scale": 4.5}

    def expected(self, operation: str) -> Mapping[str, object]:
        drawn = {**_DRAWN, **_IMAGE}
        return {
            "TEXT_TO_IMAGE": self.expected_fields,
            "IMAGE_TO_IMAGE": {**drawn, "mode": "image-to-image", "cfg_scale": 4.5, "strength": 0.6},
            "INPAINT": {**drawn, "mask": "png 64x64"},
            "OUTPAINT": {
                **{name: value for name, value in drawn.items() if name != "negative_prompt"},
                "left": 32,
                "right": 32,
            },
            "EDIT": {**drawn, "search_prompt": "a dog", "grow_mask": 3},
            "REMOVE_BACKGROUND": {**_IMAGE, "output_format": "png"},
            "UPSCALE": {**_IMAGE, "output_format": "png"},
            "CONTROL": {**drawn, "control_strength": 0.5},
        }[operation]
