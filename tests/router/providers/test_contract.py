"""The promises of `Provider`, kept by every adapter against its vendor's strict fake."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from services.router.providers import ADAPTERS
from services.router.providers.base import Provider, ProviderCall
from services.router.providers.errors import ErrorKind, ProviderError
from tests.router.providers.harness import HARNESSES, Harness, Heard, Provoked

FAILURES = [
    pytest.param(name, failure, id=f"{name}-{failure.prompt}")
    for name, harness in HARNESSES.items()
    for failure in harness.failures
]
REQUIRED = {
    "request": None,
    "refusal": ErrorKind.REFUSED,
    "bad request": ErrorKind.BAD_REQUEST,
    "authentication": ErrorKind.AUTHENTICATION,
    "quota": ErrorKind.QUOTA,
    "rate limit": ErrorKind.RATE_LIMITED,
    "overload": ErrorKind.OVERLOADED,
    "broken answer": ErrorKind.BROKEN_ANSWER,
}


@pytest.fixture(params=list(HARNESSES))
async def harness(request: pytest.FixtureRequest) -> AsyncIterator[Harness]:
    running = HARNESSES[request.param]()
    yield running
    await running.stop()


@pytest.fixture
async def provider(harness: Harness) -> Provider:
    return await harness.start()


def call_for(harness: Harness, provider: Provider, prompt: str, **changes: object) -> ProviderCall:
    """A call with every field that the adapter supports."""
    can = provider.capabilities
    quality = {"gpt-image-2": "high", "dall-e-3": "hd"}.get(harness.model, "")
    fields: dict[str, object] = {
        "attempt_id": "att_1",
        "tenant": "acme",
        "model": harness.model,
        "prompt": prompt,
        "timeout": 20.0,
        "width": 512,
        "height": 256,
        "user": "user-1",
        "seed": 7 if can.seed else None,
        "negative_prompt": "blur" if can.negative_prompt else "",
        "steps": 12 if can.steps else None,
        "guidance": 4.5 if can.guidance else None,
        "scheduler": "ddim" if can.scheduler else "",
        "quality": quality if can.quality else "",
        "output_format": "png" if len(can.formats) > 1 else "",
        "transparent_background": can.transparent_background,
        **changes,
    }
    return ProviderCall(**fields)  # type: ignore[arg-type]


async def test_sends_exactly_the_fields_of_the_call(harness: Harness, provider: Provider) -> None:
    await provider.submit(call_for(harness, provider, "a red fox"), Heard())
    assert harness.fields_sent() == harness.expected_fields


async def test_sends_nothing_that_was_not_asked_for(harness: Harness, provider: Provider) -> None:
    await provider.submit(ProviderCall("att_2", "acme", harness.model, "plain", timeout=20.0), Heard())
    unasked = {"seed", "negative_prompt", "steps", "num_inference_steps", "size", "width", "quality", "user"}
    assert not unasked & set(harness.fields_sent())


async def test_brings_every_picture_home(harness: Harness, provider: Provider) -> None:
    count = min(3, provider.capabilities.max_count)
    result = await provider.submit(call_for(harness, provider, "three", count=count), Heard())
    assert len(result.images) == count
    assert all(image.media_type == "image/png" for image in result.images)
    assert len({image.data for image in result.images}) == count
    assert result.provider_request_id


async def test_the_largest_seed_is_sent_where_it_takes_one(harness: Harness, provider: Provider) -> None:
    seed = 2**32 - 1 if provider.capabilities.seed else None
    await provider.submit(call_for(harness, provider, "seeds", seed=seed), Heard())
    assert harness.fields_sent().get("seed") == seed


async def test_tells_progress_where_it_says_so(harness: Harness, provider: Provider) -> None:
    heard = Heard()
    await provider.submit(call_for(harness, provider, "steps"), heard)
    assert bool(heard.steps) is provider.capabilities.progress


@pytest.mark.parametrize(("name", "failure"), FAILURES)
async def test_reads_each_failure_as_its_class(name: str, failure: Provoked) -> None:
    harness = HARNESSES[name]()
    provider = await harness.start()
    try:
        with pytest.raises(ProviderError) as caught:
            await provider.submit(call_for(harness, provider, failure.prompt, timeout=failure.timeout), Heard())
    finally:
        await harness.stop()
    assert caught.value.kind is failure.kind
    assert caught.value.retry_after == failure.retry_after
    assert failure.prompt not in caught.value.message
    assert harness.times_asked(failure.prompt) == 1  # an adapter never submits twice on its own


async def test_nobody_listening_is_unreachable(harness: Harness, provider: Provider) -> None:
    await harness.stop_fake()
    with pytest.raises(ProviderError) as caught:
        await provider.submit(call_for(harness, provider, "nobody"), Heard())
    assert caught.value.kind is ErrorKind.UNREACHABLE
    assert harness.times_asked("nobody") == 0


async def test_canceling_stops_waiting(harness: Harness, provider: Provider) -> None:
    task = asyncio.create_task(provider.submit(call_for(harness, provider, harness.stall), Heard()))
    await harness.until_asked(harness.stall)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_every_adapter_is_in_the_suite() -> None:
    assert {name.split("-")[0] for name in HARNESSES} == set(ADAPTERS)


@pytest.mark.parametrize("name", list(HARNESSES))
def test_no_cell_is_empty_without_a_reason(name: str) -> None:
    harness = HARNESSES[name]
    shown = {failure.kind for failure in harness.failures}
    missing = [row for row, kind in REQUIRED.items() if kind and kind not in shown and row not in harness.absent]
    assert not missing
