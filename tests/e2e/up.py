"""`python -m tests.e2e.up HOME`: the launcher on free ports, so that meshes of parallel tests keep apart.

IMAGEMESH_TEST_OVERRIDES: variables of single processes by name, as JSON (`{"storage": {"IMAGEMESH_OBJECTS": "s3://b"}}`).
IMAGEMESH_TEST_WORKERS: how many router workers run, IMAGEMESH_TEST_STORAGES how many storage processes; one when unset.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from deploy.local.checks import GrpcReady
from deploy.local.events import reporter
from deploy.local.home import open_home
from deploy.local.launcher import Launcher, LauncherConfig
from deploy.local.orders import owner_gone
from deploy.local.ports import Ports, Reservations, choose_ports
from deploy.local.processes import Plan, Process, process_table

FREE = Ports(*[0] * len(vars(Ports())))
COUNTED = {"router-worker": "IMAGEMESH_TEST_WORKERS", "storage": "IMAGEMESH_TEST_STORAGES"}


def table(plan: Plan, counts: Mapping[str, int]) -> tuple[Process, ...]:
    """The process table with more of some processes: `router-worker-2`, …"""
    usual = process_table(plan)
    more = (another(process, number) for process in usual for number in range(2, counts.get(process.name, 1) + 1))
    return (*usual, *more)


def another(process: Process, number: int) -> Process:
    with Reservations() as reservations:
        ports = choose_ports(FREE, reservations)
    environment = {**process.environment, "IMAGEMESH_GRPC_PORT": str(ports.worker)}
    if "IMAGEMESH_HTTP_PORT" in environment:
        environment["IMAGEMESH_HTTP_PORT"] = str(ports.storage_http)
    name = f"{process.name}-{number}"
    return replace(process, name=name, environment=environment, check=GrpcReady(ports.worker))


async def main(root: Path) -> None:
    counts = {name: int(os.environ.get(variable, "1")) for name, variable in COUNTED.items()}
    config = LauncherConfig(
        home=open_home(root),
        environment=os.environ,
        report=reporter([(sys.stdout, True)]),
        engine=os.environ.get("IMAGEMESH_INFERENCE_ENGINE", ""),
        ports=FREE,
        table=lambda plan: table(plan, counts),
        overrides=json.loads(os.environ.get("IMAGEMESH_TEST_OVERRIDES", "{}")),
    )
    launcher = Launcher(config)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, launcher.stop)
    owner_gone(asyncio.get_running_loop(), launcher.stopping.set)
    await launcher.run()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
