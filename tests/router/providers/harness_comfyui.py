"""ComfyUI in the contract suite: what it is asked with is each value of the graph, as `node.input`."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import SecretStr

from services.router.providers.base import Account, Provider
from services.router.providers.comfyui import ComfyUi
from services.router.providers.errors import ErrorKind
from services.router.providers.polling import Pace
from tests.router.fakes.comfyui import CHECKPOINT, UPSCALER, ComfyUiFake
from tests.router.providers.harness_base import SILENT, Provoked, VendorHarness

PICTURE = "png 64x64"
_SCHEDULER: Mapping[str, object] = {"scheduler": "dpmpp_2m/karras"}


class ComfyUiHarness(VendorHarness):
    fake_type = ComfyUiFake
    fake: ComfyUiFake
    variant = ""
    model = CHECKPOINT
    models: Mapping[str, str] = {"UPSCALE": UPSCALER}
    changes: Mapping[str, Mapping[str, object]] = {"TEXT_TO_IMAGE": _SCHEDULER}
    stall = "stall"
    failures = (
        Provoked("fail:bad_graph", ErrorKind.BAD_REQUEST),
        Provoked("fail:too_large", ErrorKind.BAD_REQUEST),
        Provoked("fail:proxy_refuses", ErrorKind.AUTHENTICATION),
        Provoked("fail:rate_limited", ErrorKind.RATE_LIMITED, retry_after=7.0),
        Provoked("fail:error500", ErrorKind.OVERLOADED),
        Provoked("fail:not_yet", ErrorKind.OVERLOADED),
        # Not queued, as queue and history tell: it can be ordered again.
        Provoked("fail:bad_gateway", ErrorKind.OVERLOADED),
        Provoked("fail:reset", ErrorKind.OVERLOADED),
        Provoked("fail:reset_midway", ErrorKind.OVERLOADED),
        Provoked("fail:silent", ErrorKind.UNKNOWN_OUTCOME, timeout=SILENT),
        Provoked("stall", ErrorKind.UNKNOWN_OUTCOME, timeout=SILENT),
        Provoked("fail:bad_json", ErrorKind.BROKEN_ANSWER),
        Provoked("fail:not_an_object", ErrorKind.BROKEN_ANSWER),
        Provoked("fail:no_id", ErrorKind.BROKEN_ANSWER),
        Provoked("late:out_of_memory", ErrorKind.OVERLOADED),
        Provoked("late:cuda", ErrorKind.OVERLOADED),
        Provoked("late:interrupted", ErrorKind.OVERLOADED),
        Provoked("late:lost", ErrorKind.OVERLOADED),
        Provoked("late:runtime", ErrorKind.BROKEN_ANSWER),
        Provoked("late:missing", ErrorKind.BROKEN_ANSWER),
        Provoked("late:no_picture", ErrorKind.BROKEN_ANSWER),
        Provoked("late:bad_json", ErrorKind.BROKEN_ANSWER),
        Provoked("late:forbidden", ErrorKind.UNKNOWN_OUTCOME),
        Provoked("url:expired", ErrorKind.BROKEN_ANSWER),
        Provoked("url:broken", ErrorKind.BROKEN_ANSWER),
    )
    absent: Mapping[str, str] = {
        "refusal": "ComfyUI judges nothing",
        "quota": "a server of one's own has no credit",
        "webhook": "ComfyUI calls nobody",
    }

    def open(self) -> Provider:
        account = Account("stub", self.fake.origin, SecretStr(self.fake.key))
        return ComfyUi(account, self.http, self.http, Pace(0.01, 0.02))

    @property
    def expected_fields(self) -> Mapping[str, object]:
        canvas = {"canvas.width": 512, "canvas.height": 256, "canvas.batch_size": 1}
        schedule = {"sampler.sampler_name": "dpmpp_2m", "sampler.scheduler": "karras"}
        return {**self._drawn, **canvas, **schedule, "sampler.denoise": 1.0}

    @property
    def _drawn(self) -> Mapping[str, object]:
        return {
            "checkpoint.ckpt_name": CHECKPOINT,
            "positive.text": "a red fox",
            "negative.text": "blur",
            "sampler.seed": 7,
            "sampler.steps": 12,
            "sampler.cfg": 4.5,
            "sampler.sampler_name": "ddim",
            "sampler.scheduler": "normal",
            "sampler.denoise": 0.6,
        }

    def expected(self, operation: str) -> Mapping[str, object]:
        drawn = {**self._drawn, "source.image": PICTURE}
        masked = {"mask.image": PICTURE, "mask.channel": "red", "kept.x": 0, "kept.y": 0, "kept.resize_source": False}
        wide = {"source.image": "png 128x64", "mask.image": "png 128x64", "sampler.denoise": 1.0}
        sized = {"sized.upscale_method": "lanczos", "sized.width": 256, "sized.height": 256, "sized.crop": "disabled"}
        own: Mapping[str, Mapping[str, object]] = {
            "TEXT_TO_IMAGE": self.expected_fields,
            "IMAGE_TO_IMAGE": drawn,
            "INPAINT": {**drawn, **masked},
            "OUTPAINT": {**drawn, **masked, **wide},
            "UPSCALE": {"source.image": PICTURE, "upscaler.model_name": UPSCALER, **sized},
        }
        return own[operation]
