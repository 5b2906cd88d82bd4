"""Brings a Triton model back whose stub process died: Triton itself leaves it READY and refuses every request."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from mesh import telemetry
from services.inference.engine.errors import EngineError

log = telemetry.logger(__name__)


class Reloader:
    """At most one reload per model at a time. `stop` cancels what runs and may be called twice."""

    def __init__(self, reload: Callable[[str], Awaitable[None]]) -> None:
        self._reload = reload
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def __contains__(self, model_id: str) -> bool:
        """Whether the model is being reloaded now."""
        return model_id in self._tasks

    def begin(self, model_id: str) -> None:
        """Starts a reload unless one runs. Its failure is logged; the next look at the model's state may try again."""
        if model_id not in self._tasks:
            self._tasks[model_id] = asyncio.create_task(self._run(model_id), name=f"reload {model_id}")

    async def stop(self) -> None:
        """Ends every reload."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, model_id: str) -> None:
        log.warning("model does not answer, reloading", model=model_id)
        try:
            await self._reload(model_id)
            log.info("model reloaded", model=model_id)
        except EngineError as error:
            log.error("model could not be reloaded", model=model_id, error=str(error))
        finally:
            del self._tasks[model_id]
