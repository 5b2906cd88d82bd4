"""Several accounts at one provider are used as one, and an account that was turned away rests."""

from __future__ import annotations

import asyncio

import pytest

from services.router.providers.accounts import Accounts, Member
from services.router.providers.base import Listener, ProviderCall, ProviderResult
from services.router.providers.errors import ErrorKind, ProviderError
from services.router.providers.webhooks import CallBack, CallBackRefusedError
from tests.router.providers.harness_base import Heard
from tests.router.rig import Clock, ScriptedProvider

CALL = ProviderCall("att_1", "acme", "vendor-model", "a fox", 10.0)


def member(name: str, slots: int = 2, *, dedicated: bool = False) -> Member:
    return Member(name, ScriptedProvider("vendor"), slots, dedicated)


def scripted(of: Member) -> ScriptedProvider:
    assert isinstance(of.provider, ScriptedProvider)
    return of.provider


@pytest.mark.parametrize("kind", [ErrorKind.AUTHENTICATION, ErrorKind.QUOTA, ErrorKind.RATE_LIMITED])
async def test_the_next_account_is_asked_when_one_is_turned_away(kind: ErrorKind) -> None:
    first, second, clock = member("first"), member("second"), Clock()
    scripted(first).script = [kind]
    pool, heard = Accounts([first, second], clock), Heard()
    assert (await pool.submit(CALL, heard)).images
    assert heard.accounts == ["first", "second"]
    await pool.submit(CALL, heard)
    assert heard.accounts[2:] == ["second"]  # the first one rests
    clock.now += 61
    await pool.submit(CALL, heard)
    assert heard.accounts[3:] == ["first"]


@pytest.mark.parametrize("kind", [ErrorKind.OVERLOADED, ErrorKind.UNKNOWN_OUTCOME, ErrorKind.REFUSED])
async def test_no_other_account_is_asked_after_the_provider_s_own_failure(kind: ErrorKind) -> None:
    first, second = member("first"), member("second")
    scripted(first).script = [kind]
    with pytest.raises(ProviderError) as caught:
        await Accounts([first, second], Clock()).submit(CALL, Heard())
    assert caught.value.kind is kind
    assert scripted(second).calls == []


class Taking(ScriptedProvider):
    """Takes every order, then fails by its script when it is asked about it."""

    async def submit(self, call: ProviderCall, listener: Listener) -> ProviderResult:
        await listener.accepted("vendor-1")
        return await super().submit(call, listener)


@pytest.mark.parametrize("kind", [ErrorKind.AUTHENTICATION, ErrorKind.QUOTA, ErrorKind.RATE_LIMITED])
async def test_an_order_that_one_account_took_is_placed_at_no_other(kind: ErrorKind) -> None:
    taking, second, heard = Taking("vendor"), member("second"), Heard()
    taking.script = [kind]
    with pytest.raises(ProviderError) as caught:
        await Accounts([Member("first", taking, 2), second], Clock()).submit(CALL, heard)
    assert caught.value.kind is kind
    assert (scripted(second).calls, heard.accounts) == ([], ["first"])


async def test_when_all_are_turned_away_the_mildest_cause_is_told_and_then_how_long_they_rest() -> None:
    first, second = member("first"), member("second")
    scripted(first).script = [ProviderError(ErrorKind.RATE_LIMITED, "slower", retry_after=7.0)]
    scripted(second).script = [ErrorKind.QUOTA]
    pool = Accounts([first, second], Clock())
    for _ in range(2):
        with pytest.raises(ProviderError) as caught:
            await pool.submit(CALL, Heard())
        assert caught.value.kind is ErrorKind.RATE_LIMITED
    assert caught.value.retry_after == 7.0
    assert (len(scripted(first).calls), len(scripted(second).calls)) == (1, 1)


async def test_a_single_account_passes_everything_on() -> None:
    only = member("only")
    scripted(only).script = [ErrorKind.RATE_LIMITED]
    pool = Accounts([only], Clock())
    with pytest.raises(ProviderError):
        await pool.submit(CALL, Heard())
    assert (await pool.submit(CALL, Heard())).images


async def test_dedicated_capacity_comes_first_while_it_has_room_then_the_least_busy() -> None:
    shared, own = member("shared"), member("own", 1, dedicated=True)
    scripted(own).script = ["hang"]
    pool, heard = Accounts([shared, own], Clock()), Heard()
    waiting = asyncio.create_task(pool.submit(CALL, heard))
    await scripted(own).until_asked()
    await pool.submit(CALL, heard)
    assert heard.accounts == ["own", "shared"]
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await pool.submit(CALL, heard)
    assert heard.accounts[-1] == "own"


def test_an_order_is_taken_up_and_called_off_where_it_was_placed() -> None:
    first, second = member("first"), member("second")
    pool = Accounts([first, second], Clock())
    assert pool.at("second") is second.provider
    assert pool.at("gone") is first.provider


async def test_a_call_back_may_be_signed_for_any_account() -> None:
    class Signing(ScriptedProvider):
        async def verify(self, call_back: CallBack) -> str:
            if call_back.body != self.name.encode():
                raise CallBackRefusedError("its signature does not fit")
            return "vendor-1"

    pool = Accounts([Member("a", Signing("a"), 1), Member("b", Signing("b"), 1)], Clock())
    assert await pool.verify(CallBack({}, b"b")) == "vendor-1"
    with pytest.raises(CallBackRefusedError):
        await pool.verify(CallBack({}, b"c"))
