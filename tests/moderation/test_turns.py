"""Long texts take turns: one tenant's do not hold up another's, and a bounded number waits."""

from __future__ import annotations

import asyncio

import pytest

from mesh.errors import Unavailable
from services.moderation.turns import LONG_CHARACTERS, Turns

LONG = LONG_CHARACTERS + 1


async def test_a_tenant_has_one_long_text_at_a_time_and_others_pass() -> None:
    turns, order = Turns(), []

    async def judged(tenant: str, characters: int, name: str) -> None:
        async with turns.of(tenant, characters):
            order.append(name)

    async with turns.of("busy", LONG):
        second = asyncio.ensure_future(judged("busy", LONG, "second"))
        await asyncio.sleep(0)
        await judged("other", LONG, "another's")
        await judged("busy", LONG_CHARACTERS, "short")
    await second
    assert order == ["another's", "short", "second"]


async def test_a_bounded_number_waits() -> None:
    turns = Turns(waiting=1)
    async with turns.of("busy", LONG):
        with pytest.raises(Unavailable):
            async with turns.of("other", LONG):
                pass
    async with turns.of("other", LONG):
        pass
