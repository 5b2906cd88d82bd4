"""`python -m tests.e2e.up HOME`: the launcher on free ports, so that meshes of parallel tests keep apart.

IMAGEMESH_TEST_OVERRIDES: variables of single processes by name, as JSON (`{"storage": {"IMAGEMESH_OBJECTS": "s3://b"}}`).
IMAGEMESH_TEST_WORKERS: how many router workers run; one when unset.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
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
WORKER = "router-worker"


def table(plan: Plan, workers: int) -> tuple[Process, ...]:
    """The process table with more workers: `router-worker-2`, …"""
    usual = process_table(plan)
    (worker,) = (process for process in usual if process.name == WORKER)
    return (*usual, *(another(worker, number) for number in range(2, workers + 1)))


def another(worker: Process, number: int) -> Process:
    with Reservations() as reservations:
        port = choose_ports(FREE, reservations).worker
    environment = {**worker.environment, "IMAGEMESH_GRPC_PORT": str(port)}
    return replace(worker, name=f"{WORKER}-{number}", environment=environment, check=GrpcReady(port))


async def main(root: Path) -> None:
    workers = int(os.environ.get("IMAGEMESH_TEST_WORKERS", "1"))
    config = LauncherConfig(
        home=open_home(root),
        environment=os.environ,
        report=reporter([(sys.stdout, True)]),
        engine=os.environ.get("IMAGEMESH_INFERENCE_ENGINE", ""),
        ports=FREE,
        table=lambda plan: table(plan, workers),
        overrides=json.loads(os.environ.get("IMAGEMESH_TEST_OVERRIDES", "{}")),
    )
    launcher = Launcher(config)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, launcher.stop)
    owner_gone(asyncio.get_running_loop(), launcher.stopping.set)
    await launcher.run()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
