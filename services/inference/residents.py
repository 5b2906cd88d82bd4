"""Which models are in memory: what the engine says, what operators wish, and that the one follows the other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from mesh import telemetry
from services.inference.catalog import Models
from services.inference.engine.errors import EngineError, EngineUnavailable, ModelNotLoaded
from services.inference.engines.base import Engine, State, Status
from services.inference.errors import engine_errors
from services.inference.wishes import Wishes

FRESH_SECONDS = 0.5
KEEP_SECONDS = 1.0
UNWANTED = "unloaded by an operator; LoadModel brings it back"
ABSENT = Status(State.UNLOADED)

log = telemetry.logger(__name__)


class Residents:
    """Loads and unloads, and tells each model's state; one look at the engine serves everybody who asks at once."""

    def __init__(
        self, models: Models, engine: Engine, wishes: Wishes, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._models = models
        self._engine = engine
        self._wishes = wishes
        self._now = now
        self._looking = asyncio.Lock()
        self._seen: Mapping[str, Status] = {}
        self._seen_at = float("-inf")

    async def statuses(self) -> Mapping[str, Status]:
        """Every known model's state, at most half a second old. EngineUnavailable when the engine does not answer."""
        async with self._looking:
            if self._now() - self._seen_at > FRESH_SECONDS:
                told = await self._engine.statuses()
                self._seen = {name: self._status(name, told.get(name, ABSENT)) for name in self._models.by_id}
                self._seen_at = self._now()
            return self._seen

    async def check(self, model_id: str) -> None:
        """A health check: raises with the reason while the model cannot draw."""
        with engine_errors():
            status = (await self.statuses())[model_id]
            if status.state is not State.READY:
                raise EngineUnavailable(status.error or f"{model_id} is {status.state.value}")

    @asynccontextmanager
    async def explaining(self, model_id: str) -> AsyncIterator[None]:
        """Has ModelNotLoaded say why the model is not loaded, where that is known."""
        try:
            yield
        except ModelNotLoaded as error:
            if why := await self._why(model_id):
                raise ModelNotLoaded(why) from error
            raise

    async def load(self, model_id: str) -> Status:
        """Brings the model into memory; ModelUnknown, or ModelNotLoaded with what went wrong."""
        self._models.get(model_id)
        await asyncio.to_thread(self._wishes.load, model_id)
        if (await self._fresh(model_id)).state is not State.READY:
            refreshed = await asyncio.to_thread(self._models.refresh, model_id)
            await self._engine.load(refreshed.model)
        return await self._fresh(model_id)

    async def unload(self, model_id: str) -> Status:
        """Takes the model out of memory and keeps it out; ModelUnknown."""
        self._models.get(model_id)
        await asyncio.to_thread(self._wishes.unload, model_id)
        await self._engine.unload(model_id)
        return await self._fresh(model_id)

    async def keep(self) -> None:
        """For ever: unloads what nobody wants, such as after a restart of the engine."""
        while True:
            try:
                await self._keep_once()
            except EngineError as error:
                log.debug("the engine's models could not be looked at", error=str(error))
            await asyncio.sleep(KEEP_SECONDS)

    async def _keep_once(self) -> None:
        for name, status in (await self.statuses()).items():
            if name in self._wishes.unwanted and status.state is State.READY:
                log.info("unloading a model that nobody wants", model=name)
                await self._engine.unload(name)

    async def _why(self, model_id: str) -> str:
        try:
            return (await self.statuses())[model_id].error
        except EngineError:
            return ""

    async def _fresh(self, model_id: str) -> Status:
        self._seen_at = float("-inf")
        return (await self.statuses())[model_id]

    def _status(self, model_id: str, told: Status) -> Status:
        if told.state is not State.UNLOADED:
            return told
        if model_id in self._wishes.unwanted:
            return Status(State.UNLOADED, UNWANTED)
        model = self._models.get(model_id).model
        return told if model.has_weights else Status(State.UNLOADED, f"{model_id} has no weights: {model.missing}")
