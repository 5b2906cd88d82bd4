"""The engine of one model inside Triton's stub process: questions in, encoded facts out, spans on the side."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from mesh import telemetry
from services.inference.engine import codec
from services.inference.engine.errors import EngineError
from services.inference.engine.facts import Fact, Finished
from services.inference.engine.host import HostConfig, host_model
from services.inference.engine.manifest import read_model
from services.inference.metering import Counts, Meter, to_telemetry
from services.inference.spans import record_stages
from services.inference.triton_shim import protocol

Send = Callable[[bytes, bytes, bool], None]

ASK_SECONDS = 0.25


@dataclass(frozen=True)
class SessionConfig:
    """The model's folder, where its spans go, and the engine's limits."""

    folder: Path
    telemetry: str = ""
    otlp_endpoint: str = ""
    slots: int = 8
    waiting: int = 64
    threads: int = 2


class Session:
    """A loaded model that answers through a `send(header, data, last)` callback."""

    def __init__(self, config: SessionConfig) -> None:
        directory = Path(config.telemetry) if config.telemetry else None
        self._telemetry = telemetry.start(telemetry.TelemetryConfig("triton", directory, config.otlp_endpoint))
        host = HostConfig(slots=config.slots, waiting=config.waiting, threads=config.threads)
        model = read_model(config.folder)
        self.counts = Counts()
        self._meter = Meter(model.manifest.id, (to_telemetry, self.counts))
        self._telling = ThreadPoolExecutor(1, "tell")  # what crosses processes holds up no step
        self._hosted = host_model(model, host, self._meter.passed)

    def answer(self, body: bytes, parameters: Mapping[str, str], send: Send, asked_to_stop: Callable[[], bool]) -> None:
        """Answers one request; returns before a drawing is done."""
        question = parameters.get(protocol.QUESTION)
        if question == protocol.LOAD:
            send(codec.encode_load(self._hosted.engine.load(), self._hosted.memory()), b"", True)
        elif question == protocol.STOP:
            self._hosted.engine.cancel_named(body.decode())
            send(b"{}", b"", True)
        else:
            self._draw(body, parameters, send, asked_to_stop)

    def close(self) -> None:
        """Ends every request and flushes the spans."""
        self._hosted.engine.stop()
        self._telling.shutdown()
        self._telemetry.close()

    def _draw(self, body: bytes, parameters: Mapping[str, str], send: Send, asked_to_stop: Callable[[], bool]) -> None:
        place = telemetry.TraceContext(
            parameters.get(protocol.TRACEPARENT, ""), parameters.get(protocol.TRACESTATE, "")
        )
        try:
            self._hosted.engine.submit(codec.decode_request(body), self._sink(send, place), at_times(asked_to_stop))
        except EngineError as error:
            send(*codec.encode_fact(error), True)

    def _sink(self, send: Send, place: telemetry.TraceContext) -> Callable[[Fact | EngineError], None]:
        unheard: list[Exception] = []

        def tell(fact: Fact | EngineError, last: bool) -> None:
            try:
                send(*codec.encode_fact(fact), last)
            except Exception as error:  # noqa: BLE001 - the engine hears of it when it has something to tell again
                unheard.append(error)

        def sink(fact: Fact | EngineError) -> None:
            if isinstance(fact, Finished | EngineError):
                record_stages("triton", fact, place)
                self._meter.ended(fact)
            if unheard:
                raise unheard[0]
            self._telling.submit(tell, fact, isinstance(fact, Finished | EngineError))

        return sink


def at_times(asked_to_stop: Callable[[], bool], now: Callable[[], float] = time.monotonic) -> Callable[[], bool]:
    """Asks at most every quarter of a second: each time crosses processes, and who leaves says so (`protocol.STOP`).

    Only of a caller that died Triton alone knows.
    """
    asked_at = now()

    def ask() -> bool:
        nonlocal asked_at
        if now() - asked_at < ASK_SECONDS:
            return False
        asked_at = now()
        return asked_to_stop()

    return ask
