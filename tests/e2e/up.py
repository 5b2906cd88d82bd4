"""`python -m tests.e2e.up HOME`: the launcher on free ports, so that meshes of parallel tests keep apart."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from deploy.local.events import reporter
from deploy.local.home import open_home
from deploy.local.launcher import Launcher, LauncherConfig
from deploy.local.orders import owner_gone
from deploy.local.ports import Ports


async def main(root: Path) -> None:
    home = open_home(root)
    config = LauncherConfig(
        home=home,
        environment=os.environ,
        report=reporter([(sys.stdout, True)]),
        engine=os.environ.get("IMAGEMESH_INFERENCE_ENGINE", ""),
        ports=Ports(*[0] * len(vars(Ports()))),
    )
    launcher = Launcher(config)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, launcher.stop)
    owner_gone(asyncio.get_running_loop(), launcher.stopping.set)
    await launcher.run()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
