"""`python -m services.storage`: reads the environment, builds the service, serves it, closes it in reverse."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

from mesh import process, telemetry
from mesh.auth import KEY_REVOKED, CachedKeys, RemoteKeyVerifier
from mesh.channel import ChannelConfig, check_connected, open_channel
from mesh.config import load
from mesh.db import DatabaseConfig, open_database
from mesh.events import Bus, BusConfig
from mesh.migrate import upgrade
from services.storage.assembly import Outside, Storage
from services.storage.config import StorageSettings
from services.storage.objects import open_objects
from services.storage.verdicts import IDEMPOTENT, ModerationVerdicts

MIGRATIONS = Path(__file__).parent / "migrations"


async def main(stopping: asyncio.Event) -> None:
    """One storage process, until `stopping` is set."""
    settings = load(StorageSettings)
    token = settings.mesh_token.get_secret_value()
    async with AsyncExitStack() as closing:
        closing.enter_context(telemetry.start(settings.telemetry("storage")))
        await upgrade(settings.database_url, MIGRATIONS)
        database = open_database(DatabaseConfig(settings.database_url))
        objects = open_objects(settings)
        router = open_channel(ChannelConfig(settings.router_target, mesh_token=token))
        moderation = open_channel(ChannelConfig(settings.moderation_target, mesh_token=token, idempotent=IDEMPOTENT))
        bus = Bus(BusConfig(settings.nats_url, "storage"))
        for close in (database.close, objects.close, router.close, moderation.close, bus.stop):
            closing.push_async_callback(close)

        keys = CachedKeys(RemoteKeyVerifier(router))
        checks = {
            "router": lambda: check_connected(router, "router"),
            "moderation": lambda: check_connected(moderation, "moderation"),
        }
        storage = Storage(settings, Outside(database, objects, ModerationVerdicts(moderation), keys, bus, checks))
        await bus.start()
        await bus.on_signal(KEY_REVOKED, keys.forget)
        await storage.start()
        closing.push_async_callback(storage.stop)
        await stopping.wait()


if __name__ == "__main__":
    process.run(main)
