"""The library's promises: repeats are safe, errors are typed, bytes are checked."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import grpc
import imagemesh
import pytest
from google.protobuf import json_format
from imagemesh import errors
from imagemesh.aio import AsyncClient
from imagemesh.calls import Connection
from imagemesh.client import Client
from imagemesh.generation import Options, from_money, to_job_options, to_money, to_spec
from imagemesh.router.v1 import job_pb2, job_service_pb2

from tests.client.fake_mesh import KEY, FakeMesh, Refusal, png


def test_generate_gives_the_picture(client: Client, mesh: FakeMesh, tmp_path: Path) -> None:
    updates: list[str] = []
    result = client.generate(
        "a circle", Options(seed=7), lambda update: updates.append(str(update.WhichOneof("update")))
    )
    assert updates == ["job", "progress", "progress", "job"]
    assert result.images[0].read() == png(0)
    assert result.images[0].save(tmp_path / "a.png").read_bytes() == png(0)
    assert (result.cost, result.currency, result.from_cache) == (Decimal("0.0025"), "USD", False)
    assert list(tmp_path.iterdir()) == [tmp_path / "a.png"]


def test_each_call_without_a_request_id_gets_its_own(client: Client, mesh: FakeMesh) -> None:
    client.create("a")
    client.create("a")
    assert len(set(mesh.request_ids)) == len(mesh.jobs) == 2


def test_repeats_carry_the_same_request_id(client: Client, mesh: FakeMesh) -> None:
    mesh.outages = 2
    client.generate("a circle")
    assert len(mesh.request_ids) == 3
    assert len(set(mesh.request_ids)) == len(mesh.jobs) == 1


def test_a_broken_stream_is_taken_up_again(client: Client, mesh: FakeMesh) -> None:
    mesh.drops = 2
    assert client.generate("a circle").images
    assert len(set(mesh.request_ids)) == len(mesh.jobs) == 1


def test_repeats_end(client: Client, mesh: FakeMesh) -> None:
    mesh.outages = 100
    with pytest.raises(errors.UnavailableError) as caught:
        client.create("a")
    assert caught.value.reason == "DRAINING"
    assert len(mesh.request_ids) == 4


def test_what_must_not_be_repeated_is_not(client: Client, mesh: FakeMesh) -> None:
    mesh.outages = 1
    request = job_service_pb2.CreateJobRequest(request_id="once", spec=to_spec("a", Options()))
    with pytest.raises(errors.UnavailableError):
        client.call(client.jobs.CreateJob, request, repeatable=False)


def test_nobody_there() -> None:
    with Client("127.0.0.1:9", KEY, Connection(timeout=2)) as client, pytest.raises(errors.UnavailableError) as caught:
        client.call(client.jobs.GetJob, job_service_pb2.GetJobRequest(job_id="job_1"), repeatable=False)
    assert str(caught.value) == "127.0.0.1:9 does not answer"


@pytest.mark.parametrize(("code", "kind"), sorted(errors.ERROR_TYPES.items()))
def test_every_code_has_its_error(client: Client, mesh: FakeMesh, code: str, kind: type[errors.ImagemeshError]) -> None:
    mesh.refusals["a"] = Refusal(code, "SOME_REASON", "the text", ("spec.x", "is wrong"), retry_after=3)
    request = job_service_pb2.CreateJobRequest(request_id="r", spec=to_spec("a", Options()))
    with pytest.raises(kind) as caught:
        client.call(client.jobs.CreateJob, request, repeatable=False)
    error = caught.value
    assert type(error) is kind
    assert (error.code, error.reason, error.message, error.retry_after) == (code, "SOME_REASON", "the text", 3.0)
    assert error.violations == (errors.Violation("spec.x", "is wrong"),)


def test_every_code_of_grpc_is_in_the_table() -> None:
    assert set(errors.ERROR_TYPES) == {code.name for code in grpc.StatusCode} - {"OK"}


@pytest.mark.parametrize(
    ("prompt", "kind", "reason"),
    [
        ("blocked", errors.JobBlockedError, "MODERATION_BLOCKED"),
        ("failed", errors.JobFailedError, "ALL_CANDIDATES_FAILED"),
        ("unknown", errors.JobFailedError, "ATTEMPT_OUTCOME_UNKNOWN"),
    ],
)
def test_a_job_without_a_picture_raises(client: Client, prompt: str, kind: type[errors.JobError], reason: str) -> None:
    with pytest.raises(kind) as caught:
        client.generate(prompt)
    assert caught.value.reason == reason
    assert caught.value.job.job_id.startswith("job_")


def test_a_missing_and_a_wrong_key(mesh: FakeMesh) -> None:
    for key, reason in (("", "KEY_MISSING"), ("other", "KEY_INVALID")):
        with Client(mesh.target, key) as client, pytest.raises(errors.AuthenticationError) as caught:
            client.get("job_1")
        assert caught.value.reason == reason


def test_bytes_that_are_not_the_jobs_are_refused(client: Client) -> None:
    result = client.generate("corrupt")
    with pytest.raises(errors.DownloadError, match="not the ones the job names"):
        result.images[0].read()


def test_a_picture_without_an_address_asks_for_one(client: Client) -> None:
    result = client.generate("no address")
    assert result.images[0].url == ""
    assert result.images[0].read() == png(0)


def test_refused_pictures_are_left_out(client: Client) -> None:
    result = client.generate("half", Options(count=2))
    assert [picture.message.index for picture in result.images] == [1]


def test_list_walks_the_pages(client: Client) -> None:
    made = [client.create("a").job_id for _ in range(5)]
    assert [job.job_id for job in client.list()] == made[::-1]


def test_cancel_and_watch(client: Client) -> None:
    job = client.create("hang")
    assert client.cancel(job.job_id).state == job_pb2.JOB_STATE_CANCELED
    assert [update.job.state for update in client.watch(job.job_id)] == [job_pb2.JOB_STATE_CANCELED]


def test_quote(client: Client) -> None:
    assert [offer.provider for offer in client.quote("a")] == ["imagemesh"]


@pytest.mark.parametrize(
    ("text", "units", "nanos", "currency"),
    [
        ("0.05", 0, 50_000_000, "USD"),
        ("12", 12, 0, "USD"),
        ("1.000000001 eur", 1, 1, "EUR"),
        (" 3.5 USD ", 3, 500_000_000, "USD"),
    ],
)
def test_money_is_exact(text: str, units: int, nanos: int, currency: str) -> None:
    money = to_money(text)
    assert (money.units, money.nanos, money.currency_code) == (units, nanos, currency)
    assert from_money(money) == Decimal(text.split()[0])


@pytest.mark.parametrize("text", ["", "much", "1,5", "nan", "inf", "0.0000000001"])
def test_what_is_no_money(text: str) -> None:
    with pytest.raises(ValueError, match="no amount of money"):
        to_money(text)


def test_options_become_the_contracts_messages() -> None:
    options = Options(size=(64, 32), seed=0, steps=4, guidance=1.5, count=2, negative_prompt="rain")
    assert json_format.MessageToDict(to_spec("sun", options)) == {
        "prompt": "sun",
        "negativePrompt": "rain",
        "size": {"width": 64, "height": 32},
        "count": 2,
        "seed": 0,
        "steps": 4,
        "guidance": 1.5,
    }
    assert json_format.MessageToDict(to_spec("sun", Options(aspect_ratio="16:9"))) == {
        "prompt": "sun",
        "aspectRatio": "16:9",
    }
    wanted = Options(cache="bypass", deadline=1.5, max_cost="0.1", user="u", labels={"a": "b"})
    assert json_format.MessageToDict(to_job_options(wanted)) == {
        "cache": "CACHE_POLICY_BYPASS",
        "deadline": "1.500s",
        "maxCost": {"currencyCode": "USD", "nanos": 100_000_000},
        "user": "u",
        "labels": {"a": "b"},
    }


@pytest.mark.parametrize("wrong", [Options(size=(1, 1), aspect_ratio="1:1"), Options(cache="never")])
def test_conflicting_options_are_refused(wrong: Options) -> None:
    with pytest.raises(ValueError, match=r"exclude each other|use, bypass or refresh"):
        to_job_options(wrong), to_spec("a", wrong)


async def test_the_asyncio_client_does_the_same(mesh: FakeMesh, quick: Connection) -> None:
    mesh.outages, mesh.drops = 1, 1
    async with AsyncClient(mesh.target, KEY, quick) as client:
        job = await client.generate("a circle", Options(count=2))
        assert len(set(mesh.request_ids)) == len(mesh.jobs) == 1
        assert await client.picture(job, 1) == png(16)
        assert (await client.get(job.job_id)).state == job_pb2.JOB_STATE_SUCCEEDED
        with pytest.raises(errors.JobBlockedError):
            await client.generate("blocked")
        other = await client.create("hang")
        await client.cancel(other.job_id)
        assert [job.job_id async for job in client.list()][:1] == [other.job_id]
        assert [update.job.state async for update in client.watch(other.job_id)] == [job_pb2.JOB_STATE_CANCELED]
        assert len(await client.quote("a")) == 1
        with pytest.raises(errors.NotFoundError):
            await client.get("job_none")


def test_the_package_offers_its_names() -> None:
    for name in imagemesh.__all__:
        assert getattr(imagemesh, name).__name__ == name
    with pytest.raises(AttributeError):
        imagemesh.nothing  # noqa: B018


def test_the_client_stands_on_grpc_and_protobuf_alone() -> None:
    script = (
        "import sys, imagemesh.client, imagemesh.aio, imagemesh.cli.main;"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(answer.stdout.split())
    assert not loaded & {"mesh", "services", "deploy", "nats", "tritonclient", "opentelemetry", "torch", "numpy"}
