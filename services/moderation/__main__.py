"""`python -m services.moderation`: reads the environment, builds the service, serves it, closes it in reverse."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from mesh import process, telemetry
from mesh.auth import KEY_REVOKED, CachedKeys, RemoteKeyVerifier
from mesh.channel import ChannelConfig, check_connected, open_channel
from mesh.config import load
from mesh.db import DatabaseConfig, open_database
from mesh.events import Bus, BusConfig
from mesh.migrate import upgrade
from services.moderation.assembly import Moderation, Outside, layers
from services.moderation.blocklist import SOURCE, BlocklistError, read_blocklist
from services.moderation.checkpoints import open_checkpoints
from services.moderation.classifiers import ClassifierError
from services.moderation.classifiers.sentence_encoder import EncoderFileError
from services.moderation.classifiers.sentence_heads import HeadsError
from services.moderation.config import ModerationSettings
from services.moderation.name_files import NameFileError, read_names
from services.moderation.peers.assets import IDEMPOTENT, StorageAssets
from services.moderation.plug_ins import PlugInFileError, read_plug_ins
from services.moderation.policy_files import PolicyFileError, load_policies

MIGRATIONS = Path(__file__).parent / "migrations"


async def main(stopping: asyncio.Event) -> None:
    """One moderation process, until `stopping` is set."""
    settings = load(ModerationSettings)
    token = settings.mesh_token.get_secret_value()
    try:
        plug_ins = read_plug_ins(settings.classifiers, os.environ) if settings.classifiers else ()
        book = load_policies(settings.policy, layers(settings, plug_ins), names=read_names(settings.names))
        blocked = read_blocklist(settings.blocklist) if settings.blocklist else []
    except (PlugInFileError, PolicyFileError, NameFileError, BlocklistError) as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from error
    async with AsyncExitStack() as closing:
        closing.enter_context(telemetry.start(settings.telemetry("moderation")))
        await upgrade(settings.database_url, MIGRATIONS)
        database = open_database(DatabaseConfig(settings.database_url))
        router = open_channel(ChannelConfig(settings.router_target, mesh_token=token))
        storage = open_channel(ChannelConfig(settings.storage_target, mesh_token=token, idempotent=IDEMPOTENT))
        bus = Bus(BusConfig(settings.nats_url, "moderation"))
        for close in (database.close, router.close, storage.close, bus.stop):
            closing.push_async_callback(close)

        keys = CachedKeys(RemoteKeyVerifier(router))
        peers = {"router": router, "storage": storage}
        checks = {name: (lambda n=name, c=channel: check_connected(c, n)) for name, channel in peers.items()}
        checkpoints = open_checkpoints(settings)
        if checkpoints is not None:
            closing.push_async_callback(checkpoints.close)
        outside = Outside(database, StorageAssets(storage), keys, bus, checks, checkpoints, plug_ins)
        try:
            moderation = Moderation(settings, outside, book)
        except (EncoderFileError, HeadsError) as error:
            sys.stderr.write(f"{error}\nIMAGEMESH_ENCODER= (empty) runs without the text classifier\n")
            raise SystemExit(2) from error
        except ClassifierError as error:
            sys.stderr.write(f"{error}\n")
            raise SystemExit(2) from error
        await moderation.store.block(blocked, SOURCE)
        await bus.start()
        await bus.on_signal(KEY_REVOKED, keys.forget)
        await moderation.start()
        closing.push_async_callback(moderation.stop)
        await stopping.wait()


if __name__ == "__main__":
    process.run(main)
