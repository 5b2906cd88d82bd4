"""The sixteen scenarios of the public Failover Bench, carried over to image jobs.

Source: failoverbench/failoverbench, `scenarios/catalogue.yaml` 0.1 (S01 to S16); wording and checks here are ours. Each
job goes through the real pipeline, stores and OpenAI adapter to two vendors on loopback. Pauses pass on the rig's
clock; what a vendor does, or does not do, takes real time.

None is left out. S08 to S11 and S14 need streams: the primary is asked for partial images. S14 asks whether a fallback
is fed what it cannot take; image jobs have no prefill, so it is the spec's own fields that the fallback may lack.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from imagemesh.router.v1 import job_pb2
from pydantic import SecretStr

from mesh.db import DatabaseConfig, open_database
from services.router.attempt_store import AttemptStore
from services.router.job_store import JobStore
from services.router.leases import Ended, Parking
from services.router.ledger_store import LedgerStore
from services.router.providers.accounts import Accounts, Member
from services.router.providers.base import Account
from services.router.providers.http import PooledHttpClient
from services.router.providers.openai import OpenAIImages
from services.router.providers.wrappers import wrapped
from services.router.queue_store import QueueStore
from services.router.tables import attempts, jobs
from tests.router import catalogs
from tests.router.conftest import MIGRATIONS
from tests.router.fakes.openai import OpenAIStub, StubConfig
from tests.router.rig import Rig
from tests.router.stores import Stores
from tests.schemas import migrated

TIMEOUT_S = 5.0
"""What a call may take, in the catalog; far above what loopback needs."""


class Vendor(OpenAIStub):
    """Fails as told, order by order, whatever the prompt; then draws. `always` never recovers."""

    def __init__(self, latency: float = 0.0) -> None:
        super().__init__(StubConfig(latency=latency))
        self.faults: list[str] = []
        self.always = ""

    @property
    def orders(self) -> int:
        return sum(self.posts.values())

    def _failure(self, prompt: str) -> str:
        if self.faults:
            return self.faults.pop(0)
        return self.always


@dataclass
class Outcome:
    """A job that has ended, and what it took."""

    job: Any
    orders: list[tuple[str, str]]


@dataclass
class Bench:
    """Two vendors behind one rig."""

    rig: Rig
    one: Vendor
    two: Vendor
    asked_at: list[float] = field(default_factory=list)

    async def run(self, **fields: Any) -> Outcome:
        """Submit and work until the job has ended, parking included."""
        job_id = await self.rig.submit(**fields)
        async with asyncio.timeout(60):
            while isinstance(outcome := await self.rig.walk(await self._claimed()), Parking):
                await self._pass(outcome.wake_in_s)
        assert isinstance(outcome, Ended)
        rows = [row for row in await self.rig.stores.rows(attempts) if row.job_id == job_id]
        (job,) = [row for row in await self.rig.stores.rows(jobs) if row.job_id == job_id]
        return Outcome(job, [(row.provider, row.state) for row in sorted(rows, key=lambda row: row.ordinal)])

    async def _claimed(self) -> Any:
        return await self.rig.claim()

    async def _pass(self, seconds: float) -> None:
        """Time passes, for the rig, for parked jobs and for orders that have ended."""
        self.rig.clock.now += seconds
        passed = round(seconds * 1_000_000)
        due = jobs.update().where(jobs.c.state == "RUNNING").values(wake_at=0, deadline=jobs.c.deadline - passed)
        ended = attempts.update().values(end_time=attempts.c.end_time - passed)
        for change in (due, ended):
            await self.rig.stores.database.write(lambda connection, said=change: connection.execute(said) and None)


def catalog_of(two: dict[str, Any]) -> dict[str, Any]:
    able = {"count_per_call": 4, "seed": False, "sizes": ["1024x1024"], "default_size": "1024x1024"}
    routes = [
        catalogs.route("one", "0.02", provider_model="gpt-image-2", capabilities=able),
        catalogs.route("two", "0.03", provider_model="gpt-image-2", capabilities={**able, **two}),
    ]
    return catalogs.document([catalogs.provider("one"), catalogs.provider("two")], [catalogs.model("m", *routes)])


Open = Callable[..., Any]


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Open]:
    """Opens a bench: `latency` of the primary, what its route's capabilities differ in, whether it streams."""
    async with AsyncExitStack() as closing:

        async def open_bench(latency: float = 0.0, timeout_s: float = TIMEOUT_S, **two: Any) -> Bench:
            url = f"sqlite:///{tmp_path}/router.db"
            await migrated(url, MIGRATIONS)
            database = open_database(DatabaseConfig(url))
            closing.push_async_callback(database.close)
            made = (JobStore(database), QueueStore(database), AttemptStore(database), LedgerStore(database))
            rig = Rig(Stores(database, *made), tmp_path)
            document = catalog_of(two)
            for route in document["models"][0]["routes"]:
                route["timeout_s"] = timeout_s
            rig.catalog = catalogs.load(tmp_path, document)
            rig.planner = replace(rig.planner, catalog=rig.catalog)
            bench = Bench(rig, Vendor(latency), Vendor())
            http = PooledHttpClient()
            closing.push_async_callback(http.close)
            for name, vendor in (("one", bench.one), ("two", bench.two)):
                await vendor.start()
                closing.push_async_callback(vendor.stop)
                settings = {"partial_images": "1", "stream_idle_s": "0.3"}
                account = Account(name, vendor.base_url, SecretStr("sk-stub"), "gpt-image", settings=settings)
                adapter = OpenAIImages(account, http)
                rig.providers[name] = wrapped(Accounts([Member("default", adapter, 8)], rig.clock), rig.breakers)
            return bench

        yield open_bench


async def test_s01_a_429_with_retry_after_is_honoured_and_the_job_served_meanwhile(opened: Open) -> None:
    bench = await opened()
    bench.one.faults = ["rate_limited"]
    ended = await bench.run()
    assert ended.orders == [("one", "FAILED"), ("two", "SUCCEEDED")]
    await bench.run()
    assert bench.one.orders == 1  # it asked for 7 s
    bench.rig.clock.now += 7
    assert (await bench.run()).orders == [("one", "SUCCEEDED")]


async def test_s01_alone_it_is_asked_again_no_sooner_than_it_said(opened: Open) -> None:
    bench = await opened()
    bench.one.faults = ["rate_limited"]
    began = bench.rig.clock.now
    ended = await bench.run(options=job_pb2.JobOptions(routing=job_pb2.Routing(deny=["two"])))
    assert ended.orders == [("one", "FAILED"), ("one", "SUCCEEDED")]
    assert bench.rig.clock.now - began >= 7


async def test_s02_a_429_that_stays_is_never_hammered(opened: Open) -> None:
    bench = await opened()
    bench.one.always = "rate_limited_bare"
    for _ in range(5):
        ended = await bench.run()
        assert ended.orders[-1] == ("two", "SUCCEEDED")
        bench.rig.clock.now += 0.5
    assert bench.one.orders <= 3


async def test_s02_alone_the_pauses_grow_and_the_deadline_ends_it(opened: Open) -> None:
    bench = await opened()
    bench.one.always = "rate_limited_bare"
    options = job_pb2.JobOptions(routing=job_pb2.Routing(deny=["two"]))
    ended = await bench.run(options=options, deadline_s=120)
    assert ended.job.state == "FAILED"
    assert bench.one.orders <= 20  # over two minutes


async def test_s03_a_500_is_tried_again_at_the_same_provider(opened: Open) -> None:
    bench = await opened()
    bench.one.faults = ["error500"]
    assert (await bench.run()).orders == [("one", "FAILED"), ("one", "SUCCEEDED")]


async def test_s04_a_503_for_good_goes_to_the_next_within_the_budget_of_retries(opened: Open) -> None:
    bench = await opened()
    bench.one.always = "overloaded"
    assert (await bench.run()).orders == [("one", "FAILED")] * 3 + [("two", "SUCCEEDED")]


async def test_s05_a_reset_before_headers_is_never_repeated_there(opened: Open) -> None:
    bench = await opened()
    bench.one.faults = ["reset"]
    ended = await bench.run()
    assert ended.orders == [("one", "UNKNOWN"), ("two", "SUCCEEDED")]  # it may have drawn, and bill


async def test_s06_no_response_at_all_costs_one_deadline_not_three(opened: Open) -> None:
    bench = await opened(timeout_s=0.4)
    bench.one.always = "silent"
    ended = await bench.run()
    assert ended.orders == [("one", "UNKNOWN"), ("two", "SUCCEEDED")]
    assert bench.one.orders == 1


async def test_s07_a_slow_first_byte_is_waited_for(opened: Open) -> None:
    bench = await opened(latency=0.2)
    assert (await bench.run()).orders == [("one", "SUCCEEDED")]


async def test_s07_with_hedging_somebody_else_answers_meanwhile(opened: Open) -> None:
    class Quick:
        def p50_s(self, provider: str, model: str) -> float | None:
            return 0.0

        p95_s = p50_s

    bench = await opened()
    bench.one.always = "silent"
    bench.rig.planner = replace(bench.rig.planner, observed=Quick())
    ended = await bench.run(options=job_pb2.JobOptions(routing=job_pb2.Routing(hedge=True)))
    assert dict(ended.orders)["two"] == "SUCCEEDED"


@pytest.mark.parametrize(
    ("fault", "scenario"), [("stream_cut", "S08"), ("stream_stall", "S09"), ("stream_ends", "S08: a clean end")]
)
async def test_s08_s09_a_stream_without_its_picture_is_no_picture(opened: Open, fault: str, scenario: str) -> None:
    bench = await opened()
    bench.one.faults = [fault]
    ended = await bench.run()
    assert ended.orders == [("one", "UNKNOWN"), ("two", "SUCCEEDED")]
    assert (await bench.run()).job.state == "SUCCEEDED"  # alive after it


async def test_s10_a_malformed_chunk_before_the_picture_is_passed_over(opened: Open) -> None:
    bench = await opened()
    bench.one.faults = ["stream_garbled"]
    assert (await bench.run()).orders == [("one", "SUCCEEDED")]


async def test_s10_a_malformed_picture_goes_to_the_next(opened: Open) -> None:
    bench = await opened()
    bench.one.faults = ["stream_broken"]
    ended = await bench.run()
    assert ended.orders[-1] == ("two", "SUCCEEDED")
    assert bench.one.orders == 1


async def test_s11_a_missing_end_marker_holds_nobody_up(opened: Open) -> None:
    bench = await opened()
    bench.one.faults = ["stream_open"]
    assert (await bench.run()).orders == [("one", "SUCCEEDED")]


async def test_s12_an_input_that_the_first_cannot_take_is_not_repeated_there(opened: Open) -> None:
    bench = await opened()
    bench.one.always = "unprocessable"
    assert (await bench.run()).orders == [("one", "FAILED"), ("two", "SUCCEEDED")]


@pytest.mark.parametrize("fault", ["policy", "moderation"])
async def test_s13_a_refusal_is_never_retried_and_never_shopped(opened: Open, fault: str) -> None:
    bench = await opened()
    bench.one.always = fault
    ended = await bench.run()
    assert (ended.job.state, ended.job.blocked_by) == ("BLOCKED", "PROVIDER")
    assert (bench.one.orders, bench.two.orders) == (1, 0)


async def test_s14_a_fallback_that_cannot_take_the_fields_is_not_asked_and_hides_no_failure(opened: Open) -> None:
    bench = await opened(formats=["png"])
    bench.one.faults = ["stream_cut"]
    ended = await bench.run(output=job_pb2.OutputOptions(format="webp"))
    assert ended.orders == [("one", "UNKNOWN")]
    assert bench.two.orders == 0
    assert ended.job.error_reason == "ATTEMPT_OUTCOME_UNKNOWN"


async def test_s14_it_is_asked_where_the_caller_lets_the_field_go_and_the_job_says_so(opened: Open) -> None:
    bench = await opened(formats=["png"])
    bench.one.faults = ["stream_cut"]
    routing = job_pb2.Routing(may_drop=["output.format"])
    ended = await bench.run(output=job_pb2.OutputOptions(format="webp"), options=job_pb2.JobOptions(routing=routing))
    assert ended.orders == [("one", "UNKNOWN"), ("two", "SUCCEEDED")]
    dropped = {row.provider: row.dropped for row in await bench.rig.stores.rows(attempts)}
    assert dropped == {"one": "", "two": "output.format"}


async def test_s15_a_primary_that_flaps_for_a_minute_is_served_around_and_taken_back(opened: Open) -> None:
    bench = await opened()
    start = bench.rig.clock.now
    served: list[tuple[float, str]] = []
    probes_while_down = 0
    for turn in range(24):
        elapsed = max(4.0 * turn, bench.rig.clock.now - start)
        bench.rig.clock.now = start + elapsed
        bench.one.always = "overloaded" if elapsed < 60 else ""
        before = bench.one.orders
        ended = await bench.run()
        assert ended.job.state == "SUCCEEDED"
        served.append((elapsed, ended.orders[-1][0]))
        probes_while_down += bench.one.orders - before if elapsed < 60 else 0
    back = next(elapsed for elapsed, provider in served if elapsed >= 60 and provider == "one")
    assert back <= 90  # within thirty seconds of its recovery
    assert {provider for elapsed, provider in served if elapsed > back} == {"one"}
    assert probes_while_down <= 12  # fifteen jobs came; undisturbed each would have asked three times


async def test_s16_the_answering_model_is_named_and_failed_attempts_are_not_billed(opened: Open) -> None:
    bench = await opened()
    bench.one.always = "overloaded"
    ended = await bench.run()
    rows = await bench.rig.stores.rows(attempts)
    assert ended.job.cost_micros == 30_000
    assert {row.cost_micros for row in rows if row.provider == "one"} == {0}
    assert [(row.provider, row.model) for row in rows if row.state == "SUCCEEDED"] == [("two", "m")]
