"""`python -m services.router api | worker`: reads the environment, builds the role, serves it, closes it in reverse."""

from __future__ import annotations

import asyncio
import os
import sys

from mesh import process, telemetry
from mesh.config import load
from mesh.migrate import upgrade
from services.router.api_main import run_api
from services.router.catalog_file import CatalogError
from services.router.config import MIGRATIONS, ApiSettings, WorkerSettings
from services.router.providers import AccountError
from services.router.worker_main import run_worker


async def api(stopping: asyncio.Event) -> None:
    """One API process, until `stopping` is set."""
    settings = load(ApiSettings)
    with telemetry.start(settings.telemetry("router-api")):
        await upgrade(settings.database_url, MIGRATIONS)
        await run_api(settings, os.environ, stopping)


async def worker(stopping: asyncio.Event) -> None:
    """One worker process, until `stopping` is set."""
    settings = load(WorkerSettings)
    with telemetry.start(settings.telemetry("router-worker")):
        await upgrade(settings.database_url, MIGRATIONS)
        await run_worker(settings, stopping)


if __name__ == "__main__":
    roles = {"api": api, "worker": worker}
    if len(sys.argv) != 2 or sys.argv[1] not in roles:
        raise SystemExit("say which role: api or worker")
    try:
        process.run(roles[sys.argv[1]])
    except (AccountError, CatalogError) as error:
        raise SystemExit(str(error)) from None
