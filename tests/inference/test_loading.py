"""Models come and go while the engine runs, in process and behind Triton alike; wishes outlive restarts."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from services.inference.catalog import Models
from services.inference.engine.errors import EngineFull, EngineUnavailable, ModelNotLoaded
from services.inference.engine.facts import Finished, Load, Memory
from services.inference.engine.manifest import Model, read_models
from services.inference.engine.request import DrawRequest, Wanted
from services.inference.engines.base import Busy, Engine, State, Status
from services.inference.engines.turns import MOST, Turns
from services.inference.residents import FRESH_SECONDS, Residents
from services.inference.wishes import Wishes, read_unwanted
from tests.inference.conftest import build, eventually, until_drawing
from tests.inference.test_engines import begin, draw, long, stop

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def short(models: Models) -> DrawRequest:
    return models.settle(Wanted("tiny", "red star", request_id="short", seed=5), "")


def impatient(test: Callable[..., Any]) -> Callable[..., Any]:
    """What runs at an unload gets half a second."""
    test.patience = 0.5  # type: ignore[attr-defined]
    return test


@pytest.fixture(params=["inprocess", "triton"])
async def passing(request: pytest.FixtureRequest, models: Models) -> AsyncIterator[Engine]:
    """An engine with `tiny`, which is there again afterwards: the Triton is everybody's."""
    patience = getattr(request.function, "patience", 30.0)
    engine = await build(request.param, models, request, unload_seconds=patience)
    await engine.start()
    await until_drawing(engine)
    yield engine
    await engine.load(models.get("tiny").model)
    await engine.stop()


async def state(engine: Engine, model_id: str = "tiny") -> State:
    return (await engine.statuses()).get(model_id, Status(State.UNLOADED)).state


async def test_unloaded_it_refuses_and_loaded_again_it_draws(
    passing: Engine, models: Models, short: DrawRequest
) -> None:
    await stop(await begin(passing, long(short, "left early")))
    drawing = await begin(passing, long(short, "in time", steps=20, width=32, height=32))
    await passing.unload("tiny")
    assert isinstance((await drawing)[-1], Finished)  # what ran could end
    assert await state(passing) is State.UNLOADED
    with pytest.raises(ModelNotLoaded):
        await draw(passing, short)
    await passing.unload("tiny")  # nothing to do
    model = models.get("tiny").model
    await asyncio.gather(passing.load(model), passing.load(model))
    assert await state(passing) is State.READY
    assert isinstance((await draw(passing, short))[-1], Finished)


@impatient
async def test_what_runs_too_long_is_ended(passing: Engine, short: DrawRequest) -> None:
    drawing = await begin(passing, long(short, "too long", count=8))
    await passing.unload("tiny")
    with pytest.raises((EngineUnavailable, ModelNotLoaded)):
        await drawing
    assert await state(passing) is State.UNLOADED


@pytest.mark.parametrize("name", ["inprocess", "triton"])
async def test_torn_weights_are_told_and_harm_no_other_model(
    name: str, models: Models, request: pytest.FixtureRequest, short: DrawRequest
) -> None:
    folder = models.get("absent").model.folder
    for part in models.get("tiny").model.folder.iterdir():
        if part.name != "model.yaml":
            (shutil.copytree if part.is_dir() else shutil.copy)(part, folder / part.name)
    weights = next((folder / "unet").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1000])
    engine = await build(name, models, request)
    await engine.start()
    try:
        await until_drawing(engine)
        with pytest.raises(ModelNotLoaded, match="absent could not be loaded") as caught:
            await engine.load(models.get("absent").model)
        assert "Traceback" not in str(caught.value)
        assert ".py" not in str(caught.value)
        status = (await engine.statuses())["absent"]
        assert (status.state, status.error) == (State.FAILED, str(caught.value))
        assert isinstance((await draw(engine, short))[-1], Finished)
    finally:
        for part in [*folder.iterdir()]:
            if part.name != "model.yaml":
                shutil.rmtree(part) if part.is_dir() else part.unlink()
        await engine.unload("absent")
        await engine.stop()


async def test_an_unwanted_model_is_not_loaded_at_start(models: Models) -> None:
    from services.inference.engine.host import HostConfig
    from services.inference.engines.inprocess import InProcessEngine

    engine = InProcessEngine(HostConfig(threads=1), models.by_id, frozenset({"tiny"}))
    await engine.start()
    await engine.ready()
    assert await state(engine) is State.UNLOADED
    await engine.stop()


async def test_turns_are_taken_one_after_another_and_outlive_who_asked() -> None:
    turns, gate, done = Turns(), asyncio.Event(), list[str]()

    async def work(name: str) -> None:
        await gate.wait()
        done.append(name)

    waiting = [asyncio.create_task(turns.take("m", partial(work, name))) for name in ("a", "b")]
    await asyncio.sleep(0)
    turns.begin("m", lambda: work("no turn"))
    waiting[0].cancel()
    await asyncio.gather(waiting[0], return_exceptions=True)
    assert "m" in turns
    gate.set()
    await waiting[1]
    assert done == ["a", "b"]
    assert "m" not in turns


async def test_turns_are_bounded_and_end_with_the_engine() -> None:
    turns = Turns()
    forever = [asyncio.create_task(turns.take("m", asyncio.Event().wait)) for _ in range(MOST)]  # type: ignore[arg-type]
    await asyncio.sleep(0)
    with pytest.raises(EngineFull):
        await turns.take("m", asyncio.Event().wait)  # type: ignore[arg-type]
    await turns.stop()
    await turns.stop()
    assert all(
        isinstance(end, asyncio.CancelledError) for end in await asyncio.gather(*forever, return_exceptions=True)
    )


def test_wishes_outlive_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "state" / "unloaded.json"
    wishes = Wishes(path)
    wishes.unload("b")
    wishes.unload("a")
    assert json.loads(path.read_text()) == ["a", "b"]
    Wishes(path).load("b")
    assert read_unwanted(path) == {"a"}


@pytest.mark.parametrize("content", ["", "{", "{}", '"a"'])
def test_a_broken_file_wishes_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "file").write_text(content)
    assert read_unwanted(tmp_path / "file") == frozenset()


class Forgetful:
    """An engine that loads everything when it is started again."""

    name = "forgetful"

    def __init__(self) -> None:
        self.told = {"tiny": Status(State.READY)}
        self.looks = 0
        self.gone: EngineUnavailable | None = None

    async def statuses(self) -> dict[str, Status]:
        self.looks += 1
        if self.gone is not None:
            raise self.gone
        return dict(self.told)

    async def unload(self, model_id: str) -> None:
        self.told[model_id] = Status(State.UNLOADED)

    async def load(self, model: Model) -> None:
        self.told[model.manifest.id] = Status(State.READY)

    async def busy(self, model_id: str) -> Busy:
        return Busy(Load(0, 0, 1, 1, 0), Memory("cpu", 1, 1))

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} is not asked here")


async def test_what_nobody_wants_is_unloaded_again_after_a_restart(models: Models) -> None:
    engine, now = Forgetful(), 0.0
    residents = Residents(models, engine, Wishes(), now=lambda: now)
    assert (await residents.unload("tiny")).error.startswith("unloaded by an operator")
    keeping = asyncio.create_task(residents.keep())
    engine.gone = EngineUnavailable("starting")
    now += 1
    engine.told, engine.gone = {"tiny": Status(State.READY)}, None
    await eventually(lambda: engine.told["tiny"].state is State.UNLOADED)
    assert (await residents.load("tiny")).state is State.READY
    keeping.cancel()


async def test_one_look_serves_everybody_for_a_moment(models: Models) -> None:
    engine, now = Forgetful(), 0.0
    residents = Residents(models, engine, Wishes(), now=lambda: now)
    await asyncio.gather(*(residents.check("tiny") for _ in range(9)))
    assert engine.looks == 1
    now += FRESH_SECONDS * 2
    await residents.statuses()
    assert engine.looks == 2


async def test_weights_that_changed_are_another_version(models_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(models_folder / "tiny", tmp_path / "tiny")
    models = Models(read_models(tmp_path))
    engine = Forgetful()
    residents = Residents(models, engine, Wishes())
    before = models.get("tiny").version
    await residents.unload("tiny")
    config = tmp_path / "tiny" / "unet" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "_note": "changed"}))
    await residents.load("tiny")
    assert models.get("tiny").version != before
    await residents.unload("tiny")
    (tmp_path / "tiny" / "model.yaml").write_text("id: tiny")
    with pytest.raises(ModelNotLoaded, match=r"model\.yaml"):
        await residents.load("tiny")
    assert replace(models.settle(Wanted("tiny", "a star"), ""), seed=1).steps == 4
    await stop()
