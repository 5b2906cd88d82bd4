"""Loads and unloads of models, one at a time for each model, owned by the engine and not by whoever asked."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

from mesh import telemetry
from services.inference.engine.errors import EngineError, EngineFull

MOST = 16  # turns of one model that run or wait

log = telemetry.logger(__name__)

Work = Callable[[], Awaitable[None]]


class Turns:
    """Work on models in order of asking. `stop` ends everything and may be called twice."""

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}
        self._counts: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    def __contains__(self, model_id: str) -> bool:
        """Whether something is being done to the model now."""
        return self._counts[model_id] > 0

    async def take(self, model_id: str, work: Work) -> None:
        """Does the work when its turn comes; raises what it raises. Canceling only stops the waiting.

        EngineFull when too many wait already.
        """
        await asyncio.shield(self._begin(model_id, work))

    def begin(self, model_id: str, work: Work) -> None:
        """Does the work without anybody waiting, unless something is being done to the model; a failure is logged."""
        if model_id not in self:
            self._begin(model_id, work)

    async def stop(self) -> None:
        """Ends everything."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, model_id: str, work: Work) -> asyncio.Task[None]:
        if self._counts[model_id] >= MOST:
            raise EngineFull(f"{MOST} loads and unloads of {model_id} are waiting already; try again later")
        self._counts[model_id] += 1
        task = asyncio.create_task(self._run(model_id, work), name=f"load or unload {model_id}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def _run(self, model_id: str, work: Work) -> None:
        try:
            async with self._locks.setdefault(model_id, asyncio.Lock()):
                await work()
        except EngineError as error:
            log.error("a model could not be loaded or unloaded", model=model_id, error=str(error))
            raise
        finally:
            self._counts[model_id] -= 1

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # it is logged, and told to whoever waits
