"""`python -m services.inference`: reads the environment, builds the service, serves it, closes it in reverse."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack

from mesh import process, telemetry
from mesh.auth import KEY_REVOKED, CachedKeys, RemoteKeyVerifier
from mesh.channel import ChannelConfig, check_connected, open_channel
from mesh.config import load
from mesh.events import Bus, BusConfig
from mesh.server import ServerConfig
from services.inference.assembly import MESSAGE_BYTES, Inference, Outside
from services.inference.catalog import Models
from services.inference.config import InferenceSettings
from services.inference.engine.manifest import ManifestError
from services.inference.engines import build_engine
from services.inference.wishes import Wishes


async def main(stopping: asyncio.Event) -> None:
    """One inference process, until `stopping` is set."""
    settings = load(InferenceSettings)
    token = settings.mesh_token.get_secret_value()
    async with AsyncExitStack() as closing:
        closing.enter_context(telemetry.start(settings.telemetry("inference")))
        models = await _models(settings)
        router = open_channel(ChannelConfig(settings.router_target, mesh_token=token))
        bus = Bus(BusConfig(settings.nats_url, "inference"))
        for close in (router.close, bus.stop):
            closing.push_async_callback(close)

        keys = CachedKeys(RemoteKeyVerifier(router))
        checks = {"router": lambda: check_connected(router, "router")}
        wishes = Wishes(settings.model_wishes)
        engine = build_engine(settings, models.by_id, wishes.unwanted)
        config = ServerConfig(settings.host, settings.grpc_port, settings.drain_seconds, MESSAGE_BYTES)
        inference = Inference(config, Outside(models, engine, keys, token, wishes, checks))
        await bus.start()
        await bus.on_signal(KEY_REVOKED, keys.forget)
        await inference.start()
        closing.push_async_callback(inference.stop)
        await stopping.wait()


async def _models(settings: InferenceSettings) -> Models:
    try:
        return await asyncio.to_thread(Models.read, settings.models)
    except ManifestError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from error


if __name__ == "__main__":
    process.run(main)
