"""The engine inside this process, for machines where no Triton runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from mesh import telemetry
from mesh.process import Background
from services.inference.engine.errors import EngineError, EngineUnavailable, ModelNotLoaded
from services.inference.engine.facts import Fact, Finished
from services.inference.engine.host import HostConfig, LoadedModel, host_model
from services.inference.engine.manifest import Model
from services.inference.engine.request import DrawRequest
from services.inference.engines.base import Busy, State, Status
from services.inference.spans import record_stages

SPARE = 16  # facts of a request besides its steps and pictures; some schedulers add a step

log = telemetry.logger(__name__)


class InProcessEngine:
    """One step scheduler per model, in threads of this process. Models load one after another in the background."""

    name = "inprocess"

    def __init__(self, config: HostConfig, models: Mapping[str, Model]) -> None:
        self._config = config
        self._models = models
        self._hosted: dict[str, LoadedModel] = {}
        self._statuses = {name: _first_status(model) for name, model in models.items()}
        self._loader = ThreadPoolExecutor(1, "load")
        self._loading = Background("load-models", self._load_all)

    async def start(self) -> None:
        """Begins to load."""
        self._loading.start()

    async def stop(self) -> None:
        """Waits for the step in progress and ends everything with EngineUnavailable."""
        await self._loading.stop()
        hosted = list(self._hosted.values())
        self._hosted.clear()
        for model in hosted:
            await asyncio.to_thread(model.engine.stop)
        self._loader.shutdown(wait=False, cancel_futures=True)

    async def draw(self, request: DrawRequest) -> AsyncGenerator[Fact, None]:
        """See the port. The queue is bounded by the facts that one request can have."""
        facts: asyncio.Queue[Fact | EngineError] = asyncio.Queue(request.steps + request.count + SPARE)
        engine = self._engine_of(request.model_id).engine
        work = engine.submit(request, self._bridge(facts))
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

    def _bridge(self, facts: asyncio.Queue[Fact | EngineError]) -> Callable[[Fact | EngineError], None]:
        """A sink for the engine's threads that fills `facts` in this loop and records spans at the end."""
        loop = asyncio.get_running_loop()
        place = telemetry.current()

        def sink(fact: Fact | EngineError) -> None:
            if isinstance(fact, Finished | EngineError):
                record_stages("engine", fact, place)
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(facts.put_nowait, fact)

        return sink

    async def _load_all(self) -> None:
        for name, status in list(self._statuses.items()):
            if status.state is State.LOADING:
                self._statuses[name] = await self._load(name)

    async def _load(self, name: str) -> Status:
        loop = asyncio.get_running_loop()
        try:
            self._hosted[name] = await loop.run_in_executor(self._loader, host_model, self._models[name], self._config)
        except ModelNotLoaded as error:
            log.error("model failed to load", model=name, error=str(error))
            return Status(State.FAILED, str(error))
        log.info("model loaded", model=name)
        return Status(State.READY)


def _first_status(model: Model) -> Status:
    if model.has_weights:
        return Status(State.LOADING)
    return Status(State.UNLOADED, f"{model.manifest.id} has no weights in {model.weights_folder}")
