"""What every engine promises, in process and behind Triton alike."""

from __future__ import annotations

import asyncio
import io
import shutil
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from services.inference.catalog import Models
from services.inference.engine.errors import EngineFull, EngineUnavailable, ModelNotLoaded, RequestRefused
from services.inference.engine.facts import Fact, Finished, Picture, Preview, Progress
from services.inference.engine.request import DrawRequest, LoraUse, Wanted
from services.inference.engines.base import Engine, State
from tests.inference.conftest import SLOTS, WAITING, eventually
from tests.inference.tiny_extras import FILE, load, write_lora

pytestmark = pytest.mark.timeout(180)
LONG: dict[str, Any] = {"steps": 150, "width": 128, "height": 128}


@pytest.fixture
def short(models: Models) -> DrawRequest:
    return models.settle(Wanted("tiny", "red star", request_id="short", seed=5), "")


def long(short: DrawRequest, name: str, **changes: Any) -> DrawRequest:
    return replace(short, request_id=name, **{**LONG, **changes})


async def draw(engine: Engine, request: DrawRequest) -> list[Fact]:
    async with aclosing(engine.draw(request)) as facts:
        return [fact async for fact in facts]


async def begin(engine: Engine, request: DrawRequest) -> asyncio.Task[list[Fact]]:
    """Draws in the background; returns once the first step is made."""
    stepped = asyncio.Event()

    async def run() -> list[Fact]:
        seen: list[Fact] = []
        async with aclosing(engine.draw(request)) as facts:
            async for fact in facts:
                seen.append(fact)
                if isinstance(fact, Progress) and fact.step >= 1:
                    stepped.set()
        return seen

    task = asyncio.create_task(run())
    await asyncio.wait_for(stepped.wait(), 60)
    return task


async def stop(*tasks: asyncio.Task[list[Fact]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def pictures(facts: list[Fact]) -> list[Picture]:
    return [fact for fact in facts if isinstance(fact, Picture)]


def pixels(picture: Picture) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(picture.data))).astype(int)


async def idle(engine: Engine) -> bool:
    load = (await engine.busy("tiny")).load
    return (load.running, load.waiting) == (0, 0)


async def test_progress_then_pictures_then_the_end(engine: Engine, short: DrawRequest) -> None:
    facts = await draw(engine, replace(short, count=2, seed=2**32 - 1))
    assert facts[:5] == [Progress(step, 4) for step in range(5)]
    assert [(p.index, p.seed, p.width, p.height) for p in pictures(facts)] == [(0, 2**32 - 1, 32, 32), (1, 0, 32, 32)]
    assert pixels(pictures(facts)[0]).shape == (32, 32, 3)
    assert isinstance(facts[-1], Finished)
    assert [stage.name for stage in facts[-1].stages] == ["queue", "encode", "denoise", "decode"]
    assert len(facts) == 8


async def test_the_same_seed_gives_the_same_bytes(engine: Engine, short: DrawRequest) -> None:
    first, second = [pictures(await draw(engine, short))[0].data for _ in range(2)]
    other = pictures(await draw(engine, replace(short, seed=6)))[0].data
    assert first == second != other


async def test_company_changes_no_pixel_by_more_than_2(engine: Engine, short: DrawRequest) -> None:
    alone = pixels(pictures(await draw(engine, replace(short, steps=20)))[0])
    mates = [replace(short, request_id=f"m{i}", seed=100 + i, steps=10 + 5 * i, guidance=1.0 + i) for i in range(3)]
    same, *_ = await asyncio.gather(*(draw(engine, request) for request in (replace(short, steps=20), *mates)))
    assert abs(pixels(pictures(same)[0]) - alone).max() <= 2


async def test_leaving_frees_the_engine(engine: Engine, short: DrawRequest) -> None:
    task = await begin(engine, long(short, "left", steps=150, count=4))
    assert (await engine.busy("tiny")).load.running == 1
    await stop(task)
    await eventually(lambda: idle(engine))
    assert (await engine.busy("tiny")).load.steps_done < 150 * 4 + 10_000
    assert isinstance((await draw(engine, short))[-1], Finished)


async def test_a_short_request_does_not_wait_behind_a_long_one(engine: Engine, short: DrawRequest) -> None:
    task = await begin(engine, long(short, "long"))
    assert isinstance((await draw(engine, short))[-1], Finished)
    assert not task.done()
    await stop(task)
    await eventually(lambda: idle(engine))


async def test_one_too_many_is_refused(engine: Engine, short: DrawRequest) -> None:
    tasks = [await begin(engine, long(short, f"running{i}")) for i in range(SLOTS)]
    waiting = [asyncio.create_task(draw(engine, replace(short, request_id=f"waiting{i}"))) for i in range(WAITING)]

    async def full() -> bool:
        load = (await engine.busy("tiny")).load
        return (load.running, load.waiting) == (SLOTS, WAITING)

    await eventually(full)
    with pytest.raises(EngineFull):
        await draw(engine, replace(short, request_id="one too many"))
    await stop(*tasks)
    assert all(isinstance(facts[-1], Finished) for facts in await asyncio.gather(*waiting))
    await eventually(lambda: idle(engine))


async def test_a_model_without_weights_is_known_and_not_loaded(engine: Engine, short: DrawRequest) -> None:
    statuses = await engine.statuses()
    assert statuses["tiny"].state is State.READY
    assert "absent" not in statuses or statuses["absent"].state is State.UNLOADED
    with pytest.raises(ModelNotLoaded):
        await draw(engine, replace(short, model_id="absent"))
    with pytest.raises(ModelNotLoaded):
        await engine.busy("absent")


async def test_it_answers(engine: Engine) -> None:
    await engine.ready()
    busy = await engine.busy("tiny")
    assert busy.memory.total > busy.memory.used > 0
    assert busy.load.slots == SLOTS


async def test_a_stopped_engine_says_so(engine: Engine, short: DrawRequest) -> None:
    await engine.stop()
    await engine.stop()
    with pytest.raises((EngineUnavailable, ModelNotLoaded)):
        await draw(engine, short)


async def test_images_masks_and_previews_travel(engine: Engine, models: Models, short: DrawRequest) -> None:
    source, mask = pictures(await draw(engine, short))[0].data, png(Image.new("L", (32, 32), 0))
    kept = Wanted("tiny", "red star", seed=5, operation="inpaint", image=source, mask=mask, steps=10, previews=2)
    facts = await draw(engine, models.settle(kept, ""))
    assert isinstance(facts[-1], Finished)
    looks = [fact for fact in facts if isinstance(fact, Preview)]
    assert looks
    assert all(look.media_type == "image/jpeg" and 0 < len(look.data) <= 64 * 1024 for look in looks)
    anew = Wanted("tiny", "red star", seed=6, operation="inpaint", image=source, mask=white(), steps=10)
    [same], [other] = pictures(facts), pictures(await draw(engine, models.settle(anew, "")))
    before = pixels(pictures(await draw(engine, short))[0])
    assert abs(pixels(same) - before).mean() < abs(pixels(other) - before).mean()


def white() -> bytes:
    return png(Image.new("L", (32, 32), 255))


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


async def test_loras_come_and_go_without_harm_to_what_is_drawn(
    engine: Engine, models: Models, models_folder: Path, tmp_path: Path, short: DrawRequest
) -> None:
    folder = models_folder / "tiny" / "loras"
    write_lora(tmp_path, load(models_folder / "tiny", "StableDiffusionPipeline"), seed=3)
    folder.mkdir()
    try:
        plain = pictures(await draw(engine, short))[0]
        (folder / "late.safetensors").write_bytes((tmp_path / FILE).read_bytes())
        (folder / "torn.safetensors").write_bytes((tmp_path / FILE).read_bytes()[:-1])
        models.get("tiny").look()
        assert models.get("tiny").loras == ("late",)
        adapted = models.settle(Wanted("tiny", "red star", seed=5, loras=(LoraUse("late"),)), "")
        assert abs(pixels(pictures(await draw(engine, adapted))[0]) - pixels(plain)).max() > 2
        with pytest.raises(RequestRefused, match="lora torn of tiny is broken"):
            await draw(engine, replace(short, loras=(LoraUse("torn"),)))
        running = await begin(engine, long(adapted, "running"))
        (folder / "late.safetensors").unlink()
        with pytest.raises(RequestRefused, match="lora late of tiny is not there"):
            await draw(engine, replace(adapted, request_id="too late"))
        assert len(pictures(await running)) == 1
        assert abs(pixels(pictures(await draw(engine, short))[0]) - pixels(plain)).max() == 0
    finally:
        shutil.rmtree(folder)
