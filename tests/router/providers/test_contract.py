"""The promises of `Provider`, kept by every adapter against its vendor's strict fake, for each of its operations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest

from services.router.providers import ADAPTERS
from services.router.providers.base import Provider, ProviderCall
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.webhooks import CallBackRefusedError
from tests.router.providers.harness import HARNESSES
from tests.router.providers.harness_base import COLUMNS, Harness, Heard, Provoked, full_call

Cell = Callable[[str, object], None]
"""Notes that a cell of the table is shown: `record_property`."""

FAILURES = [
    pytest.param(name, failure, id=f"{name}-{failure.prompt}")
    for name, harness in HARNESSES.items()
    for failure in harness.failures
]
REQUIRED = {
    "bad request": ErrorKind.BAD_REQUEST,
    "authentication": ErrorKind.AUTHENTICATION,
    "quota": ErrorKind.QUOTA,
    "rate limit": ErrorKind.RATE_LIMITED,
    "overload": ErrorKind.OVERLOADED,
    "broken answer": ErrorKind.BROKEN_ANSWER,
}
TEXT = "TEXT_TO_IMAGE"


def operations(name: str) -> list[str]:
    """What the adapter of a harness can do."""
    kind, _, _ = name.partition("-")
    variant = getattr(HARNESSES[name], "variant", "")
    return sorted(ADAPTERS[kind].capabilities(variant).operations)


OPERATIONS = [pytest.param(name, op, id=f"{name}-{op}") for name in HARNESSES for op in operations(name)]


def first(harness: Harness, provider: Provider) -> str:
    """The operation that general promises are shown with."""
    can = provider.capabilities.operations
    return TEXT if TEXT in can else sorted(can)[0]


def call_for(harness: Harness, provider: Provider, prompt: str, **changes: object) -> ProviderCall:
    return full_call(harness, provider, prompt, first(harness, provider), **changes)


def name_of(harness: Harness) -> str:
    return next(name for name, kind in HARNESSES.items() if type(harness) is kind)


@asynccontextmanager
async def running(name: str) -> AsyncIterator[tuple[Harness, Provider]]:
    harness = HARNESSES[name]()
    try:
        yield harness, await harness.start()
    finally:
        await harness.stop()


@pytest.fixture(params=list(HARNESSES))
async def harness(request: pytest.FixtureRequest) -> AsyncIterator[Harness]:
    made = HARNESSES[request.param]()
    yield made
    await made.stop()


@pytest.fixture
async def provider(harness: Harness) -> Provider:
    return await harness.start()


@pytest.fixture
def shown(harness: Harness, record_property: Cell) -> Callable[[str], None]:
    """Notes a cell for all operations of the harness."""

    def note(column: str) -> None:
        for operation in operations(name_of(harness)):
            record_property("cell", f"{name_of(harness)}|{operation}|{column}")

    return note


@pytest.mark.parametrize(("name", "operation"), OPERATIONS)
async def test_sends_exactly_the_fields_of_the_call(name: str, operation: str, record_property: Cell) -> None:
    async with running(name) as (harness, provider):
        call = full_call(harness, provider, "a red fox", operation)
        await provider.submit(call, Heard())
        assert harness.fields_sent() == harness.expected(operation)
    record_property("cell", f"{name}|{operation}|request shape")


@pytest.mark.parametrize(("name", "operation"), OPERATIONS)
async def test_brings_every_picture_home(name: str, operation: str, record_property: Cell) -> None:
    async with running(name) as (harness, provider):
        count = 1 if operation in ("UPSCALE", "REMOVE_BACKGROUND") else min(3, provider.capabilities.max_count)
        heard = Heard()
        result = await provider.submit(full_call(harness, provider, "three", operation, count=count), heard)
        assert len(result.images) == count
        assert all(image.media_type == harness.format_unasked for image in result.images)
        assert len({image.data for image in result.images}) == count
        assert result.provider_request_id
        assert not provider.capabilities.resumable or heard.ids == [result.provider_request_id]
    record_property("cell", f"{name}|{operation}|result")


async def test_sends_nothing_that_was_not_asked_for(harness: Harness, provider: Provider) -> None:
    if TEXT not in provider.capabilities.operations:
        return  # it draws nothing from text alone
    model = harness.models.get(TEXT, harness.model)
    await provider.submit(ProviderCall("att_2", "acme", model, "plain", timeout=20.0), Heard())
    unasked = {"seed", "negative_prompt", "steps", "num_inference_steps", "size", "width", "quality", "user"}
    assert not unasked & set(harness.fields_sent())


async def test_tells_progress_where_it_says_so(harness: Harness, provider: Provider) -> None:
    heard = Heard()
    await provider.submit(call_for(harness, provider, "steps"), heard)
    assert bool(heard.steps) is provider.capabilities.progress
    assert bool(heard.previews) is provider.capabilities.previews


@pytest.mark.parametrize(("name", "failure"), FAILURES)
async def test_reads_each_failure_as_its_class(name: str, failure: Provoked, record_property: Cell) -> None:
    async with running(name) as (harness, provider):
        with pytest.raises(ProviderError) as caught:
            await provider.submit(call_for(harness, provider, failure.prompt, timeout=failure.timeout), Heard())
        times = harness.times_asked(failure.prompt)
    assert caught.value.kind is failure.kind
    assert caught.value.retry_after == failure.retry_after
    assert failure.prompt not in caught.value.message
    assert times == 1  # an adapter never submits twice on its own
    for operation in operations(name):
        column = "refusal" if failure.kind is ErrorKind.REFUSED else "errors"
        record_property("cell", f"{name}|{operation}|{column}")


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


async def test_a_call_that_comes_too_late_is_told_as_one(harness: Harness, provider: Provider) -> None:
    if not provider.capabilities.cancelable:
        return
    heard = Heard()
    await provider.submit(call_for(harness, provider, "drawn"), heard)
    assert await provider.cancel(heard.ids[0]) is False


async def test_asks_right_before_it_orders(harness: Harness, provider: Provider) -> None:
    def stop() -> None:
        raise ProviderError(ErrorKind.UNREACHABLE, "the lease is over")

    with pytest.raises(ProviderError, match="lease"):
        await provider.submit(call_for(harness, provider, "late", before_sending=stop), Heard())
    assert harness.times_asked("late") == 0


async def test_an_id_that_we_choose_is_the_order_s(harness: Harness, provider: Provider) -> None:
    call, heard = call_for(harness, provider, "named"), Heard()
    await provider.submit(call, heard)
    assert provider.order_id(call.attempt_id) in ("", *heard.ids)


async def test_takes_a_request_up_again(harness: Harness, provider: Provider, shown: Callable[[str], None]) -> None:
    if not provider.capabilities.resumable:
        assert harness.absent["resume"]
        return
    request_id = await left_alone(harness, provider)
    await harness.release(harness.stall)
    result = await provider.resume(call_for(harness, provider, harness.stall), request_id, Heard())
    assert result.images
    assert result.provider_request_id == request_id
    assert harness.times_asked(harness.stall) == 1
    shown("resume")


async def test_calls_a_request_off(harness: Harness, provider: Provider, shown: Callable[[str], None]) -> None:
    if not provider.capabilities.cancelable:
        assert harness.absent["cancel"]
        return
    request_id = await left_alone(harness, provider)
    told = await provider.cancel(request_id)
    assert told is not harness.billed_when_canceled
    assert harness.was_canceled(request_id)
    await provider.cancel(request_id)  # it has ended by now
    shown("cancel")


async def test_believes_only_signed_call_backs(
    harness: Harness, provider: Provider, shown: Callable[[str], None]
) -> None:
    if not provider.capabilities.webhooks:
        assert harness.absent["webhook"]
        return
    heard, address = Heard(patience=60.0), "https://mesh.example/hooks/stub/att_1?t=unguessable"
    task = asyncio.create_task(provider.submit(call_for(harness, provider, harness.stall, callback_url=address), heard))
    await heard.taken.wait()
    genuine, forged = await harness.call_backs(heard.ids[0])
    assert await provider.verify(genuine) == heard.ids[0]
    with pytest.raises(CallBackRefusedError):
        await provider.verify(forged)
    await harness.release(harness.stall)
    heard.call_back.set()
    assert (await task).images
    shown("webhook")


async def left_alone(harness: Harness, provider: Provider) -> str:
    """A request that the vendor accepted and nobody waits for any more; its id."""
    heard = Heard()
    task = asyncio.create_task(provider.submit(call_for(harness, provider, harness.stall), heard))
    await heard.taken.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return heard.ids[0]


def test_every_adapter_is_in_the_suite() -> None:
    assert {name.split("-")[0] for name in HARNESSES} == set(ADAPTERS)


@pytest.mark.parametrize("name", list(HARNESSES))
def test_every_error_class_is_shown_or_has_a_reason(name: str) -> None:
    harness = HARNESSES[name]
    kinds = {failure.kind for failure in harness.failures}
    missing = [row for row, kind in REQUIRED.items() if kind not in kinds and row not in harness.absent]
    assert not missing


@pytest.mark.parametrize("name", list(HARNESSES))
def test_no_cell_is_empty_without_a_reason(name: str) -> None:
    kind, _, _ = name.partition("-")
    can = ADAPTERS[kind].capabilities(getattr(HARNESSES[name], "variant", ""))
    filled = set(_filled(can.resumable, can.cancelable, can.webhooks))
    if any(failure.kind is ErrorKind.REFUSED for failure in HARNESSES[name].failures):
        filled.add("refusal")
    assert not [column for column in COLUMNS if column not in filled and column not in HARNESSES[name].absent]


def _filled(resumable: bool, cancelable: bool, webhooks: bool) -> Iterator[str]:
    yield from ("request shape", "result", "errors")
    for column, shown in (("resume", resumable), ("cancel", cancelable), ("webhook", webhooks)):
        if shown:
            yield column
