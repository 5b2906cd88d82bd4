"""The engine inside this process, for machines where no Triton runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

from mesh import telemetry
from services.inference.engine.errors import EngineError, EngineUnavailable, ModelNotLoaded
from services.inference.engine.facts import Fact, Finished
from services.inference.engine.host import HostConfig, LoadedModel, host_model
from services.inference.engine.manifest import Model
from services.inference.engine.request import DrawRequest
from services.inference.engines.base import Busy, State, Status
from services.inference.engines.turns import Turns
from services.inference.metering import Meter, to_telemetry
from services.inference.spans import record_stages

log = telemetry.logger(__name__)


class InProcessEngine:
    """One step scheduler per model, in threads of this process. Models load one after another in the background."""

    name = "inprocess"

    def __init__(
        self,
        config: HostConfig,
        models: Mapping[str, Model],
        unwanted: AbstractSet[str] = frozenset(),
        unload_seconds: float = 60.0,
    ) -> None:
        """`unwanted` models are not loaded at start. `unload_seconds`: what running drawings get at an unload."""
        self._config = config
        self._unload_seconds = unload_seconds
        self._at_start = [model for name, model in models.items() if model.has_weights and name not in unwanted]
        self._meters: dict[str, Meter] = {}
        self._hosted: dict[str, LoadedModel] = {}
        self._statuses = {model.manifest.id: Status(State.LOADING) for model in self._at_start}
        self._loader = ThreadPoolExecutor(1, "load")
        self._turns = Turns()

    async def start(self) -> None:
        """Begins to load."""
        for model in self._at_start:
            self._turns.begin(model.manifest.id, partial(self._load, model))

    async def stop(self) -> None:
        """Waits for the step in progress and ends everything with EngineUnavailable."""
        await self._turns.stop()
        hosted = list(self._hosted.values())
        self._hosted.clear()
        for model in hosted:
            await asyncio.to_thread(model.engine.stop)
        self._loader.shutdown(wait=False, cancel_futures=True)

    async def draw(self, request: DrawRequest) -> AsyncGenerator[Fact, None]:
        """See the port. The queue is bounded by the facts that one request can have."""
        facts: asyncio.Queue[Fact | EngineError] = asyncio.Queue(request.most_facts)
        engine = self._engine_of(request.model_id).engine
        work = engine.submit(request, self._bridge(request.model_id, facts))
        try:
            while True:
                fact = await facts.get()
                if isinstance(fact, EngineError):
                    raise fact
                yield fact
                if isinstance(fact, Finished):
                    return
        finally:
            engine.cancel(work)

    async def load(self, model: Model) -> None:
        """See the port."""
        await self._turns.take(model.manifest.id, partial(self._load, model))

    async def unload(self, model_id: str) -> None:
        """See the port."""
        await self._turns.take(model_id, partial(self._unload, model_id))

    async def busy(self, model_id: str) -> Busy:
        """See the port."""
        hosted = self._engine_of(model_id)
        return Busy(hosted.engine.load(), hosted.memory())

    async def statuses(self) -> dict[str, Status]:
        """See the port."""
        return dict(self._statuses)

    async def ready(self) -> None:
        """Raises while models load."""
        if any(status.state is State.LOADING for status in self._statuses.values()):
            raise EngineUnavailable("models are being loaded")

    def _engine_of(self, model_id: str) -> LoadedModel:
        hosted = self._hosted.get(model_id)
        if hosted is not None:
            return hosted
        status = self._statuses.get(model_id, Status(State.UNLOADED))
        if status.state is State.LOADING:
            raise EngineUnavailable(f"{model_id} is being loaded")
        raise ModelNotLoaded(status.error or f"{model_id} is not loaded")

    def _bridge(self, model_id: str, facts: asyncio.Queue[Fact | EngineError]) -> Callable[[Fact | EngineError], None]:
        """A sink for the engine's threads that fills `facts` in this loop and records spans at the end."""
        loop = asyncio.get_running_loop()
        place, meter = telemetry.current(), self._meters[model_id]

        def sink(fact: Fact | EngineError) -> None:
            if isinstance(fact, Finished | EngineError):
                record_stages("engine", fact, place)
                meter.ended(fact)
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(facts.put_nowait, fact)

        return sink

    async def _load(self, model: Model) -> None:
        name = model.manifest.id
        if name in self._hosted:
            return
        self._statuses[name] = Status(State.LOADING)
        meter = self._meters.setdefault(name, Meter(name, (to_telemetry,)))
        loop = asyncio.get_running_loop()
        try:
            self._hosted[name] = await loop.run_in_executor(self._loader, host_model, model, self._config, meter.passed)
        except ModelNotLoaded as error:
            self._statuses[name] = Status(State.FAILED, str(error))
            raise
        except BaseException:  # the service stops, or the machine has no memory left
            self._statuses[name] = Status(State.FAILED, "loading was broken off")
            raise
        self._statuses[name] = Status(State.READY)
        log.info("model loaded", model=name)

    async def _unload(self, model_id: str) -> None:
        hosted = self._hosted.pop(model_id, None)
        self._statuses[model_id] = Status(State.UNLOADED)
        if hosted is None:
            return
        await asyncio.to_thread(hosted.close, self._unload_seconds)
        log.info("model unloaded", model=model_id)
