"""The rpc edge: a real server and channel in front of each engine, and of a fake one for what must not draw."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from imagemesh.inference.v1 import inference_service_pb2 as messages
from imagemesh.inference.v1 import model_pb2
from imagemesh.inference.v1.inference_service_pb2_grpc import InferenceServiceStub
from imagemesh.type.v1 import image_pb2

from mesh.auth import Principal
from mesh.channel import ChannelConfig, open_channel
from mesh.errors import MeshError
from mesh.server import ServerConfig
from mesh.status import from_rpc_error
from services.inference.assembly import MESSAGE_BYTES, Inference, Outside
from services.inference.catalog import Models
from services.inference.engine.errors import (
    EngineError,
    EngineFailed,
    EngineFull,
    EngineUnavailable,
    ModelNotLoaded,
)
from services.inference.engine.facts import Fact, Finished, Load, Memory, Picture, Preview, Progress, Stage
from services.inference.engine.manifest import Model
from services.inference.engine.request import ControlInput, DrawRequest, Lane, LoraUse, Margins
from services.inference.engines.base import Busy, Engine, State, Status
from services.inference.wire import PREVIEWS
from tests.inference.conftest import build, eventually, until_drawing
from tests.inference.guided import guided_model
from tests.router.fakes.pictures import draw

pytestmark = pytest.mark.timeout(180)
TOKEN = "a mesh token for tests"


class FakeEngine:
    """Draws bytes at once, or fails as it is told."""

    name = "fake"

    def __init__(self) -> None:
        self.asked: list[DrawRequest] = []
        self.failure: EngineError | None = None
        self.picture = b"picture" * 200_000
        self.preview: Preview | None = None
        self.loads: list[str] = []
        self.states = {"tiny": Status(State.READY), "absent": Status(State.FAILED, "no weights")}

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def draw(self, request: DrawRequest) -> AsyncGenerator[Fact, None]:
        self.asked.append(request)
        yield Progress(0, request.steps)
        if self.preview is not None:
            yield self.preview
        if self.failure is not None:
            raise self.failure
        for index, seed in enumerate(request.seeds):
            yield Picture(index, seed, request.width, request.height, self.picture)
        stages = (Stage("queue", 0, 2_000_000_000, {}), Stage("denoise", 2_000_000_000, 5_500_000_000, {}))
        yield Finished(request.steps, 3.25, stages)

    async def load(self, model: Model) -> None:
        self.loads.append(model.manifest.id)
        if self.failure is not None:
            raise self.failure
        self.states[model.manifest.id] = Status(State.READY)

    async def unload(self, model_id: str) -> None:
        self.states[model_id] = Status(State.UNLOADED)

    async def busy(self, model_id: str) -> Busy:
        return Busy(Load(1, 2, 3, 4, 5), Memory("cpu", 100, 40))

    async def statuses(self) -> dict[str, Status]:
        return dict(self.states)

    async def ready(self) -> None:
        if self.failure is not None:
            raise self.failure


class Keys:
    async def verify(self, key: str) -> Principal:
        return Principal("acme", "key_1", frozenset({key.upper()}))


@dataclass(frozen=True)
class Served:
    channel: grpc.aio.Channel
    target: str
    stub: Any


@asynccontextmanager
async def served(models: Models, engine: Engine) -> AsyncIterator[Served]:
    inference = Inference(
        ServerConfig(drain_seconds=1, message_bytes=MESSAGE_BYTES), Outside(models, engine, Keys(), TOKEN)
    )
    async with AsyncExitStack() as closing:
        closing.push_async_callback(inference.stop)
        await inference.start()
        target = f"127.0.0.1:{inference.server.port}"
        channel = open_channel(ChannelConfig(target, TOKEN, timeout=None))
        closing.push_async_callback(channel.close)
        yield Served(channel, target, InferenceServiceStub(channel))


@pytest.fixture
def fake() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
async def stub(models: Models, fake: FakeEngine) -> AsyncIterator[Any]:
    async with served(models, fake) as running:
        yield running.stub


@pytest.fixture
def guided(tmp_path: Path) -> Models:
    """A model without weights that does everything."""
    return Models({"guided": guided_model(tmp_path / "guided")}, draw_seed=lambda: 7)


def wanted(**changes: Any) -> messages.GenerateRequest:
    return messages.GenerateRequest(**{"model_id": "tiny", "prompt": "red star", **changes})


async def refusal(call: Any) -> MeshError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        if hasattr(call, "__aiter__"):
            async for _ in call:
                pass
        else:
            await call
    return from_rpc_error(caught.value, "inference")


async def test_the_stream_is_progress_chunks_and_a_summary(stub: Any, fake: FakeEngine) -> None:
    answers = [answer async for answer in stub.Generate(wanted(count=2, seed=9, steps=3, guidance=2.5))]
    assert [answer.WhichOneof("event") for answer in answers] == ["progress", *["chunk"] * 4, "summary"]
    chunks = [answer.chunk for answer in answers[1:5]]
    assert [(c.index, c.offset, len(c.data), c.last) for c in chunks[:2]] == [
        (0, 0, 1 << 20, False),
        (0, 1 << 20, 1_400_000 - (1 << 20), True),
    ]
    digest = hashlib.sha256(fake.picture).hexdigest()
    assert [c.sha256 for c in chunks] == ["", digest, "", digest]
    summary = answers[-1].summary
    assert [(i.seed, i.width, i.height, i.sha256, i.bytes) for i in summary.images] == [
        (9, 32, 32, digest, 1_400_000),
        (10, 32, 32, digest, 1_400_000),
    ]
    assert (summary.steps, summary.guidance, summary.scheduler, summary.model_id) == (3, 2.5, "ddim", "tiny")
    assert (summary.gpu_seconds, summary.queue_time.seconds) == (3.25, 2)
    assert (summary.run_time.seconds, summary.run_time.nanos) == (3, 500_000_000)
    assert len(summary.model_version) == 12


async def test_defaults_come_from_the_model(stub: Any, fake: FakeEngine) -> None:
    async for _ in stub.Generate(wanted()):
        pass
    [asked] = fake.asked
    assert (asked.width, asked.height, asked.steps, asked.guidance) == (32, 32, 4, 5.0)
    assert (asked.scheduler, asked.count, asked.seed) == ("ddim", 1, 1234)
    assert asked.request_id.startswith("draw_")


PNG = image_pb2.ImageSource(inline=draw(32, 1))
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"model_id": ""}, "model_id"),
    ({"prompt": ""}, "prompt"),
    ({"prompt": "x" * 32_001}, "prompt"),
    ({"negative_prompt": "x" * 32_001}, "negative_prompt"),
    ({"request_id": "x" * 129}, "request_id"),
    ({"width": 100_000, "height": 32}, "width"),
    ({"width": 32, "height": -1}, "height"),
    ({"width": 32}, "height"),
    ({"width": 33, "height": 32}, "width"),
    ({"width": 4096, "height": 32}, "width"),
    ({"count": -1}, "count"),
    ({"count": 9}, "count"),
    ({"steps": 0}, "steps"),
    ({"steps": 151}, "steps"),
    ({"steps": 10_000}, "steps"),
    ({"guidance": -0.5}, "guidance"),
    ({"guidance": 101.0}, "guidance"),
    ({"guidance": float("nan")}, "guidance"),
    ({"scheduler": "magic"}, "scheduler"),
    ({"operation": "dance"}, "operation"),
    ({"operation": "outpaint", "images": [PNG]}, "operation"),
    ({"operation": "inpaint", "images": [PNG]}, "mask"),
    ({"strength": 1.5}, "strength"),
    ({"images": [image_pb2.ImageSource(asset_id="ast_1")]}, "images"),
    ({"images": [PNG, PNG]}, "images"),
    ({"images": [image_pb2.ImageSource(inline=b"no picture")]}, "images[0]"),
    ({"mask": image_pb2.ImageSource(url="https://example.org/m.png")}, "mask"),
    ({"controls": [messages.ControlInput(kind="edges")]}, "controls"),
    ({"controls": [messages.ControlInput(kind="edges", image=PNG)] * 5}, "controls"),
    ({"controls": [messages.ControlInput(kind="edges", image=PNG, scale=3)]}, "controls"),
    ({"controls": [messages.ControlInput(kind="lines", image=PNG)]}, "controls[0].kind"),
    ({"loras": [messages.LoraInput(lora_id="ink", scale=4.5)]}, "loras"),
    ({"loras": [messages.LoraInput(lora_id="ink")] * 9}, "loras"),
    ({"loras": [messages.LoraInput(lora_id="unknown")]}, "loras[0].lora_id"),
    ({"margins": messages.Margins(left=2001)}, "margins"),
    ({"upscale_factor": 1}, "upscale_factor"),
    ({"lane": 7}, "lane"),
]


@pytest.mark.parametrize(("changes", "field"), WRONG)
async def test_a_wrong_field_is_named(stub: Any, fake: FakeEngine, changes: dict[str, Any], field: str) -> None:
    error = await refusal(stub.Generate(wanted(**changes)))
    assert (error.code.name, error.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")
    assert field in [violation.field for violation in error.violations]
    assert all(violation.description for violation in error.violations)
    assert not fake.asked


@pytest.mark.parametrize(
    ("failure", "code", "reason"),
    [
        (EngineFull("full", retry_after=2.0), "RESOURCE_EXHAUSTED", "ENGINE_FULL"),
        (EngineFailed("broke"), "INTERNAL", "ENGINE_FAILED"),
        (EngineUnavailable("gone"), "UNAVAILABLE", "PEER_UNAVAILABLE"),
        (ModelNotLoaded("no"), "FAILED_PRECONDITION", "MODEL_NOT_LOADED"),
    ],
)
async def test_the_engines_errors_have_codes_and_reasons(
    stub: Any, fake: FakeEngine, failure: EngineError, code: str, reason: str
) -> None:
    fake.failure = failure
    error = await refusal(stub.Generate(wanted()))
    assert (error.code.name, error.reason, error.message) == (code, reason, str(failure))
    assert (error.retry_after == 2.0) is isinstance(failure, EngineFull)


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (Status(State.FAILED, "its weights are torn"), "its weights are torn"),
        (Status(State.UNLOADED), "absent has no weights: no model_index.json in "),
    ],
)
async def test_who_asks_for_a_model_that_is_not_loaded_is_told_why(
    models: Models, fake: FakeEngine, status: Status, why: str
) -> None:
    fake.failure, fake.states["absent"] = ModelNotLoaded("the engine knows no such model"), status
    async with served(models, fake) as running:
        error = await refusal(running.stub.Generate(wanted(model_id="absent")))
        listed = (await running.stub.ListModels(messages.ListModelsRequest())).models
    assert (error.reason, error.message[: len(why)]) == ("MODEL_NOT_LOADED", why)
    assert [model.error for model in listed if model.model_id == "absent"] == [error.message]


async def test_an_unknown_model_names_the_nearest(stub: Any) -> None:
    for call in (
        stub.Generate(wanted(model_id="tinny")),
        stub.GetCapacity(messages.GetCapacityRequest(model_id="tinny")),
    ):
        error = await refusal(call)
        assert (error.code.name, error.reason) == ("NOT_FOUND", "MODEL_NOT_FOUND")
        assert error.metadata["nearest"] == "tiny"


async def test_another_version_is_refused(stub: Any, models: Models) -> None:
    error = await refusal(stub.Generate(wanted(model_version="2019")))
    assert (error.code.name, error.reason) == ("FAILED_PRECONDITION", "MODEL_NOT_LOADED")
    async for _ in stub.Generate(wanted(model_version=models.get("tiny").version)):
        pass


async def test_models_are_listed_in_pages(stub: Any) -> None:
    first = await stub.ListModels(messages.ListModelsRequest(page_size=1))
    second = await stub.ListModels(messages.ListModelsRequest(page_size=1, page_token=first.next_page_token))
    [absent], [tiny] = first.models, second.models
    assert second.next_page_token == ""
    assert (absent.model_id, absent.state, absent.error) == ("absent", model_pb2.MODEL_STATE_FAILED, "no weights")
    assert (tiny.model_id, tiny.state) == ("tiny", model_pb2.MODEL_STATE_READY)
    assert (tiny.size.min, tiny.size.max, tiny.size.factor) == (16, 128, 8)
    assert (tiny.gpu_second_price.units, tiny.gpu_second_price.nanos) == (0, 500_000)
    assert list(tiny.capabilities) == ["text_to_image", "image_to_image", "inpaint"]
    error = await refusal(stub.ListModels(messages.ListModelsRequest(page_token="nonsense")))
    assert error.reason == "PAGE_TOKEN_INVALID"


async def test_capacity_of_the_models_that_draw(stub: Any) -> None:
    capacity = await stub.GetCapacity(messages.GetCapacityRequest())
    assert (capacity.running, capacity.waiting, capacity.slots, capacity.engine) == (1, 2, 3, "fake")
    assert [model.model_id for model in capacity.models] == ["tiny"]
    assert [(d.device, d.total_bytes, d.used_bytes) for d in capacity.devices] == [("cpu", 100, 40)]


async def test_a_model_is_loaded_and_unloaded_by_rpc(stub: Any, fake: FakeEngine) -> None:
    told = (await stub.UnloadModel(messages.UnloadModelRequest(model_id="tiny"))).model
    assert (told.model_id, told.state) == ("tiny", model_pb2.MODEL_STATE_UNLOADED)
    assert "by an operator" in told.error
    assert (await stub.GetCapacity(messages.GetCapacityRequest())).slots == 0
    for _ in range(2):  # the second finds it loaded
        told = (await stub.LoadModel(messages.LoadModelRequest(model_id="tiny"))).model
        assert (told.state, told.error) == (model_pb2.MODEL_STATE_READY, "")
    assert fake.loads == ["tiny"]


async def test_a_model_that_cannot_be_loaded_says_why(stub: Any, fake: FakeEngine) -> None:
    fake.failure = ModelNotLoaded("its weights are torn")
    error = await refusal(stub.LoadModel(messages.LoadModelRequest(model_id="absent")))
    assert (error.code.name, error.reason) == ("FAILED_PRECONDITION", "MODEL_NOT_LOADED")
    assert error.message == "its weights are torn"


@pytest.mark.parametrize("call", ["Load", "Unload"])
async def test_only_known_models_are_loaded(stub: Any, fake: FakeEngine, call: str) -> None:
    rpc, request = getattr(stub, f"{call}Model"), getattr(messages, f"{call}ModelRequest")
    error = await refusal(rpc(request(model_id="tinny")))
    assert (error.reason, error.metadata["nearest"]) == ("MODEL_NOT_FOUND", "tiny")
    assert (await refusal(rpc(request()))).reason == "INVALID_FIELD"
    assert not fake.loads


async def test_a_request_with_everything_reaches_the_engine(guided: Models, fake: FakeEngine) -> None:
    fake.preview = Preview(0, 2, b"rough")
    other = image_pb2.ImageSource(inline=draw(32, 2))
    request = wanted(
        model_id="guided",
        operation="inpaint",
        images=[PNG],
        mask=other,
        strength=0.5,
        controls=[messages.ControlInput(kind="edges", image=other, scale=0)],
        loras=[messages.LoraInput(lora_id="oil", scale=-1), messages.LoraInput(lora_id="ink")],
        previews=True,
        lane=messages.LANE_BATCH,
    )
    async with served(guided, fake) as running:
        answers = [answer async for answer in running.stub.Generate(request)]
        outpaint = wanted(model_id="guided", operation="outpaint", images=[PNG], margins=messages.Margins(top=8))
        async for _ in running.stub.Generate(outpaint):
            pass
        upscale = wanted(model_id="guided", operation="upscale", images=[PNG], prompt="", upscale_factor=3)
        async for _ in running.stub.Generate(upscale):
            pass
    [preview] = [answer.preview for answer in answers if answer.WhichOneof("event") == "preview"]
    assert (preview.image_index, preview.step, preview.data, preview.media_type) == (0, 2, b"rough", "image/jpeg")
    inpainted, outpainted, upscaled = fake.asked
    assert (inpainted.operation, inpainted.image, inpainted.mask) == ("inpaint", PNG.inline, other.inline)
    assert inpainted.controls == (ControlInput("edges", other.inline, 0.0),)
    assert inpainted.loras == (LoraUse("ink", 1.0), LoraUse("oil", -1.0))
    assert (inpainted.strength, inpainted.lane, inpainted.previews) == (0.5, Lane.BATCH, PREVIEWS)
    assert (outpainted.margins, outpainted.height, outpainted.lane) == (Margins(top=8), 40, Lane.INTERACTIVE)
    assert (upscaled.prompt, upscaled.width, upscaled.height, upscaled.previews) == ("", 96, 96, 0)


async def test_what_a_model_is_guided_by_is_listed(guided: Models, fake: FakeEngine) -> None:
    async with served(guided, fake) as running:
        [told] = (await running.stub.ListModels(messages.ListModelsRequest())).models
    assert (list(told.controls), list(told.loras)) == (["edges"], ["ink", "oil"])
    assert list(told.upscale_factors) == [2, 3, 4]
    assert set(told.capabilities) >= {"inpaint", "control", "upscale"}


async def test_images_up_to_the_contracts_size_arrive(guided: Models, fake: FakeEngine) -> None:
    large = image_pb2.ImageSource(inline=PNG.inline + bytes(20 * 1024 * 1024 - len(PNG.inline)))
    request = wanted(model_id="guided", operation="inpaint", images=[large], mask=large)
    async with served(guided, fake) as running:
        async for _ in running.stub.Generate(request):
            pass
        request.images[0].inline += b"0"
        assert (await refusal(running.stub.Generate(request))).reason == "INVALID_FIELD"
    assert len(fake.asked[0].image or b"") == 20 * 1024 * 1024


@pytest.mark.parametrize(("role", "lists"), [("caller", False), ("operator", True)])
async def test_only_the_mesh_draws(models: Models, fake: FakeEngine, role: str, lists: bool) -> None:
    async with served(models, fake) as running, grpc.aio.insecure_channel(running.target) as bare:
        stub: Any = InferenceServiceStub(bare)
        metadata = (("authorization", f"Bearer {role}"),)
        assert (await refusal(stub.Generate(wanted(), metadata=metadata))).reason == "ROLE_NOT_ALLOWED"
        listing = stub.ListModels(messages.ListModelsRequest(), metadata=metadata)
        if lists:
            assert len((await listing).models) == 2
        else:
            assert (await refusal(listing)).reason == "ROLE_NOT_ALLOWED"


async def test_health_tells_the_engine_and_each_model(models: Models, fake: FakeEngine) -> None:
    async with served(models, fake) as running:
        health: Any = health_pb2_grpc.HealthStub(running.channel)

        async def state(name: str) -> str:
            answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
            return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)

        names = ("liveness", "readiness", "model.tiny", "model.absent")
        assert [await state(name) for name in names] == ["SERVING", "SERVING", "SERVING", "NOT_SERVING"]
        fake.failure = EngineUnavailable("gone")

        async def unready() -> bool:
            return await state("readiness") == "NOT_SERVING"

        await eventually(unready)
        assert await state("liveness") == "SERVING"


@pytest.mark.parametrize("name", ["inprocess", "triton"])
async def test_cancelling_the_call_frees_the_engine(name: str, models: Models, request: pytest.FixtureRequest) -> None:
    engine = await build(name, models, request)
    async with served(models, engine) as running:
        await until_drawing(engine)
        stub = running.stub
        asked = messages.GetCapacityRequest(model_id="tiny")  # without it models count that a recent look saw ready
        call = stub.Generate(wanted(steps=150, width=128, height=128, count=8))
        while (await call.read()).progress.step != 2:  # leaving an `async for` early would cancel the call
            pass
        capacity = await stub.GetCapacity(asked)
        assert (capacity.running, capacity.engine) == (1, name)
        before = capacity.models[0].steps_done
        call.cancel()

        async def free() -> bool:
            return bool((await stub.GetCapacity(asked)).running == 0)

        await eventually(free)
        after = (await stub.GetCapacity(asked)).models[0].steps_done
        assert after - before < 8 * 20


@pytest.mark.parametrize("name", ["inprocess", "triton"])
async def test_many_at_once_over_one_connection(name: str, models: Models, request: pytest.FixtureRequest) -> None:
    engine = await build(name, models, request)
    async with served(models, engine) as running:
        await until_drawing(engine)
        stub = running.stub

        async def digest(seed: int) -> str:
            answers = [answer async for answer in stub.Generate(wanted(seed=seed, width=16, height=16))]
            assert answers[-1].summary.images[0].seed == seed
            return str(answers[-1].summary.images[0].sha256)

        digests = await asyncio.gather(*(digest(seed) for seed in range(6)))
        assert len(set(digests)) == 6
