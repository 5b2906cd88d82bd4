"""nats-server: found, refused when too old, installed, and really started."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from deploy.local.checks import NatsReady
from deploy.local.home import Home
from deploy.local.launcher import nats_places
from deploy.local.nats import NatsError, NatsPlaces, ensure_nats, find_nats, new_enough, version
from deploy.local.processes import Process
from deploy.local.supervisor import Supervisor, SupervisorConfig
from tests.local.conftest import other_ports


def fake(folder: Path, said: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    binary = folder / "nats-server"
    binary.write_text(f"#!/bin/sh\necho 'nats-server: {said}'\n")
    binary.chmod(0o700)
    return binary


@pytest.mark.parametrize(
    ("said", "numbers", "enough"),
    [
        ("v2.15.0", (2, 15, 0), True),
        ("v2.12.0", (2, 12, 0), True),
        ("v2.11.9", (2, 11, 9), False),
        ("v2.9.10", (2, 9, 10), False),
        ("v3.0.0", (3, 0, 0), True),
        ("nothing", None, False),
    ],
)
def test_version(tmp_path: Path, said: str, numbers: tuple[int, ...] | None, enough: bool) -> None:
    binary = fake(tmp_path, said)
    assert version(binary) == numbers
    assert new_enough(binary) is enough


def test_too_old_on_the_path_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = fake(tmp_path / "path", "v2.9.10")
    good = fake(tmp_path / "tools", "v2.13.1")
    monkeypatch.setenv("PATH", f"{old.parent}{os.pathsep}{os.environ['PATH']}")
    assert find_nats(NatsPlaces((tmp_path / "none", tmp_path / "tools"))) == good


def test_an_explicit_binary_is_taken_or_refused(tmp_path: Path) -> None:
    good, old = fake(tmp_path / "good", "v2.12.1"), fake(tmp_path / "old", "v2.10.0")
    assert find_nats(NatsPlaces((), str(good))) == good
    for wrong in (old, tmp_path / "missing"):
        with pytest.raises(NatsError, match=r"NATS_SERVER=.* is not nats-server 2\.12 or newer"):
            find_nats(NatsPlaces((), str(wrong)))


async def test_nats_server_runs_with_jetstream(home: Home) -> None:
    binary = await asyncio.to_thread(ensure_nats, nats_places(home, ""))
    port = other_ports().nats
    store = str(home.data / "nats")
    check = NatsReady(port)
    assert not await check.ready()
    command = (str(binary), "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", store)
    config = SupervisorConfig(home, dict(os.environ), lambda _: None, poll=0.02)
    supervisor = Supervisor([Process("nats-server", command, check, startup_seconds=20)], config)
    await supervisor.start()
    assert await check.ready()
    await supervisor.stop()
    assert not await check.ready()
