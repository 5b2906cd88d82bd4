"""The engine behind Triton: one shared connection, one stream per drawing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import tritonclient.grpc.aio as tritonclient

from mesh import telemetry
from services.inference.engine import codec
from services.inference.engine.errors import EngineError, EngineFailed, EngineUnavailable, ModelNotLoaded
from services.inference.engine.facts import Fact, Finished
from services.inference.engine.manifest import Model
from services.inference.engine.request import DrawRequest
from services.inference.engines.base import Busy, State, Status
from services.inference.engines.triton_errors import RefusedError, load_failure, translated
from services.inference.engines.triton_stream import Stream
from services.inference.engines.turns import Turns
from services.inference.triton_shim import protocol

POLL_SECONDS = 0.05
STATES = {"READY": State.READY, "LOADING": State.LOADING, "UNLOADING": State.UNLOADED}
CHANNEL_OPTIONS = [
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.max_receive_message_length", -1),
]


log = telemetry.logger(__name__)


@dataclass(frozen=True)
class TritonConfig:
    """target: Triton's gRPC address. call_seconds: deadline of short calls. draw_seconds: of a drawing, waiting
    included. silence_seconds: after so long without a fact Triton is asked whether it still knows the request.
    load_seconds: longest load of a model. unload_seconds: what running drawings get at an unload;
    gone_seconds: what Triton gets then to end the model's process."""

    target: str
    call_seconds: float = 5.0
    draw_seconds: float = 3600.0
    silence_seconds: float = 5.0
    load_seconds: float = 600.0
    unload_seconds: float = 60.0
    gone_seconds: float = 120.0


class TritonEngine:
    """Talks to the shim (`triton_shim`) of each model."""

    name = "triton"

    def __init__(self, config: TritonConfig) -> None:
        self._config = config
        self._connection: Any = None
        self._turns = Turns()
        self._leaving: set[asyncio.Task[None]] = set()  # streams that are being read to their ends
        self._unloading: set[str] = set()
        self._given_up: dict[str, asyncio.Future[None]] = {}  # set when the model's drawings are to end now

    async def start(self) -> None:
        """Opens the connection; Triton need not be there yet."""
        self._connection = tritonclient.InferenceServerClient(self._config.target, channel_args=CHANNEL_OPTIONS)

    async def stop(self) -> None:
        """Closes the connection; running drawings end with EngineUnavailable."""
        await self._turns.stop()
        while self._leaving:  # asking a model to stop a drawing opens a stream of its own
            await asyncio.gather(*self._leaving, return_exceptions=True)
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def draw(self, request: DrawRequest) -> AsyncGenerator[Fact, None]:
        """See the port."""
        if request.model_id in self._unloading:
            raise ModelNotLoaded(f"{request.model_id} is being unloaded")
        place = telemetry.current()
        parameters = {protocol.TRACEPARENT: place.traceparent, protocol.TRACESTATE: place.tracestate}
        with translated():
            stream = self._stream(request.model_id, protocol.DRAW, codec.encode_request(request), parameters)
            fact: Fact | None = None
            try:
                async for fact in self._facts(stream, request):
                    yield fact
            finally:
                self._leave(stream, None if isinstance(fact, Finished) else request)

    async def load(self, model: Model) -> None:
        """See the port."""
        await self._turns.take(model.manifest.id, partial(self._load, model))

    async def unload(self, model_id: str) -> None:
        """See the port."""
        await self._turns.take(model_id, partial(self._unload, model_id))

    async def busy(self, model_id: str) -> Busy:
        """See the port. A model that refuses this question has lost its stub, so it is reloaded."""
        try:
            with translated():
                return Busy(*codec.decode_load(await self._ask(model_id, protocol.LOAD)))
        except RefusedError:
            log.warning("model does not answer, reloading", model=model_id)
            self._turns.begin(model_id, partial(self._reload, model_id))
            raise

    async def statuses(self) -> dict[str, Status]:
        """See the port. Triton's READY is believed only of models that answer."""
        with translated():
            index = await self._client.get_model_repository_index(client_timeout=self._config.call_seconds)
        told = {model.name: _status(model.state, model.reason) for model in index.models}
        seen = await asyncio.gather(*(self._seen(name, status) for name, status in told.items()))
        return dict(zip(told, seen, strict=True))

    async def ready(self) -> None:
        """Asks Triton's own readiness."""
        with translated():
            if not await self._client.is_server_ready(client_timeout=self._config.call_seconds):
                raise EngineUnavailable("Triton is not ready")

    async def _ask(self, model_id: str, question: str, body: bytes = b"") -> bytes:
        """What the model answers to a short question."""
        stream = self._stream(model_id, question, body, {})
        try:
            async with asyncio.timeout(self._config.call_seconds):
                answer = await stream.read()
            header, _ = _parts(await self._checked(answer, model_id))
            return header
        finally:
            self._leave(stream)

    def _leave(self, stream: Stream, unfinished: DrawRequest | None = None) -> None:
        """Nobody listens to the stream any more; `unfinished` is to be stopped."""
        task = asyncio.create_task(self._end(stream, unfinished), name="end a stream of Triton")
        self._leaving.add(task)
        task.add_done_callback(self._left)

    async def _end(self, stream: Stream, unfinished: DrawRequest | None) -> None:
        if unfinished is not None:
            with suppress(EngineError), translated():  # then Triton hears it by the end of the stream
                await self._ask(unfinished.model_id, protocol.STOP, unfinished.request_id.encode())
        await stream.end(self._config.call_seconds)

    def _left(self, task: asyncio.Task[None]) -> None:
        self._leaving.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a stream of Triton could not be ended", error=repr(error))

    async def _seen(self, model_id: str, told: Status) -> Status:
        if model_id in self._turns:
            return Status(State.UNLOADED if model_id in self._unloading else State.LOADING)
        if told.state is not State.READY:
            return told
        try:
            await self.busy(model_id)
        except EngineError as error:
            return Status(State.FAILED, str(error))
        return told

    async def _load(self, model: Model) -> None:
        name = model.manifest.id
        try:
            with translated():
                await self._client.load_model(name, client_timeout=self._config.load_seconds)
        except EngineFailed as error:
            raise ModelNotLoaded(load_failure(str(error))) from error
        log.info("model loaded", model=name)

    async def _unload(self, model_id: str) -> None:
        self._unloading.add(model_id)
        try:
            with translated():
                await self._drain(model_id)
                await self._client.unload_model(model_id, client_timeout=self._config.call_seconds)
                await self._until_gone(model_id)
        finally:
            self._unloading.discard(model_id)
        log.info("model unloaded", model=model_id)

    async def _drain(self, model_id: str) -> None:
        """Triton itself would wait for running drawings as long as they take."""
        if not await self._idle(model_id, self._config.unload_seconds) and model_id in self._given_up:
            self._given_up.pop(model_id).set_result(None)
            await self._idle(model_id, self._config.call_seconds)

    async def _idle(self, model_id: str, seconds: float) -> bool:
        """Waits until nothing is drawn; False when something still is after so long."""
        ends = asyncio.get_running_loop().time() + seconds
        while True:
            try:
                load = (await self.busy(model_id)).load
            except EngineError:  # it is not loaded, or its stub is dead: there is nothing to wait for
                return True
            if not load.running and not load.waiting:
                return True
            if asyncio.get_running_loop().time() >= ends:
                return False
            await asyncio.sleep(POLL_SECONDS)

    async def _until_gone(self, model_id: str) -> None:
        async with asyncio.timeout(self._config.gone_seconds):
            while True:
                index = await self._client.get_model_repository_index(client_timeout=self._config.call_seconds)
                if not any(model.name == model_id and model.state in STATES for model in index.models):
                    return
                await asyncio.sleep(POLL_SECONDS)

    async def _reload(self, model_id: str) -> None:
        with translated():
            await self._client.unload_model(model_id, client_timeout=self._config.call_seconds)
            await self._client.load_model(model_id, client_timeout=self._config.load_seconds)

    @property
    def _client(self) -> Any:
        if self._connection is None:
            raise EngineUnavailable("the connection to Triton is closed")
        return self._connection

    def _stream(self, model_id: str, question: str, body: bytes, parameters: dict[str, str]) -> Stream:
        tensor = tritonclient.InferInput(protocol.REQUEST, [len(body)], "UINT8")
        tensor.set_data_from_numpy(np.frombuffer(body, dtype=np.uint8))
        told = {protocol.QUESTION: question, **{key: value for key, value in parameters.items() if value}}

        async def requests() -> AsyncIterator[dict[str, Any]]:
            yield {"model_name": model_id, "inputs": [tensor], "parameters": told}

        return Stream(self._client.stream_infer(requests(), stream_timeout=self._config.draw_seconds))

    async def _facts(self, stream: Stream, request: DrawRequest) -> AsyncIterator[Fact]:
        while True:
            result = await self._heard(stream, request)
            fact = codec.decode_fact(*_parts(result))
            if isinstance(fact, EngineError):
                raise fact
            yield fact
            if isinstance(fact, Finished):
                return

    async def _heard(self, stream: Stream, request: DrawRequest) -> Any:
        """The next result. A crashed stub leaves its streams open and silent, so silence makes us ask."""
        if request.model_id not in self._given_up:
            self._given_up[request.model_id] = asyncio.get_running_loop().create_future()
        given_up = self._given_up[request.model_id]
        while True:
            await asyncio.wait(
                {stream.coming, given_up}, timeout=self._config.silence_seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if stream.coming.done():
                return await self._checked(stream.take(), request.model_id)
            if given_up.done():
                raise EngineUnavailable(f"{request.model_id} was unloaded while it drew")
            busy = await self.busy(request.model_id)
            if not stream.coming.done() and request.request_id not in busy.load.requests:
                raise EngineUnavailable("Triton lost the request")

    async def _checked(self, answer: tuple[Any, Any] | None, model_id: str) -> Any:
        """The result; raises what it means that there is none."""
        if answer is None:
            raise EngineUnavailable("Triton ended the stream early")
        result, error = answer
        if error is None:
            return result
        if model_id in self._turns and model_id not in self._unloading:
            raise EngineUnavailable(f"{model_id} is being loaded")
        ready = await self._client.is_model_ready(model_id, client_timeout=self._config.call_seconds)
        kind = RefusedError if ready else ModelNotLoaded
        raise kind(f"Triton refused the request: {error.message()}")


def _parts(result: Any) -> tuple[bytes, bytes]:
    header, data = result.as_numpy(protocol.HEADER), result.as_numpy(protocol.DATA)
    return header.tobytes(), data.tobytes()


def _status(state: str, reason: str) -> Status:
    if state in STATES:
        return Status(STATES[state])
    return Status(State.FAILED, load_failure(reason)) if reason and reason != "unloaded" else Status(State.UNLOADED)
