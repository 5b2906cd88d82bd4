"""One kill for each process, with real SIGKILL; the whole matrix is `make chaos`."""

from collections.abc import AsyncIterator

import pytest

from tests.chaos.crashes import OWN, Scene, scene
from tests.e2e.stubs import MODEL

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(400), pytest.mark.asyncio(loop_scope="module")]


@pytest.fixture(scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    async with scene(tmp_path_factory.mktemp("chaos")) as stage:
        yield stage


@pytest.mark.parametrize("model", [OWN, MODEL])
@pytest.mark.parametrize(
    "process", ["router-worker", "router-api", "moderation", "storage", "inference", "triton", "nats-server"]
)
async def test_killing_a_process_breaks_no_promise(stage: Scene, process: str, model: str) -> None:
    if process not in stage.mesh.processes():
        pytest.skip("the engine runs in process here")
    crashed = await stage.kill_during_jobs(process, model, jobs=10)
    assert not crashed.broken_promises()


@pytest.mark.parametrize("gently", [True, False])
@pytest.mark.parametrize("process", ["inference", "triton"])
async def test_restarting_the_engine_at_work_breaks_no_promise(stage: Scene, process: str, gently: bool) -> None:
    if process not in stage.mesh.processes():
        pytest.skip("the engine runs in process here")
    crashed = await stage.restart_while_drawing(process, jobs=6, gently=gently)
    assert not crashed.broken_promises()
    assert gently or crashed.retried


@pytest.mark.parametrize(
    "point", ["after:bring_inputs", "before:attempt", "after:attempt", "before:publish", "before:end"]
)
async def test_killing_the_worker_at_a_step_breaks_no_promise(stage: Scene, point: str) -> None:
    crashed = await stage.kill_worker_at(point, MODEL, jobs=3)
    assert not crashed.broken_promises()


async def test_losing_all_of_jetstream_loses_no_job(stage: Scene) -> None:
    crashed = await stage.lose_jetstream(jobs=20)
    assert not crashed.broken_promises()
