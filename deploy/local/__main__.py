"""`python -m deploy.local up|down|status|doctor`: what `imagemesh up` runs; the only reader of the environment."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path

from deploy.local.engine import EngineError
from deploy.local.events import Event, Report, reporter
from deploy.local.home import Home, open_home
from deploy.local.inspection import Machine, diagnosis
from deploy.local.kept import StartError
from deploy.local.launcher import AlreadyUpError, Launcher, LauncherConfig, nats_places
from deploy.local.logfile import LogFile
from deploy.local.nats import NatsError
from deploy.local.orders import owner_gone, status_of, take_down


def main() -> None:
    """Exit status: 0 done, 1 failed or not up."""
    arguments = _parser().parse_args()
    home = open_home(Path(arguments.home))
    log_file = LogFile(home.logs, "launcher")
    log_file.trim()
    with os.fdopen(log_file.open(), "a", encoding="utf-8") as log:
        report = reporter([(sys.stdout, arguments.json), (log, True)])
        if arguments.order == "up":
            sys.exit(asyncio.run(_up(arguments, home, report)))
        if arguments.order == "down":
            sys.exit(take_down(home, report))
    machine = Machine(home, nats_places(home, os.environ.get("NATS_SERVER", "")))
    event = status_of(home) if arguments.order == "status" else diagnosis(machine)
    sys.stdout.write(event.line(arguments.json) + "\n")


async def _up(arguments: argparse.Namespace, home: Home, report: Report) -> int:
    config = LauncherConfig(
        home=home,
        environment=os.environ,
        report=report,
        engine=os.environ.get("IMAGEMESH_INFERENCE_ENGINE", ""),
        nats_server=os.environ.get("NATS_SERVER", ""),
    )
    launcher = Launcher(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, launcher.stop)
    if arguments.owner_gone != "ignore":
        owner_gone(loop, launcher.stop if arguments.owner_gone == "stop" else launcher.linger)
    try:
        await launcher.run()
    except (AlreadyUpError, NatsError, EngineError, StartError) as error:
        report(Event("failed", "", str(error)))
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deploy.local", description=__doc__)
    parser.add_argument("order", choices=("up", "down", "status", "doctor"))
    default = os.environ.get("IMAGEMESH_HOME") or "~/.local/share/imagemesh"
    parser.add_argument("--home", default=default, help="folder of the mesh")
    parser.add_argument("--json", action="store_true", help="one JSON document per line")
    text = "what to do when standard input ends: stop, linger until no job is unfinished, or ignore it"
    parser.add_argument("--owner-gone", choices=("stop", "linger", "ignore"), default="ignore", help=text)
    return parser


if __name__ == "__main__":
    main()
