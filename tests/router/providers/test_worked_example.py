"""The adapter that docs/providers.md shows is whole: it keeps the promises of `Provider` as it stands there."""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator, Mapping
from types import ModuleType
from typing import Any

import pytest
from aiohttp import web
from pydantic import SecretStr

from services.router.providers.base import Account, Provider
from services.router.providers.errors import ErrorKind, ProviderError
from tests.e2e.local_mesh import ROOT
from tests.router.fakes.vendor import Check, VendorFake, like, text, whole, wrong_fields
from tests.router.providers.harness_base import Heard, Provoked, VendorHarness, full_call

FIELDS: Mapping[str, Check] = {
    "prompt": text(1000),
    "size": like(r"\d+x\d+"),
    "seed": whole(0, 2**32 - 1),
    "tag": text(64),
}
STATUSES = {"bad_request": 400, "unauthorized": 401, "payment": 402, "rate_limited": 429, "overloaded": 503}


def adapter() -> Any:
    """The module in the document's code block."""
    document = (ROOT / "docs" / "providers.md").read_text(encoding="utf-8")
    found = re.search(r"```python\n(.*?)```", document, re.DOTALL)
    assert found is not None
    module = ModuleType("acme")
    sys.modules["acme"] = module
    exec(compile(found[1], "docs/providers.md", "exec"), module.__dict__)
    return module


class AcmeFake(VendorFake):
    """Acme on loopback."""

    def routes(self, app: web.Application) -> None:
        app.router.add_post("/v1/draw", self._draw)

    async def _draw(self, request: web.Request) -> web.Response:
        if request.headers.get("X-Acme-Key") != self.key:
            return web.Response(status=401)
        body = await request.json()
        if wrong_fields(body, FIELDS, ("prompt", "tag")):
            return web.Response(status=400)
        failure = await self.count(request, body["prompt"], body, body["tag"])
        if failure in STATUSES:
            return web.Response(status=STATUSES[failure], headers={"Retry-After": "7"} if "rate" in failure else {})
        if failure == "blocked":
            return web.json_response({"id": "acme-1", "blocked": True})
        if failure == "garbled":
            return web.Response(text='{"id": "acme-1", "pic')
        picture = self._picture.base64(next(self._serial)).decode()
        return web.json_response({"id": "acme-1", "picture": picture, "seed": body.get("seed")})


class AcmeHarness(VendorHarness):
    fake_type = AcmeFake
    failures = (
        Provoked("fail:blocked", ErrorKind.REFUSED),
        Provoked("fail:bad_request", ErrorKind.BAD_REQUEST),
        Provoked("fail:unauthorized", ErrorKind.AUTHENTICATION),
        Provoked("fail:payment", ErrorKind.QUOTA),
        Provoked("fail:rate_limited", ErrorKind.RATE_LIMITED, retry_after=7.0),
        Provoked("fail:overloaded", ErrorKind.OVERLOADED),
        Provoked("fail:reset", ErrorKind.UNKNOWN_OUTCOME),
        Provoked("fail:garbled", ErrorKind.BROKEN_ANSWER),
    )

    def open(self) -> Provider:
        provider: Provider = adapter().Acme(
            Account("acme", f"{self.fake.origin}/v1", SecretStr(self.fake.key)), self.http
        )
        return provider

    @property
    def expected_fields(self) -> Mapping[str, object]:
        return {"prompt": "a red fox", "size": "512x256", "seed": 7, "tag": "att_1"}


@pytest.fixture
async def harness() -> AsyncIterator[AcmeHarness]:
    made = AcmeHarness()
    yield made
    await made.stop()


async def test_it_draws(harness: AcmeHarness) -> None:
    provider = await harness.start()
    result = await provider.submit(full_call(harness, provider, "a red fox", "TEXT_TO_IMAGE"), Heard())
    assert harness.fields_sent() == harness.expected_fields
    assert (result.images[0].media_type, result.images[0].seed, result.provider_request_id) == (
        "image/png",
        7,
        "acme-1",
    )


async def test_it_asks_right_before_it_orders(harness: AcmeHarness) -> None:
    def stop() -> None:
        raise ProviderError(ErrorKind.UNREACHABLE, "the lease is over")

    provider = await harness.start()
    with pytest.raises(ProviderError, match="lease"):
        await provider.submit(full_call(harness, provider, "late", "TEXT_TO_IMAGE", before_sending=stop), Heard())
    assert harness.times_asked("late") == 0


@pytest.mark.parametrize("failure", AcmeHarness.failures, ids=lambda failure: failure.prompt)
async def test_it_reads_each_failure_as_its_class(harness: AcmeHarness, failure: Provoked) -> None:
    provider = await harness.start()
    with pytest.raises(ProviderError) as caught:
        await provider.submit(full_call(harness, provider, failure.prompt, "TEXT_TO_IMAGE"), Heard())
    assert (caught.value.kind, caught.value.retry_after) == (failure.kind, failure.retry_after)
