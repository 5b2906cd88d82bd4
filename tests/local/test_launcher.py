"""`up` from lock to release, over a table of tiny processes."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from deploy.local import engine, triton
from deploy.local.engine import EngineError, choose_engine
from deploy.local.events import Event
from deploy.local.home import Home, HomeLock, write_private
from deploy.local.kept import StartError
from deploy.local.launcher import AlreadyUpError, Launcher, LauncherConfig
from deploy.local.orders import status_of, take_down
from deploy.local.ports import Ports
from deploy.local.processes import Engine, Plan, Process, Secrets, overridden, process_table, shared_environment
from tests.local.conftest import Stage, other_ports


def config(stage: Stage, *table: Process) -> LauncherConfig:
    """In process, so that nothing depends on what this machine has for Triton."""
    return LauncherConfig(stage.home, os.environ, stage.events.append, "inprocess", table=lambda _: table)


@asynccontextmanager
async def up(stage: Stage, *table: Process) -> AsyncIterator[Launcher]:
    stage.events.clear()
    launcher = Launcher(config(stage, *table))
    running = asyncio.create_task(launcher.run())
    await until(running, lambda: "up" in [event.kind for event in stage.events])
    yield launcher
    launcher.stop()
    await running


async def until(running: asyncio.Task[None], true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.wait({running}, timeout=0.01)
            if running.done():
                running.result()


async def test_endpoints_stand_while_the_mesh_is_up(stage: Stage) -> None:
    async with up(stage, stage.process("a")):
        endpoints = json.loads(stage.home.endpoints.read_text())
        assert stage.home.endpoints.stat().st_mode & 0o777 == 0o600
        assert endpoints["engine"] == "inprocess"
        assert endpoints["router"].startswith("127.0.0.1:")
        assert status_of(stage.home).kind == "up"
    assert not stage.home.endpoints.exists()
    assert status_of(stage.home).kind == "stopped"
    assert stage.events[-1].kind == "stopped"


async def test_a_new_development_key_is_told_once_and_never_written_to_a_log(stage: Stage) -> None:
    def told() -> list[object]:
        assert not any("im_secret" in event.line(as_json=True) for event in stage.events)
        return [event.details["new_development_key"] for event in stage.events if event.kind == "up"]

    writer = stage.process("router-api", "write", str(stage.home.development_key), "im_secret")
    async with up(stage, writer):
        assert told() == [True]
    async with up(stage, writer):
        assert told() == [False]


async def test_tritons_shared_memory_goes_with_the_mesh(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton, "SHARED_MEMORY", tmp_path)
    ours = tmp_path / f"{triton.shared_memory_prefix(stage.home.triton_work)}of-a-stub"
    others = tmp_path / f"{triton.shared_memory_prefix(tmp_path / 'other')}of-a-stub"
    others.touch()
    async with up(stage, stage.process("a")):
        ours.touch()
    assert (ours.exists(), others.exists()) == (False, True)
    ours.touch()  # of a launcher that was killed
    assert take_down(stage.home, stage.events.append) == 0
    assert (ours.exists(), others.exists()) == (False, True)


async def test_one_mesh_per_home(stage: Stage) -> None:
    async with up(stage, stage.process("a")):
        with pytest.raises(AlreadyUpError, match=f"launcher {os.getpid()}"):
            await Launcher(config(stage, stage.process("b"))).run()
        assert stage.home.endpoints.exists()


async def test_a_process_that_cannot_start_takes_the_mesh_down(stage: Stage) -> None:
    with pytest.raises(StartError, match="this is why"):
        await Launcher(config(stage, stage.process("a"), stage.process("b", "crash"))).run()
    assert not stage.home.endpoints.exists()
    assert HomeLock(stage.home).holder() is None


async def test_stop_while_starting(stage: Stage) -> None:
    launcher = Launcher(config(stage, stage.process("a"), stage.process("b", "silent")))
    running = asyncio.create_task(launcher.run())
    await until(running, lambda: "b" in stage.seen("starting"))
    launcher.stop()
    async with asyncio.timeout(20):
        await running
    assert "up" not in [event.kind for event in stage.events]


async def test_secrets_are_private_and_the_token_is_new_each_time(stage: Stage) -> None:
    tokens = []
    for _ in range(2):
        async with up(stage, stage.process("a")):
            tokens.append(stage.home.mesh_token.read_text())
    assert tokens[0] != tokens[1]
    for path in (stage.home.mesh_token, stage.home.signing_key):
        assert path.stat().st_mode & 0o777 == 0o600


async def test_a_lingering_mesh_stops_when_there_is_nothing_to_do(stage: Stage) -> None:
    """No router answers here, so there is no job to wait for."""
    async with up(stage, stage.process("a")) as launcher:
        stage.home.endpoints.unlink()
        launcher.linger()
        async with asyncio.timeout(5):
            await launcher.stopping.wait()


async def test_clients_settings_stay_with_the_client(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEMESH_API_KEY", "im_other")
    async with up(stage, stage.process("a")):
        environment = Path(f"/proc/{stage.pid('a')}/environ").read_bytes()
    assert b"im_other" not in environment
    assert f"IMAGEMESH_LAUNCHED_FROM={stage.home.root}".encode() in environment


@pytest.fixture
def plan(home: Home) -> Plan:
    return Plan(home, Ports(), Secrets("token", "key"), Path("/bin/nats-server"), "triton")


def test_the_table_names_every_process_of_the_mesh(plan: Plan) -> None:
    assert [process.name for process in process_table(plan)] == [
        "nats-server",
        "triton",
        "storage",
        "moderation",
        "router-api",
        "inference",
        "router-worker",
    ]


@pytest.mark.parametrize("kind", ["triton", "inprocess"])
def test_needs_come_before_those_who_have_them(home: Home, kind: Engine) -> None:
    table = process_table(Plan(home, Ports(), Secrets("t", "k"), Path("/n"), kind))
    seen: set[str] = set()
    for process in table:
        assert set(process.after) <= seen
        seen.add(process.name)
    assert ("triton" in seen) is (kind == "triton")


def test_every_service_listens_on_its_own_port(plan: Plan) -> None:
    ports = [process.environment.get("IMAGEMESH_GRPC_PORT") for process in process_table(plan)]
    own = [port for port in ports if port]
    assert len(own) == len(set(own)) == 5


def test_secrets_are_not_printed(plan: Plan) -> None:
    assert "token" not in repr(plan.secrets)
    assert shared_environment(plan)["IMAGEMESH_MESH_TOKEN"] == "token"
    assert not any("token" in word for process in process_table(plan) for word in process.command)


@pytest.mark.parametrize(
    ("wanted", "obstacle", "chosen", "words"),
    [
        ("inprocess", "anything", "inprocess", ""),
        ("", "", "triton", ""),
        ("triton", "", "triton", ""),
        ("", "no libpython", "inprocess", "Triton cannot run here (no libpython); the engine runs in process"),
    ],
)
def test_engine(wanted: str, obstacle: str, chosen: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "triton_obstacle", lambda: obstacle)
    choice = choose_engine(wanted)
    assert (choice.engine, choice.notice) == (chosen, words)


def test_an_engine_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "triton_obstacle", lambda: "no libpython")
    with pytest.raises(EngineError, match="no libpython"):
        choose_engine("triton")
    with pytest.raises(EngineError, match="triton or inprocess"):
        choose_engine("magic")


async def test_taken_ports_are_told(stage: Stage) -> None:
    wanted = other_ports()
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", wanted.router)
    launcher = Launcher(
        LauncherConfig(stage.home, os.environ, stage.events.append, "inprocess", "", wanted, lambda _: ())
    )
    running = asyncio.create_task(launcher.run())
    await until(running, lambda: "up" in [event.kind for event in stage.events])
    launcher.stop()
    await running
    server.close()
    await server.wait_closed()
    notices: list[Event] = [event for event in stage.events if event.kind == "notice"]
    assert any(f"port {wanted.router} (router) is taken; using" in event.text for event in notices)


def test_a_private_file_replaces_an_open_one(home: Home) -> None:
    home.development_key.write_text("old")
    home.development_key.chmod(0o644)
    write_private(home.development_key, "new")
    assert home.development_key.stat().st_mode & 0o777 == 0o600


def test_variables_of_single_processes_can_be_replaced(stage: Stage) -> None:
    one, other = stage.process("one"), stage.process("other")
    changed, same = overridden((one, other), {"one": {"IMAGEMESH_DATABASE_URL": "postgresql+asyncpg://db/one"}})
    assert changed.environment == {**one.environment, "IMAGEMESH_DATABASE_URL": "postgresql+asyncpg://db/one"}
    assert same == other
    with pytest.raises(ValueError, match="there is no process third"):
        overridden((one, other), {"third": {}})
