"""Tokens: one fetch for all who wait, replaced early, kept while a replacement fails, forgotten when refused."""

from __future__ import annotations

import asyncio

import pytest

from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.http import HttpAnswer, HttpRequest
from services.router.providers.tokens import Tokens, granted
from tests.router.providers.scripted import Scripted


class Giver:
    """Gives numbered tokens of an hour, as often as it is told to; fails otherwise."""

    def __init__(self) -> None:
        self.now = 0.0
        self.asked = 0
        self.fails = False
        self.open = asyncio.Event()
        self.open.set()
        self.tokens = Tokens(self.fetch, clock=lambda: self.now)

    async def fetch(self) -> tuple[str, float]:
        self.asked += 1
        number = self.asked
        await self.open.wait()
        if self.fails:
            raise ProviderError(ErrorKind.OVERLOADED, "not now")
        return f"token-{number}", 3600.0


async def test_all_who_wait_share_one_fetch() -> None:
    giver = Giver()
    giver.open.clear()
    waiting = [asyncio.create_task(giver.tokens.bearer()) for _ in range(20)]
    await asyncio.sleep(0)
    giver.open.set()
    assert {*await asyncio.gather(*waiting)} == {"token-1"}
    assert giver.asked == 1


async def test_all_who_wait_share_a_failure_and_the_next_one_asks_again() -> None:
    giver = Giver()
    giver.fails = True
    giver.open.clear()
    waiting = [asyncio.create_task(giver.tokens.bearer()) for _ in range(20)]
    await asyncio.sleep(0)
    giver.open.set()
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(one, ProviderError) and one.kind is ErrorKind.OVERLOADED for one in answers)
    assert giver.asked == 1
    giver.fails = False
    assert await giver.tokens.bearer() == "token-2"


async def test_a_token_is_replaced_five_minutes_before_its_end() -> None:
    giver = Giver()
    assert await giver.tokens.bearer() == "token-1"
    giver.now = 3299.0
    assert await giver.tokens.bearer() == "token-1"
    giver.now = 3301.0
    assert await giver.tokens.bearer() == "token-2"


async def test_the_old_token_serves_while_it_cannot_be_replaced() -> None:
    giver = Giver()
    await giver.tokens.bearer()
    giver.fails, giver.now = True, 3301.0
    assert await giver.tokens.bearer() == await giver.tokens.bearer() == "token-1"
    assert giver.asked == 2  # not asked again at once
    giver.now = 3312.0
    assert await giver.tokens.bearer() == "token-1"
    assert giver.asked == 3
    giver.now = 3601.0
    with pytest.raises(ProviderError):
        await giver.tokens.bearer()


async def test_only_the_token_in_use_is_forgotten() -> None:
    giver = Giver()
    first = await giver.tokens.bearer()
    giver.tokens.forget(first)
    assert await giver.tokens.bearer() == "token-2"
    giver.tokens.forget(first)  # refused late
    assert await giver.tokens.bearer() == "token-2"


async def test_waiting_has_an_end_and_hurts_nobody_else() -> None:
    giver = Giver()
    giver.open.clear()
    with pytest.raises(ProviderError) as caught:
        await giver.tokens.bearer(within=0.01)
    assert caught.value.kind is ErrorKind.UNREACHABLE
    giver.open.set()
    assert await giver.tokens.bearer() == "token-2"


class Answers(Scripted):
    """One answer of any status."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__()
        self._answer = HttpAnswer(status, {"retry-after": "3"} if status == 429 else {}, body)

    async def send(self, request: HttpRequest) -> HttpAnswer:
        return self._answer


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, b'{"error": "invalid_client"}', ErrorKind.AUTHENTICATION),
        (401, b"", ErrorKind.AUTHENTICATION),
        (429, b"", ErrorKind.RATE_LIMITED),
        (500, b"", ErrorKind.OVERLOADED),
        (504, b"", ErrorKind.OVERLOADED),
        (200, b"no json", ErrorKind.OVERLOADED),
        (200, b"{}", ErrorKind.OVERLOADED),
        (200, b'{"access_token": "", "expires_in": 3600}', ErrorKind.OVERLOADED),
        (200, b'{"access_token": "t", "expires_in": "soon"}', ErrorKind.OVERLOADED),
        (200, b'{"access_token": "t", "expires_in": 0}', ErrorKind.OVERLOADED),
    ],
)
async def test_no_grant_is_an_error_of_its_class(status: int, body: bytes, kind: ErrorKind) -> None:
    with pytest.raises(ProviderError) as caught:
        await granted(Answers(status, body), HttpRequest("POST", "https://giver.example", 1.0), "the giver")
    assert caught.value.kind is kind
    assert "the giver" in caught.value.message
    assert caught.value.retry_after == (3.0 if status == 429 else None)


async def test_a_grant_is_read() -> None:
    http = Scripted({"access_token": "t", "expires_in": 86399, "token_type": "bearer"})
    assert await granted(http, HttpRequest("POST", "https://giver.example", 1.0), "the giver") == ("t", 86399.0)
