"""Plug-ins in a running service: who is asked, what a failing one means, what verdicts and health say."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc
from imagemesh.moderation.v1 import verdict_pb2

from mesh.errors import Code
from services.moderation.config import DEFAULT_POLICY
from services.moderation.decoding import inspect
from services.moderation.perceptual import BlockedHash
from services.moderation.verdicts import Category
from tests.moderation.fakes.vendor import FakeVendor
from tests.moderation.pictures import encode, scene
from tests.moderation.plug_in_rig import CASES, plug_in_of
from tests.moderation.running import Running, refused, running


@dataclass
class Both:
    """The service, and what it asks."""

    service: Running
    vendor: FakeVendor


@asynccontextmanager
async def serving(folder: Path, policy: Mapping[str, Any] | None = None, **options: Any) -> AsyncIterator[Both]:
    document = yaml.safe_load(DEFAULT_POLICY.read_text()) | dict(policy or {})
    path = folder / "policies" / "default.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(document))
    case = CASES["openai"]
    vendor = case.fake()
    runner = await vendor.start()
    plug_in = plug_in_of(case, vendor.base_url, **options)
    try:
        async with running(f"sqlite:///{folder / 'moderation.db'}", path, [plug_in]) as service:
            yield Both(service, vendor)
    finally:
        await runner.cleanup()


async def test_what_it_finds_decides(tmp_path: Path) -> None:
    async with serving(tmp_path) as both:
        both.vendor.found = {"violence/graphic": 0.97}
        for verdict in (await both.service.prompt("a cat on a roof"), await both.service.image(encode(scene(1)))):
            assert verdict.decision == verdict_pb2.DECISION_BLOCK
            assert verdict.layer == "plug"
            assert {score.category for score in verdict.scores} == {
                verdict_pb2.CATEGORY_GORE,
                verdict_pb2.CATEGORY_VIOLENCE,
            }
            assert verdict.evidence[0].model_version == "omni-moderation-2024-09-26"
            assert not {verdict_pb2.CATEGORY_GORE, verdict_pb2.CATEGORY_VIOLENCE} & set(verdict.not_evaluated)


@pytest.mark.parametrize("failure", [503, "reset", "garbage"])
async def test_failing_closed(failure: int | str, tmp_path: Path) -> None:
    async with serving(tmp_path) as both:
        both.vendor.failure = failure
        for call in (both.service.prompt("a cat"), both.service.image(encode(scene(1)))):
            error = await refused(call)
            assert error.code is Code.UNAVAILABLE
            assert error.retry_after
        both.vendor.failure = None
        assert (await both.service.prompt("a cat")).decision == verdict_pb2.DECISION_ALLOW


async def test_failing_open_says_what_was_not_judged(tmp_path: Path) -> None:
    async with serving(tmp_path, {"failure_mode": "OPEN"}) as both:
        both.vendor.failure = 503
        verdict = await both.service.image(encode(scene(1)))
        assert verdict.decision == verdict_pb2.DECISION_ALLOW
        assert verdict_pb2.CATEGORY_GORE in verdict.not_evaluated


@pytest.mark.parametrize(("layers", "asked"), [([], 0), (["plug"], 1)])
async def test_only_those_who_require_it_have_their_content_sent_out(
    layers: list[str], asked: int, tmp_path: Path
) -> None:
    async with serving(tmp_path, {"required_layers": layers}, use="required") as both:
        both.vendor.found = {"violence": 0.99}
        verdict = await both.service.prompt("a cat on a roof")
        assert len(both.vendor.asked) == asked
        assert (verdict.decision == verdict_pb2.DECISION_BLOCK) == bool(asked)


async def test_a_picture_that_is_blocked_already_is_not_sent_out(tmp_path: Path) -> None:
    async with serving(tmp_path) as both:
        data = encode(scene(4))
        known = BlockedHash("bhs_1", Category.GORE, inspect(data).fingerprint.hashes[0])
        await both.service.moderation.store.block([known], "tests")
        await both.service.image(data)  # from here on the process knows of it
        both.vendor.asked.clear()
        assert (await both.service.image(data)).decision == verdict_pb2.DECISION_BLOCK
        assert both.vendor.asked == []


async def test_it_has_a_health_name(tmp_path: Path) -> None:
    async with serving(tmp_path) as both:
        port = both.service.moderation.server.port
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            request = health_pb2.HealthCheckRequest(service="classifier-plug")
            answer = await health_pb2_grpc.HealthStub(channel).Check(request)  # type: ignore[attr-defined]
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
