"""What the suite does not show of Hugging Face: who pays, what is measured, masks, sizes of edits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from pydantic import SecretStr

from services.router.providers.base import Account, ProviderCall
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.huggingface import HuggingFace
from tests.router.providers.harness_base import MASK, SOURCE, Heard
from tests.router.providers.harness_huggingface import EndpointHarness


@pytest.fixture
async def harness() -> AsyncIterator[EndpointHarness]:
    made = EndpointHarness()
    await made.fake.start()
    yield made
    await made.stop()


def call(prompt: str = "a fox", **fields: Any) -> ProviderCall:
    return replace(ProviderCall("att_1", "acme", "acme/painter", prompt, timeout=20.0), **fields)


def router(harness: EndpointHarness, **settings: str) -> HuggingFace:
    settings = {"hub": harness.fake.origin, **settings}
    return HuggingFace(Account("stub", harness.fake.origin, SecretStr("hf_stub"), settings=settings), harness.http)


async def test_an_organisation_can_pay(harness: EndpointHarness) -> None:
    await router(harness, bill_to="acme").submit(call(), Heard())
    assert harness.fake.orders[-1].headers["X-HF-Bill-To"] == "acme"
    await router(harness).submit(call(), Heard())
    assert "X-HF-Bill-To" not in harness.fake.orders[-1].headers


async def test_compute_time_and_request_id_are_told_where_the_answer_has_them(harness: EndpointHarness) -> None:
    told = await router(harness).submit(call(), Heard())
    assert (told.usage, told.provider_request_id) == ({"milliseconds": 1235}, "req-1")
    bare = await router(harness).submit(call("fail:traced"), Heard())
    assert (bare.usage, bare.provider_request_id) == ({}, "Root=1")


async def test_the_endpoint_is_the_account_s_own_address(harness: EndpointHarness) -> None:
    await harness.open().submit(call(), Heard())
    assert harness.fake.orders[-1].path == "/endpoint"
    with pytest.raises(ValueError, match="needs its address"):
        HuggingFace(Account("stub", variant="endpoint"), harness.http)


async def test_an_edit_has_a_target_size_and_no_seed(harness: EndpointHarness) -> None:
    asked = call(operation="EDIT", images=(SOURCE,), width=512, height=256, seed=7)
    await router(harness).submit(asked, Heard())
    sent = {"inputs": "png 64x64", "prompt": "a fox", "target_size": {"width": 512, "height": 256}}
    assert harness.fields_sent() == sent


async def test_a_mask_stays_white_where_it_changes(harness: EndpointHarness) -> None:
    await harness.open().submit(call(operation="INPAINT", images=(SOURCE,), mask=MASK), Heard())
    assert MASK.data in harness.fake.sources


@pytest.mark.parametrize(
    "fields",
    [
        {"operation": "INPAINT", "images": (SOURCE,), "mask": MASK},
        {"operation": "EDIT", "images": (SOURCE, SOURCE)},
        {"operation": "EDIT", "images": (SOURCE,), "scheduler": "ddim"},
        {"count": 2},
    ],
)
async def test_what_the_tasks_have_no_field_for_is_refused_before_the_order(
    harness: EndpointHarness, fields: dict[str, Any]
) -> None:
    with pytest.raises(ProviderError) as caught:
        await router(harness).submit(call(**fields), Heard())
    assert caught.value.kind is ErrorKind.BAD_REQUEST
    assert not harness.fake.posts


async def test_check_tells_whose_token_it_is(harness: EndpointHarness) -> None:
    assert await router(harness).check() == "token of acme"
