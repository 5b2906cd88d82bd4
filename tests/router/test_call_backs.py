"""Vendors call back: only what was signed for an address of ours is believed, and then it is a fact in SQL."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import pytest
from pydantic import ValidationError

from mesh.errors import Unavailable
from services.router.attempt_store import AttemptEnd
from services.router.call_back_store import CallBackStore, Fact, Noted
from services.router.call_backs import CallBackAddresses
from services.router.config import ApiSettings
from services.router.hooks import Desk, Hooks, HooksConfig
from services.router.leases import ClaimedJob, Ending
from services.router.providers.webhooks import CallBack, CallBackRefusedError
from services.router.tables import attempts, budgets, jobs, ledger_entries
from tests.router.rig import ScriptedProvider
from tests.router.stores import Stores, new_attempt

SECRET = "secret"


class Signing(ScriptedProvider):
    """Believes a call back whose body is the request's id and whose header says so."""

    async def verify(self, call_back: CallBack) -> str:
        if call_back.header("x-signed") != call_back.body.decode():
            raise CallBackRefusedError("its signature does not fit")
        return call_back.body.decode()


@pytest.mark.parametrize(
    ("url", "fits"),
    [("https://mesh.example/a", True), ("", True), ("http://mesh.example", False), ("https://m?x=1", False)],
)
def test_vendors_are_told_addresses_with_tls_alone(url: str, fits: bool) -> None:
    with contextlib.nullcontext() if fits else pytest.raises(ValidationError, match="public_callback_url"):
        ApiSettings(database_url="sqlite:///x", public_callback_url=url)


@dataclass
class Heard:
    facts: list[Fact] = field(default_factory=list)
    signals: list[str] = field(default_factory=list)
    answer: Noted = Noted.HEARD
    down: bool = False

    async def note(self, fact: Fact) -> Noted:
        if self.down:
            raise Unavailable("the database does not answer")
        self.facts.append(fact)
        return self.answer

    async def signal(self, subject: str, _payload: bytes) -> None:
        self.signals.append(subject)


@dataclass(frozen=True)
class Front:
    hooks: Hooks
    heard: Heard
    addresses: CallBackAddresses
    session: aiohttp.ClientSession

    async def post(self, path: str, body: str = "vendor-1", **headers: str) -> int:
        url = f"http://127.0.0.1:{self.hooks.port}{path}"
        async with self.session.post(
            url, data=io.BytesIO(body.encode()), headers=headers or {"X-Signed": body}
        ) as answer:
            return answer.status

    def path(self, provider: str = "one", attempt_id: str = "att_1") -> str:
        return self.addresses.address(provider, attempt_id).removeprefix("https://mesh.example")


@asynccontextmanager
async def listening(config: HooksConfig | None = None) -> AsyncIterator[Front]:
    heard, addresses = Heard(), CallBackAddresses(SECRET, "https://mesh.example")
    hooks = Hooks(config or HooksConfig(), Desk({"one": Signing("one")}, addresses, heard.note, heard.signal))
    await hooks.start()
    async with aiohttp.ClientSession() as session:
        try:
            yield Front(hooks, heard, addresses, session)
        finally:
            await hooks.stop()


async def test_a_believed_call_back_is_stored_and_wakes_the_worker() -> None:
    async with listening() as front:
        assert await front.post(front.path()) == 204
        assert front.heard.facts == [Fact("one", "att_1", "vendor-1")]
        assert front.heard.signals == ["hook.att_1"]


@pytest.mark.parametrize(
    "path",
    [
        "/hooks/one/att_1?t=" + "0" * 32,
        "/hooks/one/att_1",
        CallBackAddresses("other", "https://x").address("one", "att_1").removeprefix("https://x"),
        CallBackAddresses(SECRET, "https://x").address("two", "att_1").removeprefix("https://x"),
    ],
)
async def test_an_address_that_was_never_given_away_is_not_there(path: str) -> None:
    async with listening() as front:
        assert await front.post(path) == 404
        assert front.heard.facts == []


async def test_an_address_is_good_for_its_own_attempt_only() -> None:
    async with listening() as front:
        assert await front.post(front.path().replace("att_1", "att_2")) == 404


@pytest.mark.parametrize("headers", [{"X-Signed": "vendor-2"}, {"X-Other": ""}])
async def test_what_is_not_signed_is_not_believed(headers: dict[str, str]) -> None:
    async with listening() as front:
        assert await front.post(front.path(), **headers) == 401
        assert front.heard.facts == []


async def test_the_vendor_is_asked_to_repeat_what_could_not_be_stored() -> None:
    async with listening() as front:
        front.heard.down = True
        assert await front.post(front.path()) == 503
        assert front.heard.signals == []


async def test_an_attempt_that_nobody_knows_wakes_nobody() -> None:
    async with listening() as front:
        front.heard.answer = Noted.UNKNOWN_ATTEMPT
        assert await front.post(front.path()) == 404
        assert front.heard.signals == []


async def test_a_body_beyond_the_cap_is_refused() -> None:
    async with listening() as front:
        assert await front.post(front.path(), "x" * (4 * 1024 * 1024 + 1), **{"X-Signed": "x"}) == 413


async def test_a_body_that_never_ends_is_not_waited_for() -> None:
    async def trickle() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.Event().wait()

    async with listening(HooksConfig(read_seconds=0.05)) as front:
        url = f"http://127.0.0.1:{front.hooks.port}{front.path()}"
        async with front.session.post(url, data=trickle()) as answer:
            assert answer.status == 408


def test_without_a_public_address_vendors_are_told_none() -> None:
    assert CallBackAddresses(SECRET).address("one", "att_1") == ""


def fact(attempt_id: str) -> Fact:
    return Fact("openai", attempt_id, "vendor-1")


async def test_a_call_back_about_an_order_under_way_stores_the_vendors_id(stores: Stores) -> None:
    job, attempt = await stores.take(), new_attempt()
    await stores.attempts.begin(job.lease, attempt)
    assert await CallBackStore(stores.database).note(fact(attempt.attempt_id)) is Noted.HEARD
    (row,) = await stores.rows(attempts)
    assert (row.state, row.provider_request_id) == ("RUNNING", "vendor-1")
    assert (await stores.rows(jobs))[0].poked


async def test_an_id_that_is_known_stays(stores: Stores) -> None:
    job, attempt = await stores.take(), new_attempt()
    await stores.attempts.begin(job.lease, attempt)
    await stores.attempts.identify(job.lease, attempt.attempt_id, "polling-url")
    await CallBackStore(stores.database).note(fact(attempt.attempt_id))
    assert (await stores.rows(attempts))[0].provider_request_id == "polling-url"


async def test_an_unknown_outcome_is_taken_up_by_the_next_run(stores: Stores) -> None:
    await stores.budget(10_000)
    job, attempt = await stores.take(), new_attempt()
    await stores.attempts.begin(job.lease, attempt)
    await stores.attempts.finish(job.lease, attempt.attempt_id, AttemptEnd("UNKNOWN"))
    assert await CallBackStore(stores.database).note(fact(attempt.attempt_id)) is Noted.TAKEN_UP
    await stores.queue.release(job.lease)
    (again,) = await stores.claim()
    (found,) = again.attempts
    assert (found.state, found.provider_request_id, found.end_time) == ("RUNNING", "vendor-1", None)


async def taken_up(stores: Stores) -> tuple[ClaimedJob, str]:
    """A job that was claimed again, with an order whose outcome was unknown until its vendor called back."""
    await stores.budget(10_000)
    job, attempt = await stores.take(), new_attempt()
    await stores.attempts.begin(job.lease, attempt)
    await stores.attempts.finish(job.lease, attempt.attempt_id, AttemptEnd("UNKNOWN"))
    await CallBackStore(stores.database).note(fact(attempt.attempt_id))
    await stores.queue.release(job.lease)
    (again,) = await stores.claim()
    return again, attempt.attempt_id


@pytest.mark.parametrize("state", ["SUCCEEDED", "FAILED", "CANCELED"])
async def test_what_was_held_is_held_until_the_outcome_is_known(stores: Stores, state: str) -> None:
    job, attempt_id = await taken_up(stores)
    assert await stores.kinds() == [("HOLD", 500)]
    await stores.attempts.finish(job.lease, attempt_id, AttemptEnd(state))
    assert await stores.kinds() == [("HOLD", 500), ("HOLD_RELEASE", 500)]
    assert (await stores.rows(budgets))[0].held_micros == 0


async def test_an_outcome_that_stays_unknown_is_held_once_and_ages(stores: Stores) -> None:
    job, attempt_id = await taken_up(stores)
    await stores.attempts.finish(job.lease, attempt_id, AttemptEnd("UNKNOWN"))
    assert await stores.kinds() == [("HOLD", 500)]
    assert (await stores.rows(attempts))[0].state == "UNKNOWN"
    aged = ledger_entries.update().values(create_time=0)
    await stores.database.write(lambda c: c.execute(aged) and None)
    assert await stores.ledger.expire_holds() == 1
    assert (await stores.rows(budgets))[0].held_micros == 0


async def test_a_job_that_loses_its_workers_with_such_an_order_stops_no_queue(stores: Stores) -> None:
    job, _ = await taken_up(stores)
    losses = jobs.update().values(step_losses=9, wake_at=0)
    await stores.database.write(lambda c: c.execute(losses) and None)
    assert await stores.claim() == []
    assert [row.state for row in await stores.rows(jobs)] == ["FAILED"]
    assert [row.state for row in await stores.rows(attempts)] == ["UNKNOWN"]
    assert job.attempts


@pytest.mark.parametrize("ending", ["SUCCEEDED", "FAILED"])
async def test_an_order_taken_up_too_late_for_its_run_does_not_stay_under_way(stores: Stores, ending: str) -> None:
    await stores.budget(10_000)
    job, attempt = await stores.take(), new_attempt()
    await stores.attempts.begin(job.lease, attempt)
    await stores.attempts.finish(job.lease, attempt.attempt_id, AttemptEnd("UNKNOWN"))
    await CallBackStore(stores.database).note(fact(attempt.attempt_id))
    await stores.queue.finish(job.lease, Ending(ending))  # the run went on elsewhere
    assert [row.state for row in await stores.rows(attempts)] == ["UNKNOWN"]
    assert ("HOLD_RELEASE", 500) not in await stores.kinds()


async def test_after_the_jobs_end_what_was_held_is_spent(stores: Stores) -> None:
    await stores.budget(10_000)
    job, attempt = await stores.take(), new_attempt()
    await stores.attempts.begin(job.lease, attempt)
    await stores.attempts.finish(job.lease, attempt.attempt_id, AttemptEnd("UNKNOWN"))
    await stores.queue.finish(job.lease, Ending("FAILED"))
    noted = CallBackStore(stores.database).note
    assert await noted(fact(attempt.attempt_id)) is Noted.TOO_LATE
    assert await noted(fact(attempt.attempt_id)) is Noted.NOTHING
    (row,) = await stores.rows(attempts)
    assert (row.state, row.cost_micros) == ("FAILED", 500)
    assert ("HOLD_RELEASE", 500) in await stores.kinds()
    assert (await stores.events())[-1] == "AttemptFinished"


@pytest.mark.parametrize("provider", ["openai", "other"])
async def test_only_the_provider_that_was_asked_can_tell(stores: Stores, provider: str) -> None:
    job, attempt = await stores.take(), new_attempt()
    await stores.attempts.begin(job.lease, attempt)
    noted = await CallBackStore(stores.database).note(Fact(provider, attempt.attempt_id, "x"))
    assert noted is (Noted.HEARD if provider == "openai" else Noted.UNKNOWN_ATTEMPT)


async def test_a_call_back_after_a_known_end_changes_nothing(stores: Stores) -> None:
    job, attempt = await stores.take(), new_attempt()
    await stores.attempts.begin(job.lease, attempt)
    await stores.attempts.finish(job.lease, attempt.attempt_id, AttemptEnd("SUCCEEDED"))
    assert await CallBackStore(stores.database).note(fact(attempt.attempt_id)) is Noted.NOTHING
