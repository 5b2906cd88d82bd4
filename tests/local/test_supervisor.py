"""The launcher's promises about processes, on real ones."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.local.home import Home, read_json
from deploy.local.kept import StartError
from deploy.local.strays import find_strays, kill_strays
from tests.local.conftest import TINY, Stage


async def eventually(true: Callable[[], bool], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


async def test_starts_in_the_order_of_needs_and_stops_backwards(stage: Stage) -> None:
    supervisor = stage.supervisor(
        stage.process("first"), stage.process("second", after=("first",)), stage.process("third", after=("second",))
    )
    await supervisor.start()
    assert stage.seen("ready") == ["first", "second", "third"]
    await supervisor.stop()
    assert stage.seen("stopping") == ["third", "second", "first"]


async def test_stop_leaves_no_process(stage: Stage) -> None:
    supervisor = stage.supervisor(stage.process("a"), stage.process("b"))
    await supervisor.start()
    pids = [stage.pid("a"), stage.pid("b")]
    assert all(alive(pid) for pid in pids)
    await supervisor.stop()
    assert not any(alive(pid) for pid in pids)


async def test_stop_may_come_twice_and_before_start(stage: Stage) -> None:
    supervisor = stage.supervisor(stage.process("a"))
    await supervisor.stop()
    supervisor = stage.supervisor(stage.process("a"))
    await supervisor.start()
    await supervisor.stop()
    await supervisor.stop()


async def test_a_killed_process_is_started_again(stage: Stage) -> None:
    supervisor = stage.supervisor(stage.process("a"))
    await supervisor.start()
    first = stage.pid("a")
    (stage.home.run / "a").unlink()
    os.kill(first, signal.SIGKILL)
    await eventually(lambda: stage.seen("ready") == ["a", "a"])
    assert stage.pid("a") != first
    assert "killed by SIGKILL" in next(event.text for event in stage.events if event.kind == "ended")
    await supervisor.stop()


async def test_a_process_that_ends_while_running_is_started_again(stage: Stage, tmp_path: Path) -> None:
    supervisor = stage.supervisor(stage.process("a", "crash-once", str(tmp_path / "once")))
    await supervisor.start()
    await eventually(lambda: "a" in stage.seen("ended"))
    await eventually(lambda: stage.seen("ready")[-1:] == ["a"] and alive(stage.pid("a")))
    await supervisor.stop()


async def test_a_process_that_never_starts_fails_with_the_end_of_its_log(stage: Stage) -> None:
    supervisor = stage.supervisor(stage.process("good"), stage.process("bad", "crash"))
    with pytest.raises(StartError, match=r"(?s)bad did not become ready \(ended with status 7\).*this is why"):
        await supervisor.start()
    await supervisor.stop()
    assert not alive(stage.pid("good"))


async def test_a_deaf_process_is_killed_after_its_bound(stage: Stage) -> None:
    supervisor = stage.supervisor(stage.process("a", "deaf", stop=0.2))
    await supervisor.start()
    pid = stage.pid("a")
    began = time.monotonic()
    await supervisor.stop()
    assert time.monotonic() - began < 3
    assert not alive(pid)
    assert any("was killed" in event.text for event in stage.events)


async def test_hurry_kills_at_once(stage: Stage) -> None:
    supervisor = stage.supervisor(stage.process("a", "deaf", stop=60.0))
    await supervisor.start()
    stopping = asyncio.create_task(supervisor.stop())
    await eventually(lambda: "a" in stage.seen("stopping"))
    supervisor.hurry()
    async with asyncio.timeout(5):
        await stopping


async def test_children_of_children_do_not_stay(stage: Stage) -> None:
    supervisor = stage.supervisor(stage.process("a", "parent"))
    await supervisor.start()
    pids = [int(word) for word in (stage.home.run / "a").read_text().split()]
    assert len(pids) == 2
    await supervisor.stop()
    assert not any(alive(pid) for pid in pids)


async def test_stop_while_starting(stage: Stage) -> None:
    slow = stage.process("slow", "crash-once", "/dev/null")
    never = stage.process("never", after=("slow",))
    supervisor = stage.supervisor(slow, never)
    starting = asyncio.create_task(supervisor.start())
    await eventually(lambda: "slow" in stage.seen("starting"))
    async with asyncio.timeout(10):
        await supervisor.stop()
    starting.cancel()
    assert "never" not in stage.seen("starting")


async def test_state_is_told_to_status(stage: Stage) -> None:
    supervisor = stage.supervisor(stage.process("a"))
    await supervisor.start()
    state = stage.home.run / "state.json"

    def ready() -> bool:
        document = read_json(state) or {}
        return [(p["name"], p["state"]) for p in document.get("processes", [])] == [("a", "ready")]

    await eventually(ready)
    assert state.stat().st_mode & 0o777 == 0o600
    await supervisor.stop()
    assert not state.exists()


KILLED_LAUNCHER = """
import asyncio, sys
from pathlib import Path
from deploy.local.home import open_home
from tests.local.conftest import Stage

async def main():
    stage = Stage(open_home(Path(sys.argv[1])))
    await stage.supervisor(stage.process("a"), stage.process("b", "parent")).start()
    print("up", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_nothing_outlives_a_launcher_killed_by_force(home: Home) -> None:
    command = (sys.executable, "-c", KILLED_LAUNCHER, str(home.root))
    launcher = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, cwd=TINY.parents[2])
    assert launcher.stdout is not None
    assert (await launcher.stdout.readline()).strip() == b"up"
    children = [int((home.run / name).read_text().split()[0]) for name in ("a", "b")]
    orphan = int((home.run / "b").read_text().split()[1])
    launcher.kill()
    await launcher.wait()
    await eventually(lambda: not any(alive(pid) for pid in children))
    assert find_strays(home.root) == [orphan], "a child's own child is left to the sweep of the next start"
    assert kill_strays(home.root) == 1
    await eventually(lambda: not alive(orphan))
