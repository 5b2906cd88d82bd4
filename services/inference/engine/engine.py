"""The step scheduler: running requests advance one denoising step at a time, together where their shapes allow.

One thread makes the steps. Reading prompts, decoding pictures and encoding previews run in a thread each beside it, so
that none stalls the others' steps. A request holds a slot from its encoding to its last picture; `admission` says who
gets one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

from services.inference.engine.admission import Admission, Limits
from services.inference.engine.errors import Canceled, EngineError, EngineFailed, EngineUnavailable
from services.inference.engine.facts import Finished, Load, Pass, Picture, Preview, Progress
from services.inference.engine.family import Family, Look, Prediction
from services.inference.engine.request import DrawRequest
from services.inference.engine.thumbnails import jpeg
from services.inference.engine.work import Phase, Sink, Work, batches


def never() -> bool:
    """For requests whose host has nothing to ask: they stop only by `cancel`."""
    return False


def nothing() -> None:
    """For engines whose threads need no preparation."""


def unobserved(_: Pass) -> None:
    """For engines that nobody measures."""


class StepEngine:
    """Draws requests with one loaded model. Starting twice raises; stopping twice, or before the start, is nothing."""

    def __init__(
        self,
        family: Family[Any],
        limits: Limits,
        prepare_thread: Callable[[], None] = nothing,
        now_ns: Callable[[], int] = time.time_ns,
        observe: Callable[[Pass], None] = unobserved,
    ) -> None:
        """`prepare_thread` is called first in each of the engine's threads, `observe` (quick) after each pass."""
        self._family = family
        self._limits = limits
        self._prepare_thread = prepare_thread
        self._now = now_ns
        self._observe = observe
        self._changed = threading.Condition()
        self._admission = Admission(limits)
        self._stopping = False
        self._steps_done = 0
        self._passes = 0
        self._rows_done = 0
        self._encoder = ThreadPoolExecutor(1, "encode", prepare_thread)
        self._decoder = ThreadPoolExecutor(1, "decode", prepare_thread)
        self._previewer = ThreadPoolExecutor(1, "preview", prepare_thread)
        self._thread = threading.Thread(target=self._run, name="steps", daemon=True)

    def start(self) -> None:
        """Begins to draw."""
        self._thread.start()

    def stop(self) -> None:
        """Ends every request with EngineUnavailable and waits for the step in progress."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()
        self._encoder.shutdown()
        self._decoder.shutdown()
        self._previewer.shutdown()
        for work in self._unfinished():
            work.end(EngineUnavailable("the engine is stopping"))

    def submit(self, request: DrawRequest, sink: Sink, asked_to_stop: Callable[[], bool] = never) -> Work:
        """Queues a request; EngineFull when too many wait.

        `sink` is called from the engine's threads with Progress and Picture facts and at last exactly one Finished or
        EngineError. `asked_to_stop` is polled before every step.
        """
        work = Work(request, sink, asked_to_stop, self._now(), self._limits.memory_of(request))
        with self._changed:
            if self._stopping:
                raise EngineUnavailable("the engine is stopping")
            self._admit()
            self._admission.offer(work)
            self._admit()
            self._changed.notify_all()
        return work

    def cancel(self, work: Work) -> None:
        """Stops a request before its next step and frees its slot."""
        work.cancel()
        self._wake()

    def cancel_named(self, request_id: str) -> None:
        """The same by the request's id; an unknown one has ended already."""
        for work in self._unfinished():
            if work.request.request_id == request_id:
                self.cancel(work)

    def load(self) -> Load:
        """How busy the engine is now."""
        with self._changed:
            works, promised = self._admission.works, self._admission.memory_promised
        waiting = sum(work.phase is Phase.WAITING for work in works)
        return Load(
            running=len(works) - waiting,
            waiting=waiting,
            slots=self._limits.slots,
            waiting_limit=self._limits.waiting,
            steps_done=self._steps_done,
            requests=tuple(work.request.request_id for work in works),
            passes=self._passes,
            rows_done=self._rows_done,
            memory_promised=promised,
            memory_limit=self._limits.memory,
        )

    def _unfinished(self) -> list[Work]:
        with self._changed:
            return self._admission.works

    def _wake(self) -> None:
        with self._changed:
            self._admit()
            self._changed.notify_all()

    def _run(self) -> None:
        self._prepare_thread()
        while stepping := self._next_round():
            for batch in batches(stepping, self._limits.rows):
                self._advance([work for work in batch if not self._dropped(work)])

    def _next_round(self) -> list[Work]:
        """The requests to advance; waits until there is one. Empty when the engine stops."""
        while True:
            self._sweep()
            with self._changed:
                if self._stopping:
                    return []
                self._admit()
                if stepping := self._admission.round():
                    return stepping
                self._changed.wait()

    def _sweep(self) -> None:
        """Ends what was canceled."""
        for work in self._unfinished():
            if work.phase in (Phase.WAITING, Phase.STEPPING):
                self._dropped(work)

    def _admit(self) -> None:
        """Forgets what has ended and begins to encode what has a slot now. Called with the lock held."""
        for work in [] if self._stopping else self._admission.start():
            if work.move(Phase.WAITING, Phase.ENCODING):
                self._encoder.submit(self._encode, work)

    def _dropped(self, work: Work) -> bool:
        with self._isolated(work):
            if work.phase is not Phase.ENDED and work.canceled:
                raise Canceled("the request was canceled")
        return work.phase is Phase.ENDED

    def _encode(self, work: Work) -> None:
        """Runs in the encoder's thread."""
        with self._isolated(work):
            work.end_stage("queue", self._now())
            if work.canceled:
                raise Canceled("the request was canceled")
            work.tell(Progress(0, work.request.steps))
            begun = time.perf_counter()
            work.sampling = self._family.begin(work.request)
            work.device_seconds += time.perf_counter() - begun
            work.end_stage("encode", self._now(), prompt_characters=len(work.request.prompt))
            work.move(Phase.ENCODING, Phase.STEPPING)
        self._wake()

    def _advance(self, batch: list[Work]) -> None:
        if not batch:
            return
        begun = time.perf_counter()
        predictions = self._predict(batch)
        seconds = time.perf_counter() - begun
        rows = sum(work.drawing.rows for work in batch)
        self._passes += 1
        self._rows_done += rows
        self._observe(Pass(len(batch), sum(work.request.count for work in batch), rows, seconds))
        for work, prediction in zip(batch, predictions, strict=True):
            work.shared_rows += rows
            work.device_seconds += seconds * work.drawing.rows / rows
            self._apply(work, prediction)

    def _predict(self, batch: list[Work]) -> list[Prediction | Exception]:
        """One pass for all; when it fails, one for each, so that a request's fault stays its own."""
        try:
            return self._family.predict([work.drawing for work in batch])
        except Exception as error:  # noqa: BLE001 - whatever a model throws stays with its request
            if len(batch) == 1:
                return [error]
        return [self._predict([work])[0] for work in batch]

    def _apply(self, work: Work, prediction: Prediction | Exception) -> None:
        with self._isolated(work):
            if isinstance(prediction, Exception):
                raise prediction
            self._family.advance(work.drawing, prediction)
            work.step += 1
            self._steps_done += work.request.count
            work.end_steps(self._now())
            work.tell(Progress(work.step, work.drawing.steps))
            if work.wants_preview:
                self._show(work)
            if work.step == work.drawing.steps:
                self._to_decoder(work)

    def _show(self, work: Work) -> None:
        """Takes a look at unfinished pictures; what costs time happens in the previewer's thread."""
        with suppress(Exception):  # a look that fails costs no picture
            looks = self._family.look(work.drawing)
            work.previewing = True
            self._previewer.submit(self._tell_previews, work, work.step, looks)

    def _tell_previews(self, work: Work, step: int, looks: list[Look]) -> None:
        """Runs in the previewer's thread. A caller who cannot be told is noticed by the next step."""
        with suppress(Exception):
            for index, look in enumerate(looks):
                work.tell(Preview(index, step, jpeg(look)))
        work.previewing = False

    def _to_decoder(self, work: Work) -> None:
        request = work.request
        work.end_stage(
            "denoise",
            self._now(),
            model=request.model_id,
            pictures=request.count,
            seed=request.seed,
            steps=work.step,
            mean_batch_rows=work.shared_rows / work.step,
        )
        if work.move(Phase.STEPPING, Phase.DECODING):
            self._decoder.submit(self._decode, work)

    def _decode(self, work: Work) -> None:
        """Runs in the decoder's thread."""
        with self._isolated(work):
            begun = time.perf_counter()
            for picture in self._pictures(work):
                work.tell(picture)
            work.device_seconds += time.perf_counter() - begun
            work.end_stage("decode", self._now(), pictures=work.request.count)
            work.end(Finished(work.step, work.device_seconds, tuple(work.stages)))
        self._wake()

    def _pictures(self, work: Work) -> Iterator[Picture]:
        request = work.request
        for index, seed in enumerate(request.seeds):
            if work.canceled:
                raise Canceled("the request was canceled")
            data = self._family.picture(work.drawing, index)
            yield Picture(index, seed, request.width, request.height, data)

    @contextmanager
    def _isolated(self, work: Work) -> Iterator[None]:
        """Whatever goes wrong inside ends this request and no other."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - the edge between a request and the engine's threads
            failure = error if isinstance(error, EngineError) else _failed(error)
            work.end_stage(work.phase.value, self._now())
            failure.stages = tuple(work.stages)
            work.end(failure)


def _failed(error: Exception) -> EngineFailed:
    failure = EngineFailed(f"the model failed while drawing: {type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure
